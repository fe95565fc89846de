//! The child's side: tells those who may one day have to prove this process dead which session it is about to join with.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lock::LockFile;
use super::wire::{Announcement, Reach, Reply, SUPERVISOR, Said};
use crate::error::Error;
use crate::name::{ClusterName, NodeId};
use crate::protocol::SessionId;

/// A parent that does not answer for so long is stopped, or gone: the node joins all the same.
const ANSWER: Duration = Duration::from_secs(1);

/// Whoever hears of sessions before they join.
#[derive(Debug)]
pub(crate) struct Heralds {
    reach: Reach,
    cluster: ClusterName,
    node: NodeId,
    supervisor: Mutex<Option<UnixStream>>,
    /// Once there is a keeper, let go only by [`release`](Heralds::release): were it dropped while a panic unwinds, another
    /// process could take the lock, and this one for dead, while its leases are valid.
    lock: Mutex<Option<LockFile>>,
    /// There is a keeper.
    kept: AtomicBool,
}

impl Drop for Heralds {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Acquire) {
            std::mem::forget(guard(&self.lock).take());
        }
    }
}

impl Heralds {
    /// The supervisor that the environment names, and a lock file; none if there is neither.
    ///
    /// # Errors
    /// [`Error::Unproven`] when the supervisor does not take this process for its child.
    pub(crate) async fn gather(
        reach: Reach,
        cluster: ClusterName,
        node: NodeId,
        lock: Option<LockFile>,
    ) -> Result<Option<Arc<Self>>, Error> {
        let named = std::env::var_os(SUPERVISOR).filter(|path| !path.is_empty()).map(PathBuf::from);
        let supervisor = match named {
            Some(path) => greet(path).await?,
            None => None,
        };
        if supervisor.is_none() && lock.is_none() {
            return Ok(None);
        }
        let (supervisor, lock, kept) = (Mutex::new(supervisor), Mutex::new(lock), AtomicBool::new(false));
        Ok(Some(Arc::new(Self { reach, cluster, node, supervisor, lock, kept })))
    }

    /// There is a keeper from now on; before, a start that fails lets the lock go.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    /// Tells of a session that is about to join. If nobody hears it the node joins all the same, and its ttl applies.
    pub(crate) async fn announce(self: Arc<Self>, session: SessionId) {
        // Sockets and files that block, if only for a moment, are nothing for the keeper's thread.
        let told = tokio::task::spawn_blocking(move || {
            if let Some(lock) = guard(&self.lock).as_mut()
                && let Err(error) = lock.note(&self.cluster, session)
            {
                tracing::warn!(%error, "the lock file takes no session: a restart waits out the ttl");
            }
            self.tell_supervisor(session);
        });
        // It does not panic, and is not cancelled.
        let _ = told.await;
    }

    fn tell_supervisor(&self, session: SessionId) {
        let mut supervisor = guard(&self.supervisor);
        let Some(stream) = supervisor.as_mut() else { return };
        let announcement = Announcement {
            database: self.reach.clone(),
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            session,
        };
        let problem = match exchange(stream, &Said::Session(announcement)) {
            Ok(Reply::Taken {}) => return,
            Ok(Reply::Refused(why)) => why,
            Err(error) => error.to_string(),
        };
        tracing::warn!(problem, "this process is not supervised any more: its death is known by its ttl");
        *supervisor = None;
    }

    /// The node has left: nothing runs here any more.
    pub(crate) fn release(&self) {
        drop(guard(&self.lock).take());
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A stream and a file have no invariant that a panic could break.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects to the supervisor. One that is gone is no reason not to run.
async fn greet(path: PathBuf) -> Result<Option<UnixStream>, Error> {
    let greeted = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let reply = exchange(&mut stream, &Said::Hello {})?;
        Ok::<_, io::Error>((stream, reply))
    });
    let greeted = greeted.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    match greeted {
        Ok((stream, Reply::Taken {})) => Ok(Some(stream)),
        Ok((_, Reply::Refused(why))) => {
            Err(Error::Unproven(format!("the supervisor refuses this node: {why}")))
        }
        Err(error) => {
            tracing::warn!(%error, "the supervisor that {SUPERVISOR} names does not answer; going on without one");
            Ok(None)
        }
    }
}

fn exchange(stream: &mut UnixStream, said: &Said) -> io::Result<Reply> {
    let line = serde_json::to_string(said)?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut reply = String::new();
    // Nothing follows a reply, so nothing is lost with the buffer.
    BufReader::new(stream).read_line(&mut reply)?;
    Ok(serde_json::from_str(&reply)?)
}
