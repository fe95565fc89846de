//! From a delivery to a message, and back.

use std::sync::Arc;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use leasehold_core::bytes::Bytes;
use leasehold_core::message::{Message, MessageId, Parts};

use super::config::Key;

/// How often a message was handed over before it was put back, in its headers.
pub(super) const ATTEMPTS: &str = "x-leasehold-attempts";
/// Where the broker notes which queues a message was dead-lettered from, why and how often.
const DEATHS: &str = "x-death";
/// Where quorum queues count deliveries.
const DELIVERIES: &str = "x-delivery-count";

/// What of a delivery is needed to publish it again as it was.
pub(crate) struct Native {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
}

impl Native {
    pub(crate) fn of(message: &Message) -> Option<&Self> {
        message.parts().native.as_ref()?.downcast_ref()
    }
}

/// The message that a delivery brings. `source` is the queue.
pub(crate) fn message(delivery: Delivery, key: &Key, source: &Arc<str>) -> Message {
    let Delivery { exchange, routing_key, redelivered, properties, data, .. } = delivery;
    let attempt = attempt(&properties, redelivered, source);
    let headers = properties.headers().as_ref().map(headers).unwrap_or_default();
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let key = match key {
        Key::RoutingKey => Some(text(routing_key.as_str())),
        Key::CorrelationId => properties.correlation_id().as_ref().map(|id| text(id.as_str())),
        Key::Header(name) => {
            headers.iter().find(|(known, _)| **known == **name).map(|(_, value)| value.clone())
        }
    };
    let id = match properties.message_id() {
        Some(id) => MessageId::Text(id.as_str().into()),
        None => MessageId::Unknown,
    };
    let native = Native { exchange, routing_key, properties };
    let content_type = native.properties.content_type().as_ref().map(|kind| kind.as_str().into());
    let parts = Parts {
        id,
        key,
        headers,
        content_type,
        body: Some(data.into()),
        source: Arc::clone(source),
        progress: None,
        native: Some(Box::new(native)),
    };
    Message::new(parts, attempt)
}

/// Which attempt it is, as far as the broker tells: what we noted when we put it back, or how often it was dead-lettered
/// from this queue and came back by a topology of the user's; and its deliveries since.
fn attempt(properties: &BasicProperties, redelivered: bool, queue: &str) -> u32 {
    let header = |name| properties.headers().as_ref()?.inner().get(name);
    let noted = header(ATTEMPTS)
        .and_then(number)
        .unwrap_or(0)
        .max(header(DEATHS).map_or(0, |deaths| died(deaths, queue)));
    let since = header(DELIVERIES).and_then(number).unwrap_or(0).max(i64::from(redelivered));
    u32::try_from(noted.saturating_add(since).saturating_add(1)).unwrap_or(u32::MAX)
}

/// How often it was rejected from this queue, by the broker's record.
fn died(deaths: &AMQPValue, queue: &str) -> i64 {
    let AMQPValue::FieldArray(deaths) = deaths else { return 0 };
    let of = |death: &AMQPValue| {
        let AMQPValue::FieldTable(death) = death else { return None };
        let is = |name: &str, wanted: &[u8]| matches!(death.inner().get(name), Some(AMQPValue::LongString(text)) if text.as_bytes() == wanted);
        let rejected =
            is("queue", queue.as_bytes()) && (is("reason", b"rejected") || is("reason", b"delivery_limit"));
        rejected.then(|| death.inner().get("count").and_then(number)).flatten()
    };
    deaths.as_slice().iter().filter_map(of).sum()
}

fn number(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(n) => i64::from(*n),
        AMQPValue::ShortShortUInt(n) => i64::from(*n),
        AMQPValue::ShortInt(n) => i64::from(*n),
        AMQPValue::ShortUInt(n) => i64::from(*n),
        AMQPValue::LongInt(n) => i64::from(*n),
        AMQPValue::LongUInt(n) => i64::from(*n),
        AMQPValue::LongLongInt(n) => *n,
        _ => return None,
    })
}

/// Texts and bytes as they are, numbers as text; tables and arrays are left to who asks RabbitMQ for them.
fn headers(table: &FieldTable) -> Vec<(Arc<str>, Bytes)> {
    let value = |value: &AMQPValue| {
        Some(match value {
            AMQPValue::LongString(text) => Bytes::copy_from_slice(text.as_bytes()),
            AMQPValue::ShortString(text) => Bytes::copy_from_slice(text.as_str().as_bytes()),
            AMQPValue::ByteArray(bytes) => Bytes::copy_from_slice(bytes.as_slice()),
            AMQPValue::Boolean(flag) => Bytes::from_static(if *flag { b"true" } else { b"false" }),
            AMQPValue::Float(n) => n.to_string().into(),
            AMQPValue::Double(n) => n.to_string().into(),
            AMQPValue::Timestamp(n) => n.to_string().into(),
            other => number(other)?.to_string().into(),
        })
    };
    let read = |(name, known): (&_, _)| {
        let name: &ShortString = name;
        Some((name.as_str().into(), value(known)?))
    };
    table.inner().iter().filter_map(read).collect()
}

