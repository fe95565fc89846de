//! What a dead letter says of itself, in its headers.

use leasehold_core::lease::Lease;

/// What the handler said.
pub const REASON: &str = "x-leasehold-reason";
/// How often the message was handed over.
pub const ATTEMPTS: &str = "x-leasehold-attempts";
/// The queue, or topic, partition and offset, that it was taken from.
pub const SOURCE: &str = "x-leasehold-source";
/// The artifact that put it here.
pub const ARTIFACT: &str = "x-leasehold-artifact";
/// The token of its lease.
pub const TOKEN: &str = "x-leasehold-token";
/// RabbitMQ: the exchange that it was published to.
pub const EXCHANGE: &str = "x-leasehold-exchange";
/// RabbitMQ: the routing key that it was published with.
pub const ROUTING_KEY: &str = "x-leasehold-routing-key";

/// The longest reason that is sent along, in bytes: a header is no place for a stack trace.
const MAX_REASON: usize = 2_000;

/// Why a message is a dead letter.
#[cfg_attr(not(any(feature = "rabbitmq", feature = "kafka")), expect(dead_code, reason = "no broker"))]
pub(crate) struct Why<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) attempts: u32,
    pub(crate) reason: &'a str,
    pub(crate) source: &'a str,
}

#[cfg_attr(not(any(feature = "rabbitmq", feature = "kafka")), expect(dead_code, reason = "no broker"))]
impl Why<'_> {
    pub(crate) fn headers(&self) -> [(&'static str, String); 5] {
        [
            (REASON, self.reason[..self.reason.floor_char_boundary(MAX_REASON)].to_owned()),
            (ATTEMPTS, self.attempts.to_string()),
            (SOURCE, self.source.to_owned()),
            (ARTIFACT, self.lease.artifact().to_string()),
            (TOKEN, self.lease.token().to_string()),
        ]
    }
}
