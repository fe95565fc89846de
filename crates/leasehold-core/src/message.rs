//! What a handler gets: one message, wherever it came from.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use sea_orm::DatabaseTransaction;

use crate::error::Error;
use crate::lease::Lease;

/// What identifies a message: the same at every delivery of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageId {
    /// The id that its sender gave it.
    Text(Arc<str>),
    /// Its place at its source, for sources that number their messages: written as `source/position`.
    Position(u64),
    /// Neither: it cannot be told from another one.
    Unknown,
}

/// How it is written that a message is done, by sources that do not number their messages.
#[async_trait]
pub trait Record: fmt::Debug + Send + Sync + 'static {
    /// Writes it in `txn`, fenced.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost. Errors of the database.
    async fn write(&self, lease: &Lease, txn: &DatabaseTransaction) -> Result<(), Error>;

    /// Whether it is written: an attempt may have failed after its commit.
    ///
    /// # Errors
    /// Errors of the database.
    async fn is_written(&self, lease: &Lease) -> Result<bool, Error>;
}

/// Where the next holder goes on when this message is done: a checkpoint of the artifact, or what its source says.
#[derive(Debug)]
pub struct Progress {
    key: Arc<str>,
    value: u64,
    record: Option<Box<dyn Record>>,
    recorded: AtomicBool,
}

impl Progress {
    /// The checkpoint `key` with value `value`.
    pub fn new(key: Arc<str>, value: u64) -> Arc<Self> {
        Arc::new(Self { key, value, record: None, recorded: AtomicBool::new(false) })
    }

    /// What is written by this. It has no [`key`](Progress::key), and the value 0.
    pub fn by(record: impl Record) -> Arc<Self> {
        let record: Option<Box<dyn Record>> = Some(Box::new(record));
        Arc::new(Self { key: "".into(), value: 0, record, recorded: AtomicBool::new(false) })
    }

    /// The name of the checkpoint.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is written there.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// Whether it stands in the database: an attempt may have failed after its commit.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn is_written(&self, lease: &Lease) -> Result<bool, Error> {
        match &self.record {
            Some(record) => record.is_written(lease).await,
            None => Ok(lease.load(&self.key).await?.is_some_and(|stored| stored == self.value.to_string())),
        }
    }

    /// The message is handed over: whatever an earlier attempt has written may have been rolled back.
    pub fn begin(&self) {
        self.recorded.store(false, Ordering::Release);
    }

    /// Whether a handler has written it in a transaction of its own. That this was committed is not known.
    pub fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Acquire)
    }
}

/// What a message is made of.
pub struct Parts {
    /// What identifies it.
    pub id: MessageId,
    /// What its order goes by; none: no order is asked for.
    pub key: Option<Bytes>,
    /// Name and value, in the order of the source; a name may occur more than once.
    pub headers: Vec<(Arc<str>, Bytes)>,
    /// The media type of the body, where the source tells it.
    pub content_type: Option<Arc<str>>,
    /// The payload; none is a tombstone: the key was deleted.
    pub body: Option<Bytes>,
    /// Where it came from, for people and logs.
    pub source: Arc<str>,
    /// Where the next holder goes on, if that is kept in the database.
    pub progress: Option<Arc<Progress>>,
    /// What its source knows of it besides, for settling it.
    pub native: Option<Native>,
}

/// What only the source of a message understands.
pub type Native = Box<dyn Any + Send + Sync>;

/// One message. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Message {
    parts: Arc<Parts>,
    attempt: u32,
}

impl Message {
    /// A message that is handled for the `attempt`th time, counted from 1.
    pub fn new(parts: Parts, attempt: u32) -> Self {
        Self { parts: Arc::new(parts), attempt: attempt.max(1) }
    }

    /// The same of parts that are shared already.
    pub fn shared(parts: Arc<Parts>, attempt: u32) -> Self {
        Self { parts, attempt: attempt.max(1) }
    }

    /// What identifies it: the same at every delivery. Empty when the source has nothing that does.
    pub fn id(&self) -> Cow<'_, str> {
        match &self.parts.id {
            MessageId::Text(id) => Cow::Borrowed(id),
            MessageId::Position(at) => Cow::Owned(format!("{}/{at}", self.parts.source)),
            MessageId::Unknown => Cow::Borrowed(""),
        }
    }

    /// What its order goes by: messages of one key are handled one after the other.
    pub fn key(&self) -> Option<&Bytes> {
        self.parts.key.as_ref()
    }

    /// All headers, in the order of the source.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.parts.headers.iter().map(|(name, value)| (&**name, value))
    }

    /// The last header of this name; names compare exactly.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.parts.headers.iter().rev().find(|(known, _)| &**known == name).map(|(_, value)| value)
    }

    /// The media type of the body, where the source tells it.
    pub fn content_type(&self) -> Option<&str> {
        self.parts.content_type.as_deref()
    }

    /// The payload; none is a tombstone: the key was deleted.
    pub fn body(&self) -> Option<&Bytes> {
        self.parts.body.as_ref()
    }

    /// The payload as text.
    ///
    /// # Errors
    /// When it is not UTF-8. A tombstone is the empty text.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(self.parts.body.as_deref().unwrap_or_default())
    }

    /// Where it came from, for people and logs.
    pub fn source(&self) -> &str {
        &self.parts.source
    }

    /// How often it has been handed over, with this time: 1 unless it was handled before. Attempts of earlier holders
    /// count where the source tells them.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether it was, or may have been, handed over before.
    pub fn is_redelivered(&self) -> bool {
        self.attempt > 1
    }

    /// The same message at another attempt.
    #[must_use]
    pub fn at_attempt(&self, attempt: u32) -> Self {
        Self { parts: Arc::clone(&self.parts), attempt }
    }

    /// What it is made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Writes in `txn`, fenced, that this message is done, so that its effect and that progress commit together. Does
    /// nothing where progress is not kept in the database.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost. Errors of the database.
    pub async fn record(&self, lease: &Lease, txn: &DatabaseTransaction) -> Result<(), Error> {
        let Some(progress) = &self.parts.progress else { return Ok(()) };
        match &progress.record {
            Some(record) => record.write(lease, txn).await?,
            None => lease.checkpoint(txn, &progress.key, progress.value).await?,
        }
        progress.recorded.store(true, Ordering::Release);
        Ok(())
    }
}

impl fmt::Debug for Message {
    /// Without the payload and the values of headers, which may be anybody's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id())
            .field("source", &self.parts.source)
            .field("attempt", &self.attempt)
            .field("bytes", &self.parts.body.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: MessageId) -> Message {
        let header = |name: &str, value: &'static str| (name.into(), Bytes::from_static(value.as_bytes()));
        let headers = vec![header("a", "1"), header("b", "2"), header("a", "3")];
        let body = Some(Bytes::from_static(b"secret"));
        let source = "orders/3".into();
        Message::new(
            Parts { id, key: None, headers, content_type: None, body, source, progress: None, native: None },
            0,
        )
    }

    #[test]
    fn an_id_is_the_senders_or_the_place() {
        assert_eq!(message(MessageId::Text("x".into())).id(), "x");
        assert_eq!(message(MessageId::Position(17)).id(), "orders/3/17");
        assert_eq!(message(MessageId::Unknown).id(), "");
    }

    #[test]
    fn the_last_header_of_a_name_counts_and_nothing_of_it_is_shown() {
        let message = message(MessageId::Unknown).at_attempt(2);
        assert_eq!(message.header("a").unwrap(), "3");
        assert!(message.is_redelivered());
        assert!(!format!("{message:?}").contains("secret"));
    }
}
