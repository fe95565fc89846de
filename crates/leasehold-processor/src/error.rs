//! What can go wrong with message stores.

use leasehold_core::store::StoreError;

/// An error of a message store. Its text names the store, what was being done and the remedy, and nothing that a message
/// holds.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be done, whatever the database says.
    #[error("store {store:?}: {problem}")]
    Invalid {
        /// The store.
        store: String,
        /// The field, its value and the remedy.
        problem: String,
    },
    /// An error of the database.
    #[error("store {store:?}: {source}")]
    Database {
        /// The store.
        store: String,
        /// What the database said.
        source: StoreError,
    },
    /// The lease is lost, or the node has left: nothing was written.
    #[error("store {store:?}: {source}")]
    Core {
        /// The store.
        store: String,
        /// What leasehold said.
        source: std::sync::Arc<leasehold_core::Error>,
    },
}

impl Error {
    pub(crate) fn invalid(store: &str, problem: impl Into<String>) -> Self {
        Self::Invalid { store: store.to_owned(), problem: problem.into() }
    }

    pub(crate) fn core(store: &str, error: leasehold_core::Error) -> Self {
        match error {
            leasehold_core::Error::Store(source) => Self::Database { store: store.to_owned(), source },
            other => Self::Core { store: store.to_owned(), source: std::sync::Arc::new(other) },
        }
    }

    /// Whether time alone may heal it.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Invalid { .. } => false,
            Self::Database { source, .. } => source.is_temporary(),
            Self::Core { source, .. } => source.is_temporary(),
        }
    }
}
