//! Rows of the tables, as values.

use std::fmt;
use std::sync::Arc;

use leasehold_core::bytes::Bytes;
use leasehold_core::message::{Message, MessageId, Parts};
use sea_orm::{QueryResult, TryGetable, Value};

use super::SqlStore;
use super::scan::MOST_BYTES;
use crate::error::Error;

/// The place of a message in its store.
pub(super) type StoredId = i64;

/// A larger payload, in bytes, is not read with its page, but by itself when its turn comes: a page is bounded whatever is in it.
pub(super) const LARGE: usize = 16 * 1024;

/// A message as it was read.
pub(super) struct Row {
    pub(super) id: StoredId,
    pub(super) key: Option<Arc<str>>,
    pub(super) attempts: u32,
    /// Its last attempt was recorded before it was made, and nobody has told how that ended.
    pub(super) is_suspect: bool,
    /// Those of its key that were appended in order before it are there when it is.
    pub(super) is_ordered: bool,
    pub(super) due: Option<i64>,
    pub(super) expires: Option<i64>,
    /// In milliseconds since 1970, by the database's clock.
    pub(super) appended: i64,
    /// The length of its payload, if that is large.
    pub(super) bytes: u64,
    /// Its payload is here.
    pub(super) is_whole: bool,
    parts: Parts,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("id", &self.id).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Row {
    pub(super) fn read(store: &SqlStore, row: &QueryResult) -> Result<Self, Error> {
        let key: Option<String> = get(store, row, "order_key")?;
        let (attempts, ordered): (i64, i64) = (get(store, row, "attempts")?, get(store, row, "ordered")?);
        let (message, headers): (String, String) = (get(store, row, "message")?, get(store, row, "headers")?);
        let (body, bytes): (Option<Vec<u8>>, i64) = (get(store, row, "body")?, get(store, row, "bytes")?);
        let is_whole = body.is_some();
        let content_type: Option<String> = get(store, row, "content_type")?;
        let error: Option<String> = get(store, row, "error")?;
        let headers = headers_of(&headers).into_iter();
        let parts = Parts {
            id: MessageId::Text(message.into()),
            key: key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes())),
            headers: headers.map(|(name, value)| (name.into(), Bytes::from(value))).collect(),
            content_type: content_type.map(Arc::from),
            body: body.map(Bytes::from),
            source: Arc::clone(&store.name),
            progress: None,
            native: None,
        };
        Ok(Self {
            id: get(store, row, "id")?,
            key: key.map(Arc::from),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            is_suspect: attempts > 0 && error.is_none(),
            is_ordered: ordered > 0,
            due: get(store, row, "due")?,
            expires: get(store, row, "expires")?,
            appended: get(store, row, "appended_at")?,
            bytes: if is_whole { 0 } else { u64::try_from(bytes).unwrap_or(0) },
            is_whole,
            parts,
        })
    }

    /// Whether it can be handed over while so many bytes of large payloads are in flight.
    pub(super) fn fits(&self, in_flight: u64) -> bool {
        self.is_whole && (self.bytes == 0 || in_flight == 0 || in_flight + self.bytes <= MOST_BYTES)
    }

    /// Its payload has come.
    pub(super) fn fill(&mut self, body: Vec<u8>) {
        self.parts.body = Some(body.into());
        self.is_whole = true;
    }

    /// Of this id, key and time, and nothing else.
    #[cfg(test)]
    pub(super) fn of(id: StoredId, key: Option<String>, due: Option<i64>) -> Self {
        let parts = Parts {
            id: MessageId::Text(id.to_string().into()),
            key: None,
            headers: Vec::new(),
            content_type: None,
            body: None,
            source: "test".into(),
            progress: None,
            native: None,
        };
        Self {
            id,
            key: key.map(Arc::from),
            attempts: 0,
            is_suspect: false,
            is_ordered: false,
            due,
            expires: None,
            appended: 0,
            bytes: 0,
            is_whole: true,
            parts,
        }
    }

    /// As it is handed over: an attempt more than those that have failed.
    pub(super) fn message(self) -> Message {
        Message::new(self.parts, self.attempts.saturating_add(1))
    }

    /// The id that its sender gave it.
    pub(super) fn name(&self) -> String {
        match &self.parts.id {
            MessageId::Text(id) => id.to_string(),
            _ => String::new(),
        }
    }
}

/// What cannot be read was written by nobody of ours: no headers are better than no message.
pub(super) fn headers_of(text: &str) -> Vec<(String, String)> {
    if text == "[]" { Vec::new() } else { serde_json::from_str(text).unwrap_or_default() }
}

pub(super) fn get<T: TryGetable>(
    store: &SqlStore,
    row: &QueryResult,
    column: &'static str,
) -> Result<T, Error> {
    row.try_get("", column).map_err(|error| store.failed("read a row", error))
}

pub(super) fn number(n: impl TryInto<i64>) -> Value {
    n.try_into().unwrap_or(i64::MAX).into()
}

/// Ids as one parameter.
pub(super) fn list(ids: impl IntoIterator<Item = StoredId>) -> Value {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(",").into()
}
