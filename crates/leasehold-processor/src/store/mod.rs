//! What a message store is: what applications append to, what one processor reads, and what people look into.

pub mod memory;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use leasehold_core::bytes::Bytes;
use leasehold_core::dispatch::Source;
use leasehold_core::lease::Lease;

use crate::error::Error;
use crate::outgoing::Outgoing;

/// How a processor reads a store.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Whether a message holds up those after it: all of them, or those of its key.
    pub order: leasehold_core::dispatch::Order,
    /// How often a message may be handed over before it is known not to survive: its handler may take the process with it.
    pub attempts: u32,
    /// How long an acknowledgement may wait for others to be written with; zero: each is written before the next message
    /// is handed over.
    pub lag: Duration,
    /// The longest time between two looks for new messages.
    pub poll: Duration,
    /// How many messages are kept in memory at most.
    pub read_ahead: usize,
    /// How long what was parked is kept.
    pub keep: Duration,
}

/// A store of messages. Object safe; [`SqlStore`](crate::SqlStore) keeps them in the database of the leases.
#[async_trait]
pub trait MessageStore: fmt::Debug + Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &str;

    /// Appends messages, all or none, in their order.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a message that it cannot keep; errors of what it keeps them in.
    async fn append_all(&self, messages: &[Outgoing]) -> Result<(), Error>;

    /// Begins to read, for the holder of this lease: what is waiting, and what comes. It is the store's only reader.
    ///
    /// # Errors
    /// [`Error::Invalid`] when another processor reads this store; errors of what it keeps them in.
    async fn read(&self, lease: &Lease, reading: Reading) -> Result<Box<dyn Source>, Error>;

    /// How many messages wait, and how old the oldest is.
    ///
    /// # Errors
    /// Errors of what it keeps them in.
    async fn depth(&self) -> Result<Depth, Error>;

    /// Messages that wait, oldest first, after id `after`, at most `limit`.
    ///
    /// # Errors
    /// Errors of what it keeps them in.
    async fn list(&self, after: i64, limit: u32) -> Result<Vec<Waiting>, Error>;

    /// Messages that were parked, oldest first, after id `after`, at most `limit`.
    ///
    /// # Errors
    /// Errors of what it keeps them in.
    async fn parked(&self, after: i64, limit: u32) -> Result<Vec<Parked>, Error>;

    /// One message with its payload, waiting or parked.
    ///
    /// # Errors
    /// Errors of what it keeps them in.
    async fn peek(&self, id: i64) -> Result<Option<Content>, Error>;

    /// Appends parked messages anew, at the end and with their attempts at zero: they come out of order. Tells how many.
    ///
    /// # Errors
    /// Errors of what it keeps them in.
    async fn replay(&self, which: Which) -> Result<u64, Error>;

    /// Deletes messages that wait. What a processor has read ahead it delivers all the same: pause it first. Tells how many.
    ///
    /// # Errors
    /// Errors of what it keeps them in.
    async fn purge(&self, which: Which) -> Result<u64, Error>;

    /// Deletes parked messages. Tells how many.
    ///
    /// # Errors
    /// Errors of what it keeps them in.
    async fn purge_parked(&self, which: Which) -> Result<u64, Error>;

    /// Moves messages that wait to the end of another store of the same kind and place. What a processor has read ahead it
    /// delivers all the same, and so both may: pause it first. Tells how many.
    ///
    /// # Errors
    /// Errors of what it keeps them in.
    async fn move_to(&self, store: &str, which: Which) -> Result<u64, Error>;
}

/// Which messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one of this id.
    One(i64),
    /// All of them.
    All,
}

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Depth {
    /// Messages that wait; counted up to [`Depth::MOST`].
    pub waiting: u64,
    /// Messages that were parked; counted up to [`Depth::MOST`].
    pub parked: u64,
    /// How long the oldest that waits has been waiting.
    pub oldest: Option<Duration>,
}

impl Depth {
    /// Beyond this nothing is counted: a count reads what it counts.
    pub const MOST: u64 = 10_000;

    /// Shows a count as people read it.
    pub fn show(count: u64) -> String {
        if count > Self::MOST { format!(">{}", Self::MOST) } else { count.to_string() }
    }
}

/// A message that waits, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// Its place in the store: higher than those appended before.
    pub id: i64,
    /// The id that its sender, or leasehold, gave it.
    pub message: String,
    /// What its order goes by.
    pub key: Option<String>,
    /// Bytes of its payload.
    pub bytes: u64,
    /// How often it was handed over and failed.
    pub attempts: u32,
    /// It is not handed over before.
    pub due: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was appended.
    pub appended: DateTime<Utc>,
}

/// A message that could not be delivered, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parked {
    /// Its place in the store before it was parked.
    pub id: i64,
    /// The id that its sender, or leasehold, gave it.
    pub message: String,
    /// What its order goes by.
    pub key: Option<String>,
    /// Bytes of its payload.
    pub bytes: u64,
    /// How often it was handed over.
    pub attempts: u32,
    /// Why it was parked.
    pub reason: String,
    /// What the endpoint answered at last, if anything.
    pub answer: Option<String>,
    /// When it was appended.
    pub appended: DateTime<Utc>,
    /// When it was parked.
    pub parked: DateTime<Utc>,
}

/// What a message holds.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Content {
    /// Name and value, in their order.
    pub headers: Vec<(String, String)>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// The payload.
    pub body: Bytes,
}

impl fmt::Debug for Content {
    /// Without what it holds, which may be anybody's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}
