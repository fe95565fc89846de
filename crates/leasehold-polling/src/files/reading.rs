//! Reads the records of a file, block by block.

use leasehold_core::bytes::Bytes;

use super::records::{Piece, Records};
use super::storage::{Entry, Storage, Trouble};

/// Bytes that are read at once: enough to make small what it costs to have another thread do it.
const BLOCK: usize = 2 * 1024 * 1024;

/// A file whose records are being read.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) entry: Entry,
    /// Where the next record begins.
    pub(super) offset: u64,
    /// How many records came before it.
    pub(super) record: u64,
    /// What was read from there on and not given.
    buffer: Bytes,
    /// Its first record names the fields.
    header: Option<Vec<String>>,
}

/// Why a file cannot be read on.
#[derive(Debug)]
pub(super) enum Stop {
    Trouble(Trouble),
    /// Its content is not what it should be.
    Bad(String),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Current {
    pub(super) fn at(entry: Entry, offset: u64, record: u64) -> Self {
        Self { entry, offset, record, buffer: Bytes::new(), header: None }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.offset >= self.entry.size
    }

    /// The next records, at most `room` pieces, and none at the end of the file. Whoever gives them moves on with
    /// [`pass`](Current::pass).
    pub(super) async fn next(
        &mut self,
        storage: &dyn Storage,
        records: &Records,
        room: usize,
        max_record: usize,
    ) -> Result<Vec<Piece>, Stop> {
        if records.has_header() && self.header.is_none() {
            self.read_header(storage, records, max_record).await?;
        }
        let mut length = BLOCK;
        while !self.is_at_end() {
            if self.buffer.is_empty() {
                self.buffer = storage.read(&self.entry, self.offset, length).await?;
                if self.buffer.is_empty() {
                    return Err(Trouble::Changed.into());
                }
            }
            let is_last = self.offset + self.buffer.len() as u64 >= self.entry.size;
            let mut pieces =
                records.split(&self.buffer, is_last, room, self.header.as_deref().unwrap_or_default());
            let is_too_long = |piece: &Piece| {
                piece.records == 1 && piece.body.as_ref().is_some_and(|body| body.len() > max_record)
            };
            let fit = pieces.iter().position(is_too_long);
            if fit == Some(0) {
                return Err(self.too_long(max_record));
            }
            pieces.truncate(fit.unwrap_or(pieces.len()));
            if !pieces.is_empty() {
                return Ok(pieces);
            }
            if is_last {
                // Ends of lines, say.
                self.offset = self.entry.size;
                break;
            }
            // Of a record that is not complete all is read again, with more.
            if self.buffer.len() > max_record {
                let n = self.record + 1;
                return Err(Stop::Bad(format!(
                    "record {n} has more than max-record {max_record} bytes: raise it"
                )));
            }
            if self.buffer.len() >= length {
                length *= 2;
            }
            self.buffer = Bytes::new();
        }
        Ok(Vec::new())
    }

    fn too_long(&self, max_record: usize) -> Stop {
        let n = self.record + 1;
        Stop::Bad(format!("record {n} has more than max-record {max_record} bytes: raise it"))
    }

    /// These were given.
    pub(super) fn pass(&mut self, pieces: &[Piece]) {
        let end = pieces.last().map_or(0, |piece| piece.end);
        self.offset += end as u64;
        self.record += pieces.iter().map(|piece| piece.records).sum::<u64>();
        self.buffer = self.buffer.slice(end..);
    }

    async fn read_header(
        &mut self,
        storage: &dyn Storage,
        records: &Records,
        max_record: usize,
    ) -> Result<(), Stop> {
        let mut length = BLOCK;
        loop {
            let buffer = storage.read(&self.entry, 0, length).await?;
            let is_last = buffer.len() as u64 >= self.entry.size;
            match records.header(&buffer, is_last) {
                Some(Ok((names, end))) => {
                    if self.offset == 0 {
                        self.offset = end as u64;
                        self.buffer = buffer.slice(end..);
                    }
                    self.header = Some(names);
                    return Ok(());
                }
                Some(Err(problem)) => return Err(Stop::Bad(problem)),
                None if is_last => {
                    // Nothing but ends of lines.
                    self.header = Some(Vec::new());
                    return Ok(());
                }
                None if buffer.len() > max_record => {
                    return Err(Stop::Bad(format!(
                        "its header has more than max-record {max_record} bytes: raise it"
                    )));
                }
                None => length *= 2,
            }
        }
    }
}
