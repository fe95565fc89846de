//! Records of files, one file after the other.

use std::sync::Arc;

use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;
use leasehold_core::message::{MessageId, Parts};

use super::super::reading::{Current, Stop};
use super::super::records::Piece;
use super::super::storage::{Entry, Trouble};
use super::{BATCH_BYTES, FILE, Folder, Mark, RECORD, shown};
use crate::error::Error;
use crate::poller::{Batch, Cursor, Item};

/// The cursor when all there was is done.
const IDLE: &str = "idle";
impl Folder {
    /// Records of files, one file after the other.
    pub(super) async fn stream(
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
