//! What a dead letter says of itself, in its headers.

#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
pub(crate) use leasehold_core::dead::Why;
pub use leasehold_core::dead::{ARTIFACT, ATTEMPTS, REASON, SOURCE};

/// The token of its lease.
pub const TOKEN: &str = "x-leasehold-token";
/// RabbitMQ: the exchange that it was published to.
pub const EXCHANGE: &str = "x-leasehold-exchange";
/// RabbitMQ: the routing key that it was published with.
pub const ROUTING_KEY: &str = "x-leasehold-routing-key";

/// The headers of a dead letter, but for those of one broker.
#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
pub(crate) fn headers(why: &Why<'_>) -> impl Iterator<Item = (&'static str, String)> {
    why.headers().into_iter().chain([(TOKEN, why.lease.token().to_string())])
}
