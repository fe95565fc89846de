//! What is polled: the seam for sources of one's own.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, MessageId, Parts};

use crate::error::Error;

/// The longest text of a cursor, in bytes: it is a place, not what was found there.
pub const MAX_CURSOR: usize = 16 * 1024;

/// Where a poll goes on: whatever its poller understands, as text. It is kept with the lease, fenced.
#[derive(Clone)]
pub struct Cursor(Repr);

#[derive(Clone)]
enum Repr {
    Text(Arc<str>),
    Place { offset: u64, record: u64, of: Arc<str> },
}

impl Cursor {
    /// This text, of at most [`MAX_CURSOR`] bytes.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(Repr::Text(text.into()))
    }

    /// A place within something: `offset record of`. Becomes text only when it is written down, so that every one of millions of
    /// records can have its own.
    pub fn place(offset: u64, record: u64, of: &Arc<str>) -> Self {
        Self(Repr::Place { offset, record, of: Arc::clone(of) })
    }

    /// What [`place`](Cursor::place) was made of, also after it was written down.
    pub fn parse_place(&self) -> Option<(u64, u64, Arc<str>)> {
        match &self.0 {
            Repr::Place { offset, record, of } => Some((*offset, *record, Arc::clone(of))),
            Repr::Text(text) => {
                let mut parts = text.splitn(3, ' ');
                let (offset, record) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                Some((offset, record, parts.next()?.into()))
            }
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Text(text) => f.write_str(text),
            Repr::Place { offset, record, of } => write!(f, "{offset} {record} {of}"),
        }
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({self})")
    }
}

impl PartialEq for Cursor {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Cursor {}

/// One item of a batch.
pub struct Item {
    /// What the handler gets. Its id is to be the same whenever the item comes, and that of no other item.
    pub parts: Parts,
    /// Where the next poll goes on when this item and all before it are done. None: a later item of the batch, or the batch,
    /// tells.
    pub cursor: Option<Cursor>,
    /// It cannot be handled, and why: it goes where the policy puts what has failed for good, without being handed over.
    pub broken: Option<String>,
}

impl Item {
    /// An item with this id, of this source, with this payload.
    pub fn new(id: MessageId, source: Arc<str>, body: impl Into<Bytes>) -> Self {
        let parts = Parts {
            id,
            key: None,
            headers: Vec::new(),
            content_type: None,
            body: Some(body.into()),
            source,
            progress: None,
            native: None,
        };
        Self { parts, cursor: None, broken: None }
    }

    /// Where the next poll goes on after it.
    #[must_use]
    pub fn at(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// What its order goes by.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.parts.key = Some(key.into());
        self
    }
}

impl fmt::Debug for Item {
    /// Without what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("source", &self.parts.source)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// What a poll found.
#[derive(Debug, Default)]
pub struct Batch {
    /// In their order, at most as many as were asked for.
    pub items: Vec<Item>,
    /// Where the next poll goes on, if it moves on: also past what is no item. It counts as reached when all items are done.
    pub next: Option<Cursor>,
    /// There is more already: the next poll need not wait for the schedule.
    pub more: bool,
    /// What was left alone, and why, in words for people: it is shown in the node's status, and the rest goes on.
    pub problem: Option<String>,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It was handled.
    Handled,
    /// It could not be handled, and is kept where parked items go.
    Parked,
    /// It could not be handled, and is to be kept by its poller: see [`Poller::keeps_failed`].
    Failed {
        /// How often it was handed over.
        attempts: u32,
        /// What the handler said.
        reason: String,
    },
    /// It could not be handled, and is dropped, because the policy says so.
    Dropped,
}

/// An item whose fate is settled.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The message that was made of it.
    pub message: Message,
    /// What became of it.
    pub fate: Fate,
}

/// What is polled. Object safe.
///
/// One task calls it, one call at a time, from [`begin`](Poller::begin) on, which begins a run. Calls are not cancelled but at the
/// end of a run; then they may be, at any await, and whatever is under way must do no harm: check the lease right before an effect.
#[async_trait]
pub trait Poller: fmt::Debug + Send + Sync + 'static {
    /// What is polled, for people and logs.
    fn place(&self) -> String;

    /// A run begins: whatever an earlier run left here is forgotten.
    ///
    /// # Errors
    /// What keeps it from polling; it is tried again.
    async fn begin(&self, lease: &Lease) -> Result<(), Error> {
        let _ = lease;
        Ok(())
    }

    /// The items after `cursor`, at most `room`; none: from the beginning. Within a run that is where the last poll went on, and
    /// items that were brought and are not settled are not brought again.
    ///
    /// # Errors
    /// What keeps it from polling; it is tried again after a pause that grows.
    async fn poll(&self, cursor: Option<&Cursor>, room: usize, lease: &Lease) -> Result<Batch, Error>;

    /// Tells what became of items, before the cursor that passes them is written down.
    ///
    /// # Errors
    /// What could not be done for them. It is shown, and nothing else follows: what is still to be done is up to the poller, with
    /// the next call.
    async fn settle(&self, settled: Vec<Settled>, lease: &Lease) -> Result<(), Error> {
        let _ = (settled, lease);
        Ok(())
    }

    /// Whether it keeps what failed for good, so that people find it: moved aside, for example.
    fn keeps_failed(&self) -> bool {
        false
    }

    /// Whether it writes by itself that an item is done, by the [`Progress`](leasehold_core::message::Progress) of its messages
    /// and in [`settle`](Poller::settle): then items may be done in any order in handlers' own transactions.
    fn records_itself(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_after_it_was_written_down() {
        let place = Cursor::place(17, 3, &"a b c".into());
        let read = Cursor::new(place.to_string());
        assert_eq!(place, read);
        assert_eq!(read.parse_place(), Some((17, 3, "a b c".into())));
        assert_eq!(Cursor::new("x").parse_place(), None);
    }
}
