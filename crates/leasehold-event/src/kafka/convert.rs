//! From a Kafka message to ours, and back.

use std::sync::Arc;

use leasehold_core::bytes::Bytes;
use leasehold_core::message::{Message, MessageId, Parts, Progress};
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};

/// The header that names a message's media type, as most clients write it.
const CONTENT_TYPE: &str = "content-type";

/// The message; `source` is topic and partition. Kafka does not count attempts.
pub(super) fn message(
    from: &BorrowedMessage<'_>,
    source: &Arc<str>,
    progress: Option<Arc<Progress>>,
) -> Message {
    let mut headers = Vec::new();
    if let Some(known) = from.headers() {
        headers.reserve(known.count());
        for Header { key, value } in known.iter() {
            headers.push((key.into(), Bytes::copy_from_slice(value.unwrap_or_default())));
        }
    }
    let text = |value: &Bytes| std::str::from_utf8(value).ok().map(Arc::from);
    let kind = headers.iter().find(|(name, _): &&(Arc<str>, Bytes)| &**name == CONTENT_TYPE);
    let content_type = kind.and_then(|(_, value)| text(value));
    let parts = Parts {
        id: MessageId::Position(from.offset().unsigned_abs()),
        key: from.key().map(Bytes::copy_from_slice),
        headers,
        content_type,
        body: from.payload().map(Bytes::copy_from_slice),
        source: Arc::clone(source),
        progress,
        native: None,
    };
    Message::new(parts, 1)
}

/// The headers of a message, and further ones.
pub(super) fn headers<'a>(
    message: &Message,
    more: impl IntoIterator<Item = (&'a str, String)>,
) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    for (key, value) in message.headers() {
        headers = headers.insert(Header { key, value: Some(&value[..]) });
    }
    for (key, value) in more {
        headers = headers.insert(Header { key, value: Some(value.as_bytes()) });
    }
    headers
}
