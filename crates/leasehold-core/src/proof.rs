//! What may one day prove this process dead: a supervisor, a lock file. Both know each session before it joins.

use std::path::Path;
#[cfg(unix)]
use std::sync::Arc;

use crate::error::Error;
use crate::name::{ClusterName, NodeId};
use crate::protocol::SessionId;
#[cfg(unix)]
use crate::supervise::{LockFile, Reach, heralds::Heralds};

/// Those who hear of sessions, and the sessions of processes that are proven dead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proof {
    #[cfg(unix)]
    heralds: Option<Arc<Heralds>>,
    /// Of whoever held the lock file before.
    pub(crate) dead: Vec<SessionId>,
}

impl Proof {
    /// # Errors
    /// [`Error::Unproven`] when the supervisor or the lock file does not take this process.
    #[cfg(unix)]
    pub(crate) async fn gather(
        reach: String,
        cluster: &ClusterName,
        node: &NodeId,
        lock_file: Option<&Path>,
    ) -> Result<Self, Error> {
        let taken = lock_file.map(|path| LockFile::take(path, cluster)).transpose()?;
        let (lock, dead) = taken.unzip();
        let heralds = Heralds::gather(Reach(reach), cluster.clone(), node.clone(), lock).await?;
        Ok(Self { heralds, dead: dead.unwrap_or_default() })
    }

    /// # Errors
    /// [`Error::Unproven`]: this system knows no lock that dies with its owner.
    #[cfg(not(unix))]
    pub(crate) async fn gather(
        _: String,
        _: &ClusterName,
        _: &NodeId,
        lock_file: Option<&Path>,
    ) -> Result<Self, Error> {
        match lock_file {
            None => Ok(Self::default()),
            Some(_) => Err(Error::Unproven("lock files need a Unix system: leave lock_file out".to_owned())),
        }
    }

    /// Tells of a session that is about to join.
    pub(crate) async fn announce(&self, session: SessionId) {
        #[cfg(unix)]
        if let Some(heralds) = &self.heralds {
            Arc::clone(heralds).announce(session).await;
        }
        #[cfg(not(unix))]
        let _ = session;
    }

    /// There is a keeper from now on; before, a start that fails lets a lock go.
    pub(crate) fn keep(&self) {
        #[cfg(unix)]
        if let Some(heralds) = &self.heralds {
            heralds.keep();
        }
    }

    /// The node has left: nothing runs here any more.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Some(heralds) = &self.heralds {
            heralds.release();
        }
    }
}
