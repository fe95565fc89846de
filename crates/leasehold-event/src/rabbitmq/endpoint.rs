//! The builder of a RabbitMQ endpoint, and the artifact that it makes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::Error;
use leasehold_core::artifact::{Artifact, ArtifactError};
use leasehold_core::dispatch::{self, Order, Place, RetryPolicy, Settings, Then};
use leasehold_core::handler::{Handler, SharedHandler};
use leasehold_core::lease::Lease;
use leasehold_core::name::{ArtifactKind, ArtifactName};
use leasehold_core::protocol::placement::Placement;
use leasehold_core::secret::Secret;
use uuid::Uuid;

use super::address::Address;
use super::config::{
    Argument, Binding, DeadLetter, Declare, Exchange, Fence, Key, QueueType, RabbitMqConfig,
};
use super::link::Route;
use super::source::Deliveries;
use crate::tls::Tls;

/// Describes the consumer of a queue; [`handler`](RabbitMq::handler) makes it an artifact. [`RabbitMqConfig`] is the same
/// from a file.
#[derive(Clone, Debug)]
pub struct RabbitMq {
    config: RabbitMqConfig,
    kind: ArtifactKind,
}

impl RabbitMq {
    /// Consumes `queue` of the broker at `url`, on one replica at a time.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn consume(
        name: impl AsRef<str>,
        url: impl Into<Secret>,
        queue: impl Into<String>,
    ) -> Result<Self, Error> {
        let config = RabbitMqConfig::new(ArtifactName::new(name)?, url, queue);
        Ok(Self { config, kind: ArtifactKind::new("event")? })
    }

    /// An endpoint that was read from a file.
    ///
    /// # Errors
    /// Those of [`RabbitMqConfig::validate`].
    pub fn from_config(config: RabbitMqConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self { config, kind: ArtifactKind::new("event")? })
    }

    /// Logs in as this user, whatever the URL says.
    #[must_use]
    pub fn login(mut self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        (self.config.user, self.config.password) = (Some(user.into()), Some(password.into()));
        self
    }

    /// Makes what is missing, and refuses what differs: the queue, durable, of this type, and what else is asked for. Only
    /// checks that the queue exists unless set.
    #[must_use]
    pub fn declare(mut self, queue_type: QueueType) -> Self {
        (self.config.declare, self.config.queue_type) = (Declare::Active, Some(queue_type));
        self
    }

    /// A further argument of the queue that is declared.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: Argument) -> Self {
        self.config.arguments.insert(name.into(), value);
        self
    }

    /// Declares a durable exchange with the queue.
    #[must_use]
    pub fn exchange(mut self, name: impl Into<String>, kind: impl Into<String>) -> Self {
        self.config.exchange = Some(Exchange { name: name.into(), kind: kind.into() });
        self
    }

    /// Binds the queue that is declared.
    #[must_use]
    pub fn bind(mut self, exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        self.config.bindings.push(Binding { exchange: exchange.into(), routing_key: routing_key.into() });
        self
    }

    /// How the broker keeps a second consumer away; [`Fence::Exclusive`] unless set.
    #[must_use]
    pub fn fence(mut self, fence: Fence) -> Self {
        self.config.fence = fence;
        self
    }

    /// How many messages are here unacknowledged at most; 100 unless set.
    #[must_use]
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.config.prefetch = prefetch;
        self
    }

    /// How many are handled at once, in which order; one at a time unless set.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.config.order = order;
        self
    }

    /// What [`Order::PerKey`] goes by; the routing key unless set.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.config.key = key;
        self
    }

    /// What becomes of what could not be handled; tried for ever, in place, unless set.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.config.retry = retry;
        self
    }

    /// How often a message is handled at most.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.config.retry.attempts = Some(attempts);
        self
    }

    /// What fails goes back to the queue after its pause, and others go first. Needs [`Order::Unordered`].
    #[must_use]
    pub fn requeue(mut self) -> Self {
        self.config.retry.place = Place::Requeue;
        self
    }

    /// What is rejected, or has failed for the last time, goes to this queue.
    #[must_use]
    pub fn dead_letter(self, queue: impl Into<String>) -> Self {
        self.dead_letter_by("", queue)
    }

    /// What is rejected, or has failed for the last time, goes to this exchange with this routing key.
    #[must_use]
    pub fn dead_letter_by(mut self, exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        let dead = DeadLetter { exchange: exchange.into(), routing_key: routing_key.into() };
        (self.config.dead_letter, self.config.retry.then) = (Some(dead), Then::DeadLetter);
        self
    }

    /// After so long without a sign of life the broker gives what this consumer has to the next; in whole seconds. The
    /// longer of 1 s and half the node's ttl unless set.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.config.heartbeat = Some(heartbeat);
        self
    }

    /// How long the broker may take for an answer; 10 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = timeout;
        self
    }

    /// How the broker is recognized, and this client proves itself, on `amqps://`.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// How the endpoint is placed; as the node's other artifacts unless set.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.config.placement = Some(placement);
        self
    }

    /// The same as it is written in a file.
    pub fn config(&self) -> &RabbitMqConfig {
        &self.config
    }

    /// The artifact that calls `handler` with each message. What was set is checked when the node starts.
    #[must_use]
    pub fn handler(self, handler: impl Handler) -> RabbitMqEndpoint {
        RabbitMqEndpoint { config: Arc::new(self.config), kind: self.kind, handler: Arc::new(handler) }
    }
}

/// A consumer with its handler: an artifact of kind `event`.
pub struct RabbitMqEndpoint {
    config: Arc<RabbitMqConfig>,
    kind: ArtifactKind,
    handler: SharedHandler,
}

#[async_trait]
impl Artifact for RabbitMqEndpoint {
    fn name(&self) -> &ArtifactName {
        &self.config.name
    }

    fn kind(&self) -> ArtifactKind {
        self.kind.clone()
    }

    fn placement(&self) -> Option<&Placement> {
        self.config.placement.as_ref()
    }

    fn fingerprint(&self) -> Uuid {
        self.config.fingerprint()
    }

    fn validate(&self) -> Result<(), Error> {
        self.config.validate()
    }

    async fn run(&self, lease: Lease) -> Result<(), ArtifactError> {
        let config = Arc::clone(&self.config);
        let heartbeat = config.heartbeat.unwrap_or_else(|| heartbeat(lease.ttl()));
        let route = Route {
            artifact: config.name.to_string(),
            address: Address::of(&config)?,
            tls: config.tls.clone(),
            heartbeat,
            timeout: config.timeout,
        };
        let settings =
            Settings { order: config.order, policy: config.retry, capacity: usize::from(config.prefetch) };
        let mut deliveries = Deliveries::new(config, route, lease.clone());
        dispatch::run(&mut deliveries, Arc::clone(&self.handler), &lease, settings).await
    }
}

/// The broker knows whole seconds only, and takes a client for dead after one to two of them.
fn heartbeat(ttl: Duration) -> Duration {
    Duration::from_secs((ttl / 2).as_secs().max(1))
}

impl fmt::Debug for RabbitMqEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqEndpoint").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heartbeat_is_half_the_ttl_in_whole_seconds_and_never_none() {
        let of = |ms| heartbeat(Duration::from_millis(ms)).as_secs();
        assert_eq!([500, 2_000, 5_000, 20_000].map(of), [1, 1, 2, 10]);
    }
}
