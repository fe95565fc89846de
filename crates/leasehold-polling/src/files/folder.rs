//! The poller of a folder.

mod listing;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use globset::GlobMatcher;
use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;
use leasehold_core::message::{MessageId, Parts};
use uuid::Uuid;

use super::config::{After, FilesConfig};
use super::ledger;
use super::reading::{Current, Stop};
use super::records::{Piece, Records};
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
/// The cursor when all there was is done.
const IDLE: &str = "idle";
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

    /// Records of files, one file after the other.
    async fn stream(
        &self,
        cursor: Option<&Cursor>,
        room: usize,
        lease: &Lease,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        if !self.state().is_resumed {
            self.resume(cursor, lease).await?;
        }
        let (mut bytes, mut has_listed) = (0, false);
        let mut current = self.state().current.take();
        while batch.items.len() < room && bytes < BATCH_BYTES {
            let Some(mut file) = current.take() else {
                let next = self.state().begin_next();
                match next {
                    Some(next) => current = Some(next),
                    None if has_listed => break,
                    None => {
                        self.list(lease).await?;
                        has_listed = true;
                    }
                }
                continue;
            };
            let room = room - batch.items.len();
            match file.next(&*self.storage, &self.config.records, room, self.config.max_record).await {
                Ok(pieces) if pieces.is_empty() => self.ended(&file.entry, None, lease).await?,
                Ok(pieces) => {
                    bytes += pieces.last().map_or(0, |last| last.end);
                    self.give(&file, &pieces, batch);
                    file.pass(&pieces);
                    current = Some(file);
                }
                Err(Stop::Bad(problem)) => self.ended(&file.entry, Some(problem), lease).await?,
                Err(Stop::Trouble(Trouble::Other(error))) if file.offset > 0 => {
                    // Its place would be lost with it.
                    let place = format!("{}/{}", self.storage.place(), file.entry.path);
                    self.state().current = Some(file);
                    return Err(Error::unreachable(
                        place,
                        format!("cannot be read on ({error}); it is tried again"),
                    ));
                }
                Err(Stop::Trouble(trouble)) => {
                    self.state().out.remove(&file.entry.path);
                    if !matches!(trouble, Trouble::Gone) {
                        self.state().add_problem(format!("{:?} cannot be read: {trouble}", file.entry.path));
                    }
                }
            }
        }
        if current.as_ref().is_some_and(Current::is_at_end) {
            let file = current.take();
            if let Some(file) = file {
                self.ended(&file.entry, None, lease).await?;
            }
        }
        let mut state = self.state();
        batch.more = current.is_some() || !state.queue.is_empty();
        state.current = current;
        let is_idle = batch.items.is_empty() && !batch.more && state.out.is_empty();
        if is_idle && cursor.and_then(Cursor::parse_place).is_some() {
            // A file that somebody puts back is new, though it is what it was.
            batch.next = Some(Cursor::new(IDLE));
        }
        Ok(())
    }

    fn give(&self, file: &Current, pieces: &[Piece], batch: &mut Batch) {
        let place: Arc<str> = format!("{} {}", file.entry.tag, file.entry.path).into();
        let (source, path) = (shown(&file.entry), Bytes::copy_from_slice(file.entry.path.as_bytes()));
        let (header, number): (Arc<str>, Arc<str>) = (FILE.into(), RECORD.into());
        let content_type: Option<Arc<str>> = self.config.records.content_type().map(Arc::from);
        let (mut record, mut given, others) = (file.record, 0, batch.items.len());
        for piece in pieces {
            let first = record + 1;
            record += piece.records;
            let cursor = Cursor::place(file.offset + piece.end as u64, record, &place);
            let Some(body) = piece.body.clone() else {
                // Passed over with the one before, never with one of another file: that is not moved yet when its cursor is written.
                if let Some(last) = batch.items[others..].last_mut() {
                    last.cursor = Some(cursor);
                }
                continue;
            };
            given += 1;
            let parts = Parts {
                id: MessageId::Position(first),
                key: Some(path.clone()),
                headers: vec![
                    (Arc::clone(&header), path.clone()),
                    (Arc::clone(&number), Bytes::from(first.to_string())),
                ],
                content_type: content_type.clone(),
                body: Some(body),
                source: Arc::clone(&source),
                progress: None,
                native: Some(Box::new(Mark {
                    path: Arc::clone(&file.entry.path),
                    record: Some(first),
                    file: None,
                })),
            };
            let broken = piece.broken.as_ref().map(|problem| format!("record {first} {problem}"));
            batch.items.push(Item { parts, cursor: Some(cursor), broken });
        }
        if let Some(out) = self.state().out.get_mut(&file.entry.path) {
            out.given += given;
        }
    }

    /// There is no more of this file.
    async fn ended(&self, entry: &Entry, problem: Option<String>, lease: &Lease) -> Result<(), Error> {
        let end = {
            let mut state = self.state();
            let out = state.out.get_mut(&entry.path);
            out.and_then(|out| {
                out.ended = true;
                if let Some(problem) = problem {
                    out.fail(1, problem);
                }
                out.end()
            })
        };
        match end {
            Some(end) => self.end(vec![end], lease).await,
            None => Ok(()),
        }
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
