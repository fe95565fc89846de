//! What can go wrong while polling.

use leasehold_core::LeaseLost;
use leasehold_core::store::StoreError;

/// Why a poll, or what follows it, failed. Its text names what was polled and the remedy, and nothing that an item holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What is polled cannot be reached at present, or did not answer in time.
    #[error("{place}: {problem}")]
    Unreachable {
        /// What is polled.
        place: String,
        /// What happened.
        problem: String,
        /// Not polled again before, if the other side says so.
        after: Option<std::time::Duration>,
    },
    /// What is polled is not what it should be: somebody has to mend it.
    #[error("{place}: {problem}")]
    Refused {
        /// What is polled.
        place: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// An error of leasehold's database, or the lease is lost.
    #[error(transparent)]
    Core(#[from] leasehold_core::Error),
}

impl Error {
    /// What is polled cannot be reached at present.
    pub fn unreachable(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Unreachable { place: place.into(), problem: problem.into(), after: None }
    }

    /// Somebody has to mend it.
    pub fn refused(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Refused { place: place.into(), problem: problem.into() }
    }

    /// Whether time alone may heal it.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { .. } => false,
            Self::Core(error) => error.is_temporary(),
        }
    }

    /// How long the other side wants to be left alone, if it says so.
    pub(crate) fn after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Unreachable { after, .. } => *after,
            _ => None,
        }
    }

    /// Whether the lease is lost, so that nothing may follow.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Core(leasehold_core::Error::Lost(_) | leasehold_core::Error::Left))
    }
}

impl From<LeaseLost> for Error {
    fn from(lost: LeaseLost) -> Self {
        Self::Core(lost.into())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Core(error.into())
    }
}
