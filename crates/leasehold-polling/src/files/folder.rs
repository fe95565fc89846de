//! The poller of a folder.

mod listing;
mod stream;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use globset::GlobMatcher;
use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;
use leasehold_core::message::{MessageId, Parts};
use uuid::Uuid;

use super::config::{After, FilesConfig};
use super::ledger;
use super::records::Records;
use super::state::{Out, State};
use super::storage::{Entry, Storage, Trouble};
use crate::error::Error;
use crate::poller::{Batch, Cursor, Fate, Item, Poller, Settled};

/// The header with the path of a file below the folder.
pub const FILE: &str = "file";
/// The header with the number of a record in its file, counted from 1.
pub const RECORD: &str = "record";

/// Bytes of a poll, beyond which no further file or block is read.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The longest path that is shown in ids as it is.
const MAX_SHOWN: usize = 150;

/// What a message knows of its file.
pub(super) struct Mark {
    pub(super) path: Arc<str>,
    /// Of records, the first.
    pub(super) record: Option<u64>,
    pub(super) file: Option<(Arc<dyn Storage>, Entry)>,
}

/// Polls a folder.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(super) config: FilesConfig,
    pub(super) storage: Arc<dyn Storage>,
    matcher: GlobMatcher,
    state: Mutex<State>,
}

impl Folder {
    pub(super) fn new(config: FilesConfig, storage: Arc<dyn Storage>) -> Result<Self, String> {
        config.problem()?;
        if !storage.abilities().rename && (config.done_folder().is_some() || config.failed.is_some()) {
            return Err(
                "after and failed move files, and this storage cannot: use after delete or keep, and leave failed out".to_owned(),
            );
        }
        let matcher = config.matcher()?;
        Ok(Self { config, storage, matcher, state: Mutex::default() })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each step is complete when the lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn whole(&self, room: usize, lease: &Lease, batch: &mut Batch) -> Result<(), Error> {
        if self.state().queue.is_empty() {
            self.list(lease).await?;
        }
        let taken = self.take_files(room);
        let contents = match self.config.records {
            Records::Reference => taken.iter().map(|_| Ok(None)).collect(),
            _ => {
                self.storage.read_all(&taken).await.into_iter().map(|read| read.map(Some)).collect::<Vec<_>>()
            }
        };
        for (entry, content) in taken.into_iter().zip(contents) {
            match content {
                Ok(body) => {
                    batch.items.push(self.file(&entry, body));
                    let mut out = Out::new(entry);
                    (out.given, out.ended) = (1, true);
                    self.state().out.insert(Arc::clone(&out.entry.path), out);
                }
                // Whoever has taken or changed it: the next listing shows.
                Err(Trouble::Gone | Trouble::Changed) => {}
                Err(Trouble::Lost) => lease.check()?,
                Err(Trouble::Other(error)) => {
                    let problem = format!(
                        "{:?} cannot be read ({error}); make it readable for this process",
                        entry.path
                    );
                    self.state().add_problem(problem);
                }
            }
        }
        batch.more = !self.state().queue.is_empty();
        Ok(())
    }

    /// The next files, as many as are read at once.
    fn take_files(&self, room: usize) -> Vec<Entry> {
        let mut state = self.state();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < room
            && bytes < BATCH_BYTES as u64
            && let Some(entry) = state.queue.pop_front()
        {
            bytes += if self.config.records == Records::Reference { 0 } else { entry.size };
            taken.push(entry);
        }
        taken
    }

    fn file(&self, entry: &Entry, body: Option<Bytes>) -> Item {
        let (id, path) = (shown(entry), Bytes::copy_from_slice(entry.path.as_bytes()));
        let file = Some((Arc::clone(&self.storage), entry.clone()));
        let mark = Mark { path: Arc::clone(&entry.path), record: None, file };
        let parts = Parts {
            id: MessageId::Text(id),
            key: Some(path.clone()),
            headers: vec![(FILE.into(), path)],
            content_type: None,
            body,
            source: Arc::clone(&entry.path),
            progress: Some(ledger::progress(entry)),
            native: Some(Box::new(mark)),
        };
        Item { parts, cursor: None, broken: None }
    }
}

#[async_trait]
impl Poller for Folder {
    fn place(&self) -> String {
        self.storage.place()
    }

