//! What is appended to a store.

use std::time::Duration;

use chrono::{DateTime, Utc};
use leasehold_core::bytes::Bytes;
use leasehold_core::message::Message;
use serde::Serialize;
use uuid::Uuid;

/// The longest id and key, in characters: longer ones fit no index of MySQL's.
pub const MAX_TEXT: usize = 200;
/// The largest body unless the store says otherwise: a store carries messages, not files.
pub const DEFAULT_MAX_BYTES: usize = 1024 * 1024;
/// The largest headers together, as they are stored.
pub const MAX_HEADERS: usize = 64 * 1024;
/// Longer delays and times to live are a mistake in the unit.
pub const MAX_DURATION: Duration = Duration::from_secs(3650 * 24 * 3600);

/// When a message is handed over for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum When {
    #[default]
    Now,
    /// So long after it was appended, by the database's clock.
    After(Duration),
    /// At this instant of the database's clock.
    At(DateTime<Utc>),
}

/// A message that is to be appended to a store.
///
/// ```
/// # use leasehold_processor::Outgoing;
/// # use std::time::Duration;
/// # fn main() -> Result<(), serde_json::Error> {
/// let order = serde_json::json!({ "id": 17, "customer": "ada" });
/// let message = Outgoing::json(&order)?.key("ada").header("region", "eu").time_to_live(Duration::from_secs(3600));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Outgoing {
    pub(crate) id: String,
    pub(crate) key: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) when: When,
    pub(crate) time_to_live: Option<Duration>,
}

impl Outgoing {
    /// A message with this payload, and an id of its own.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            key: None,
            headers: Vec::new(),
            content_type: None,
            body: body.into(),
            when: When::Now,
            time_to_live: None,
        }
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(text.into()).content_type("text/plain; charset=utf-8")
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// When the value has no JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::new(serde_json::to_vec(value)?).content_type("application/json"))
    }

    /// The id that the receiver may know it by: the same at every delivery. A new UUID unless set.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// What its order goes by: messages of one key are delivered in the order in which they were appended.
    #[must_use]
    pub fn key(mut self, key: impl ToString) -> Self {
        self.key = Some(key.to_string());
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The media type of the body.
    #[must_use]
    pub fn content_type(mut self, media_type: impl Into<String>) -> Self {
        self.content_type = Some(media_type.into());
        self
    }

    /// Not delivered before so long after it was appended, by the database's clock. Where order is asked for, what comes
    /// after it (of its key) waits with it.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.when = When::After(delay);
        self
    }

    /// Not delivered before this instant, by the database's clock.
    #[must_use]
    pub fn deliver_at(mut self, at: DateTime<Utc>) -> Self {
        self.when = When::At(at);
        self
    }

    /// Parked as expired, instead of delivered, from so long after it was appended.
    #[must_use]
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.time_to_live = Some(time);
        self
    }

    /// Whether it has times of its own.
    pub(crate) fn is_timed(&self) -> bool {
        self.when != When::Now || self.time_to_live.is_some()
    }

    /// What is wrong with it, if anything.
    pub(crate) fn check(&self, max_bytes: usize) -> Result<(), String> {
        let short = |what: &str, text: &str| {
            let length = text.chars().count();
            match length {
                1..=MAX_TEXT => Ok(()),
                _ => Err(format!("the {what} of a message has {length} characters: give 1 to {MAX_TEXT}")),
            }
        };
        short("id", &self.id)?;
        if let Some(key) = &self.key {
            short("key", key)?;
            if key.ends_with(' ') {
                return Err(format!(
                    "the key {key:?} of a message ends in a space, which MySQL does not tell from none: trim it"
                ));
            }
        }
        if let Some(media_type) = &self.content_type {
            short("content type", media_type)?;
        }
        let id = &self.id;
        if self.body.len() > max_bytes {
            return Err(format!(
                "message {id:?} has {} bytes: at most {max_bytes}; store what is large elsewhere and send where it is, or \
                 raise the store's max_bytes",
                self.body.len()
            ));
        }
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        if headers > MAX_HEADERS {
            return Err(format!("message {id:?} has {headers} bytes of headers: at most {MAX_HEADERS}"));
        }
        let text = |text: &str| !text.contains('\0');
        let words = [Some(&self.id), self.key.as_ref(), self.content_type.as_ref()];
        if !words.into_iter().flatten().all(|word| text(word))
            || !self.headers.iter().all(|(name, value)| text(name) && text(value))
        {
            return Err(format!(
                "message {id:?} has a NUL in its id, key, content type or headers: PostgreSQL's text has none"
            ));
        }
        let delay = match self.when {
            When::After(delay) => delay,
            _ => Duration::ZERO,
        };
        for (what, time) in [("delay", delay), ("time to live", self.time_to_live.unwrap_or_default())] {
            if time > MAX_DURATION {
                return Err(format!("the {what} of message {id:?} is {time:?}: at most {MAX_DURATION:?}"));
            }
        }
        Ok(())
    }

    /// Headers as they are stored.
    pub(crate) fn stored_headers(&self) -> String {
        serde_json::to_string(&self.headers).unwrap_or_else(|_| "[]".to_owned())
    }
}

/// What was received, to be appended: id, key, headers, content type and payload go along. What is no text of a header or
/// a key is written as text as far as that can be.
impl From<&Message> for Outgoing {
    fn from(message: &Message) -> Self {
        let lossy = |bytes: &Bytes| String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
        let mut outgoing = Self::new(message.body().cloned().unwrap_or_default());
        if !message.id().is_empty() {
            outgoing.id = message.id().into_owned();
        }
        outgoing.key =
            message.key().map(lossy).map(|key| key.trim_end().to_owned()).filter(|key| !key.is_empty());
        outgoing.headers = message.headers().map(|(name, value)| (name.to_owned(), lossy(value))).collect();
        outgoing.content_type = message.content_type().map(str::to_owned);
        outgoing
    }
}

impl std::fmt::Debug for Outgoing {
    /// Without the payload and the values of headers, which may be anybody's secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("id", &self.id)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_store_could_keep_is_refused_with_the_number() {
        let problem = |message: Outgoing| message.check(10).unwrap_err();
        Outgoing::text("0123456789").check(10).unwrap();
        assert!(problem(Outgoing::text("01234567890")).contains("has 11 bytes: at most 10"));
        assert!(problem(Outgoing::text("").key("")).contains("key of a message has 0 characters"));
        assert!(problem(Outgoing::text("").key("a ")).contains("ends in a space"));
        assert!(problem(Outgoing::text("").id("x".repeat(201))).contains("201 characters"));
        assert!(problem(Outgoing::text("").header("a", "\0")).contains("NUL"));
        assert!(problem(Outgoing::text("").header("a", "x".repeat(70_000))).contains("of headers"));
        assert!(problem(Outgoing::text("").time_to_live(Duration::MAX)).contains("time to live"));
        assert!(!format!("{:?}", Outgoing::text("secret")).contains("secret"));
    }
}
