//! The parent's side of the socket: who may announce, and what was announced.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::free::{Announced, Warm};
use super::wire::{Announcement, Reach, Reply, Said};
use crate::error::Error;
use crate::name::{ClusterName, NodeId};

/// More than a node says in years; a connection that says more is no node.
const MOST_BYTES: u64 = 4 << 20;
/// An address of a socket holds 104 bytes on the systems that hold the fewest; the name in the folder is part of it.
const LONGEST: usize = 90;
/// Of one node: earlier ones it has deleted itself before it joined anew.
const MOST_SESSIONS: usize = 16;

/// The sessions of one node.
type Key = (Reach, ClusterName, NodeId);

/// A private socket, and what the child has announced on it.
#[derive(Debug)]
pub(super) struct Door {
    folder: PathBuf,
    path: PathBuf,
    listener: Mutex<Option<UnixListener>>,
    book: Arc<Mutex<Book>>,
    accepting: Mutex<Option<AbortHandle>>,
}

#[derive(Debug, Default)]
struct Book {
    /// The child is dead, or may be: nothing is taken any more.
    shut: bool,
    announced: BTreeMap<Key, Announced>,
}

impl Door {
    /// A socket in a folder that nobody else may enter.
    pub(super) fn open() -> io::Result<Self> {
        let name = format!("leasehold-{}", Uuid::now_v7().simple());
        let mut folder = std::env::temp_dir().join(&name);
        if folder.as_os_str().len() > LONGEST {
            folder = Path::new("/tmp").join(&name);
        }
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let path = folder.join("supervisor");
        let listener = UnixListener::bind(&path).inspect_err(|_| _ = std::fs::remove_dir(&folder))?;
        let (book, listener) = (Arc::default(), Mutex::new(Some(listener)));
        Ok(Self { folder, path, listener, book, accepting: Mutex::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on this child may announce.
    pub(super) fn admit(&self, child: Pid) {
        let Some(listener) = lock(&self.listener).take() else { return };
        let book = Arc::clone(&self.book);
        let accepting = tokio::spawn(async move {
            // An error of one connection is no reason to hear no other.
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(hear(stream, child, Arc::clone(&book)))),
                    Err(error) => {
                        tracing::debug!(%error, "a connection to the supervisor failed");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                }
            }
        });
        *lock(&self.accepting) = Some(accepting.abort_handle());
    }

    /// Does something while nothing can be announced; once it has found the child dead, nothing can be for ever.
    pub(super) fn while_shut<T>(
        &self,
        look: impl FnOnce() -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let mut book = lock(&self.book);
        let found = look();
        book.shut = !matches!(found, Ok(None));
        found
    }

    /// What was announced.
    pub(super) fn close(&self) -> Vec<Announced> {
        let announced = std::mem::take(&mut lock(&self.book).announced);
        announced.into_values().collect()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(accepting) = lock(&self.accepting).take() {
            accepting.abort();
        }
        // What is left of it is harmless.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(&self.folder);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is kept here has an invariant that a panic could break.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hears one connection until it ends, which says nothing.
async fn hear(stream: UnixStream, child: Pid, book: Arc<Mutex<Book>>) {
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let known = peer == Some(child.as_raw_nonzero().get());
    let (input, mut output) = stream.into_split();
    let mut lines = BufReader::new(input.take(MOST_BYTES)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = match serde_json::from_str::<Said>(&line) {
            _ if !known => Reply::Refused(stranger(peer, child)),
            // A newer program may say more; what it joins as must be understood.
            Err(_) => Reply::Refused(
                "it says what this supervisor does not understand: use a supervisor of the node's version"
                    .to_owned(),
            ),
            Ok(Said::Hello {}) => Reply::Taken {},
            Ok(Said::Session(session)) => take(session, &book),
        };
        let Ok(reply) = serde_json::to_string(&reply) else { return };
        if output.write_all(format!("{reply}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn take(announcement: Announcement, book: &Mutex<Book>) -> Reply {
    let Announcement { database, cluster, node, session } = announcement;
    let mut book = lock(book);
    if book.shut {
        return Reply::Refused("the process that it speaks for has ended".to_owned());
    }
    let key = (database.clone(), cluster.clone(), node.clone());
    let of_node = book.announced.entry(key);
    let announced = of_node.or_insert_with(|| Announced {
        warm: Warm::connect(database),
        cluster,
        node,
        sessions: Vec::new(),
    });
    if announced.sessions.len() == MOST_SESSIONS {
        announced.sessions.remove(0);
    }
    announced.sessions.push(session);
    Reply::Taken {}
}

fn stranger(peer: Option<i32>, child: Pid) -> String {
    let peer = peer.map_or_else(|| "a process of another view".to_owned(), |pid| format!("process {pid}"));
    format!(
        "{peer} is not the child that this supervisor waits for (process {child}), so that its death would not be known: start \
         the service itself, with `exec` where a shell stands in between; programs that the service starts run without {}",
        super::SUPERVISOR
    )
}