/// What is known of the attempts to handle a message: nothing for others, whom it goes on to.
pub(super) const HISTORY: [&str; 2] = [ATTEMPTS, DEATHS];

/// The properties of a message with further headers, and without those. The deliveries that a quorum queue counted are left
/// out always: where the message goes it is new, and what was noted has them in it.
pub(crate) fn with_headers(
    properties: &BasicProperties,
    without: &[&str],
    more: impl IntoIterator<Item = (&'static str, AMQPValue)>,
) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in properties.headers().iter().flat_map(|known| known.inner()) {
        if name.as_str() != DELIVERIES && !without.contains(&name.as_str()) {
            table.insert(name.clone(), value.clone());
        }
    }
    for (name, value) in more {
        table.insert(name.into(), value);
    }
    // An expiration of its own would let it vanish from where it goes.
    let mut kept = properties.clone().with_headers(table);
    if properties.expiration().is_some() {
        kept = without_expiration(&kept);
    }
    kept
}

fn without_expiration(properties: &BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default();
    if let Some(value) = properties.content_type() {
        kept = kept.with_content_type(value.clone());
    }
    if let Some(value) = properties.content_encoding() {
        kept = kept.with_content_encoding(value.clone());
    }
    if let Some(value) = properties.headers() {
        kept = kept.with_headers(value.clone());
    }
    if let Some(value) = properties.delivery_mode() {
        kept = kept.with_delivery_mode(*value);
    }
    if let Some(value) = properties.priority() {
        kept = kept.with_priority(*value);
    }
    if let Some(value) = properties.correlation_id() {
        kept = kept.with_correlation_id(value.clone());
    }
    if let Some(value) = properties.reply_to() {
        kept = kept.with_reply_to(value.clone());
    }
    if let Some(value) = properties.message_id() {
        kept = kept.with_message_id(value.clone());
    }
    if let Some(value) = properties.timestamp() {
        kept = kept.with_timestamp(*value);
    }
    if let Some(value) = properties.kind() {
        kept = kept.with_type(value.clone());
    }
    if let Some(value) = properties.app_id() {
        kept = kept.with_app_id(value.clone());
    }
    kept
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    fn attempt_of(entries: &[(&str, AMQPValue)], redelivered: bool) -> u32 {
        attempt(&BasicProperties::default().with_headers(table(entries)), redelivered, "in")
    }

    #[test]
    fn attempts_are_what_was_noted_or_died_and_the_deliveries_since() {
        assert_eq!(attempt_of(&[], false), 1);
        assert_eq!(attempt_of(&[], true), 2);
        assert_eq!(attempt_of(&[(DELIVERIES, AMQPValue::LongLongInt(3))], true), 4);
        let noted = (ATTEMPTS, AMQPValue::LongLongInt(5));
        assert_eq!(attempt_of(std::slice::from_ref(&noted), false), 6);
        assert_eq!(attempt_of(&[noted, (DELIVERIES, AMQPValue::LongInt(1))], true), 7);
        let death = |queue: &str, reason: &str, count| {
            let text = |text: &str| AMQPValue::LongString(text.into());
            let entries =
                [("queue", text(queue)), ("reason", text(reason)), ("count", AMQPValue::LongLongInt(count))];
            AMQPValue::FieldTable(table(&entries))
        };
        let mut deaths = FieldArray::default();
        deaths.push(death("in", "rejected", 2));
        deaths.push(death("in.wait", "expired", 2));
        assert_eq!(attempt_of(&[(DEATHS, AMQPValue::FieldArray(deaths))], false), 3);
    }
    #[test]
    fn what_is_put_back_counts_its_attempts_once_and_what_goes_on_tells_nothing_of_them() {
        let number = AMQPValue::LongLongInt;
        let came = table(&[(DELIVERIES, number(3)), (DEATHS, number(1)), ("customer", number(7))]);
        let came = BasicProperties::default().with_headers(came);
        let back = with_headers(&came, &[], [(ATTEMPTS, number(4))]);
        assert_eq!(attempt(&back, false, "in"), 5);
        let on = with_headers(&back, &HISTORY, [("more", number(1))]);
        assert_eq!(on.headers(), &Some(table(&[("customer", number(7)), ("more", number(1))])));
    }
}
