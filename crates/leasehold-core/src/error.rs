//! What can go wrong for whoever uses a node.

use std::fmt;
use std::time::Duration;

use crate::name::{ArtifactName, ClusterName, NameError};
use crate::protocol::action::{Refusal, Revocation};
use crate::store::StoreError;
use crate::timing::TimingError;

/// Why an operation of a node or a lease failed. Messages name the artifact, the value and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name breaks the rule for names.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Timings that cannot work together.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The database refused, failed or cannot carry leases.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster does not take this node.
    #[error("cluster {cluster:?}: {refusal}")]
    Refused {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// The configuration of an artifact cannot work.
    #[error("artifact {artifact:?}: {problem}")]
    Artifact {
        /// The artifact.
        artifact: String,
        /// The field, its value and the remedy.
        problem: String,
    },
    /// The state of the cluster forbids it; nothing was changed.
    #[error("{operation}: {problem}")]
    Forbidden {
        /// What was asked for.
        operation: &'static str,
        /// Why not, and the remedy.
        problem: String,
    },
    /// The lease is lost; what was begun under it was not committed.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    /// The node did not get a session within the time that it may take.
    #[error("cluster {cluster:?}: no session after {waited:?}; the last error was: {last}")]
    NotJoined {
        /// The cluster.
        cluster: ClusterName,
        /// How long it tried.
        waited: Duration,
        /// The last error.
        last: String,
    },
    /// The node has left its cluster.
    #[error("the node has left its cluster")]
    Left,
    /// Whoever could prove this process dead does not take it: its supervisor, or the lock file that another process holds.
    #[error("{0}")]
    Unproven(String),
    /// The machine refused something that the node needs, such as a thread.
    #[error("{operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether time alone may heal it.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Store(error) => error.is_temporary(),
            Self::Refused { .. } | Self::NotJoined { .. } => true,
            _ => false,
        }
    }

    /// An artifact whose configuration cannot work.
    pub fn artifact(artifact: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Artifact { artifact: artifact.into(), problem: problem.into() }
    }
}

/// A lease that is no longer valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease on artifact {artifact:?} is lost: {}", .why.map_or("its run has ended".to_owned(), |why| why.to_string()))]
pub struct LeaseLost {
    /// The artifact.
    pub artifact: ArtifactName,
    /// Why, as far as this node knows.
    pub why: Option<Revocation>,
}

/// An error with its causes, for people.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
