//! From a Kafka message to ours, and back.

use std::panic::{AssertUnwindSafe, catch_unwind};
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
    let (headers, unreadable) = from.headers().map(readable).unwrap_or_default();
    if unreadable > 0 {
        let offset = from.offset();
        tracing::warn!(%source, offset, unreadable, "a message comes without the headers whose names are not UTF-8");
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

/// The headers that have a name, and how many have none that can be read: the client panics at names that are not UTF-8,
/// which Kafka allows, and one such message would end every holder's thread.
fn readable(known: &impl Headers) -> (Vec<(Arc<str>, Bytes)>, usize) {
    let (count, mut headers) = (known.count(), Vec::new());
    headers.reserve(count);
    for index in 0..count {
        // Nothing is half-done when it panics: it only looks.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let Header { key, value } = known.try_get(index)?;
            Some((key.into(), Bytes::copy_from_slice(value.unwrap_or_default())))
        }));
        headers.extend(read.ok().flatten());
    }
    let unreadable = count - headers.len();
    (headers, unreadable)
}

/// The headers of a message, and further ones.
pub(super) fn headers<'a>(
    message: &Message,
    more: impl IntoIterator<Item = (&'a str, String)>,
) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    // A name with a zero in it, which another broker may have brought, is none in Kafka.
    for (key, value) in message.headers().filter(|(key, _)| !key.contains('\0')) {
        headers = headers.insert(Header { key, value: Some(&value[..]) });
    }
    for (key, value) in more {
        headers = headers.insert(Header { key, value: Some(value.as_bytes()) });
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the client's, when the second of three names is not UTF-8.
    struct Foreign;

    impl Headers for Foreign {
        fn count(&self) -> usize {
            3
        }

        fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
            assert_ne!(index, 1, "not UTF-8");
            let key = if index == 0 { "a" } else { "b" };
            Some(Header { key, value: Some(b"1") })
        }
    }

    #[test]
    fn a_name_that_is_not_utf_8_costs_its_header_and_not_the_message() {
        let (headers, unreadable) = readable(&Foreign);
        let names: Vec<&str> = headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!((names, unreadable), (vec!["a", "b"], 1));
    }
}