    async fn begin(&self, lease: &Lease) -> Result<(), Error> {
        let ledger = ledger::load(lease).await?;
        *self.state() = State { ledger, ..State::default() };
        Ok(())
    }

    async fn poll(&self, cursor: Option<&Cursor>, room: usize, lease: &Lease) -> Result<Batch, Error> {
        let todo = std::mem::take(&mut self.state().todo);
        let late = self.end(todo, lease).await;
        let mut batch = Batch::default();
        if self.config.records.is_whole() {
            self.whole(room, lease, &mut batch).await?;
        } else {
            self.stream(cursor, room, lease, &mut batch).await?;
        }
        batch.problem = match late {
            Err(error) if error.is_lost() => return Err(error),
            Err(error) => Some(error.to_string()),
            Ok(()) => self.state().problem.clone(),
        };
        Ok(batch)
    }

    async fn settle(&self, settled: Vec<Settled>, lease: &Lease) -> Result<(), Error> {
        let mut ends = Vec::new();
        for Settled { message, fate } in settled {
            let Some(mark) = message.parts().native.as_ref().and_then(|native| native.downcast_ref::<Mark>())
            else {
                continue;
            };
            let failed = match (fate, mark.record) {
                (Fate::Failed { attempts, reason }, Some(record)) => {
                    self.set_aside(&mark.path, record, &message, attempts, &reason, lease).await
                }
                (Fate::Failed { attempts, reason }, None) => Some((attempts, reason)),
                // Nothing that failed is deleted.
                (Fate::Dropped, _) if self.config.after == After::Delete => {
                    Some((self.config.polling.retry.attempts, "passed over, as the policy says".to_owned()))
                }
                _ => None,
            };
            let mut state = self.state();
            let mut is_recorded = None;
            if let Some(out) = state.out.get_mut(&mark.path) {
                out.settled += 1;
                is_recorded = message
                    .parts()
                    .progress
                    .as_ref()
                    .filter(|progress| progress.is_recorded() && mark.record.is_none())
                    .map(|_| Arc::clone(&out.entry.tag));
                if let Some((attempts, reason)) = failed {
                    out.fail(attempts, reason);
                }
                ends.extend(out.end());
            }
            // Its handler has remembered it, and it is to be forgotten when the file has gone.
            if let Some(tag) = is_recorded {
                state.ledger.insert(Arc::clone(&mark.path), tag);
            }
        }
        self.end(ends, lease).await
    }

    fn keeps_failed(&self) -> bool {
        true
    }

    fn records_itself(&self) -> bool {
        self.config.records.is_whole()
    }
}

/// What tells this content of this file from any other, short enough for an inbox.
fn shown(entry: &Entry) -> Arc<str> {
    let Entry { path, tag, .. } = entry;
    if path.len() <= MAX_SHOWN {
        return format!("{path}@{tag}").into();
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, path.as_bytes()).simple();
    format!("{}…{hash}@{tag}", &path[..path.floor_char_boundary(MAX_SHOWN - 40)]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_contents_apart_and_is_short_enough_for_an_inbox() {
        let entry =
            |path: &str, tag: &str| Entry { path: path.into(), size: 1, modified: 0, tag: tag.into() };
        assert_eq!(&*shown(&entry("a/b", "1-2")), "a/b@1-2");
        let long = "ä".repeat(2000);
        let (one, other) = (shown(&entry(&long, "1-2")), shown(&entry(&format!("{long}x"), "1-2")));
        assert_ne!(one, other);
        assert!(one.len() < 220, "{}", one.len());
    }
}
