//! The builder of a Kafka endpoint, and the artifact that it makes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::Error;
use leasehold_core::artifact::{Artifact, ArtifactError};
use leasehold_core::dispatch::{self, Order, RetryPolicy, Settings, Then};
use leasehold_core::handler::{Handler, SharedHandler};
use leasehold_core::lease::Lease;
use leasehold_core::name::{ArtifactKind, ArtifactName};
use leasehold_core::protocol::placement::Placement;
use leasehold_core::secret::Secret;
use uuid::Uuid;

use super::config::{KafkaConfig, Key, Mechanism, Offsets, Protocol, Sasl, Start};
use super::once::Once;
use super::source::Topics;
use crate::tls::Tls;

/// Describes the consumer of topics; [`handler`](Kafka::handler) makes it an artifact. [`KafkaConfig`] is the same from a
/// file.
#[derive(Clone, Debug)]
pub struct Kafka {
    config: KafkaConfig,
    kind: ArtifactKind,
}

impl Kafka {
    /// Consumes topics of the brokers at `host:port`, separated by commas, on one replica at a time. A topic that begins
    /// with `^` is a regular expression.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn consume(
        name: impl AsRef<str>,
        brokers: impl Into<String>,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, Error> {
        let config = KafkaConfig::new(ArtifactName::new(name)?, brokers, topics);
        Ok(Self { config, kind: ArtifactKind::new("event")? })
    }

    /// An endpoint that was read from a file.
    ///
    /// # Errors
    /// Those of [`KafkaConfig::validate`].
    pub fn from_config(config: KafkaConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self { config, kind: ArtifactKind::new("event")? })
    }

    /// The consumer group; the endpoint's name unless set.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.config.group = Some(group.into());
        self
    }

    /// Which protocol the group is shared by; [`Protocol::Classic`] unless set.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.config.protocol = protocol;
        self
    }

    /// Where it is kept how far the endpoint has come; [`Offsets::AtBroker`] unless set.
    #[must_use]
    pub fn offsets(mut self, offsets: Offsets) -> Self {
        self.config.offsets = offsets;
        self
    }

    /// Where a group begins that has come nowhere yet; [`Start::Earliest`] unless set.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.config.start = start;
        self
    }

    /// How many messages are handled at once, in which order; one at a time unless set.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.config.order = order;
        self
    }

    /// What [`Order::PerKey`] goes by; the message's key unless set.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.config.key = key;
        self
    }

    /// How many messages come again after a crash at most; 1000 unless set.
    #[must_use]
    pub fn max_in_flight(mut self, most: usize) -> Self {
        self.config.max_in_flight = most;
        self
    }

    /// How often offsets are committed at least, if there is something to commit; each second unless set.
    #[must_use]
    pub fn commit_every(mut self, interval: Duration) -> Self {
        self.config.commit = interval;
        self
    }

    /// After so long without a sign of life the broker takes this consumer for dead; 45 s unless set.
    #[must_use]
    pub fn session(mut self, timeout: Duration) -> Self {
        self.config.session = timeout;
        self
    }

    /// What becomes of what could not be handled; tried for ever, in place, unless set.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.config.retry = retry;
        self
    }

    /// How often a message is handled at most. Kafka counts no attempts: after a failover it is the first again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.config.retry.attempts = Some(attempts);
        self
    }

    /// What is rejected, or has failed for the last time, goes to this topic.
    #[must_use]
    pub fn dead_letter(mut self, topic: impl Into<String>) -> Self {
        (self.config.dead_letter, self.config.retry.then) = (Some(topic.into()), Then::DeadLetter);
        self
    }

    /// How long the broker may take for an answer; 10 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = timeout;
        self
    }

    /// Logs in.
    #[must_use]
    pub fn sasl(
        mut self,
        mechanism: Mechanism,
        user: impl Into<String>,
        password: impl Into<Secret>,
    ) -> Self {
        self.config.sasl = Some(Sasl { mechanism, user: user.into(), password: password.into() });
        self
    }

    /// TLS; needs the feature `kafka-ssl`.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// A further setting of librdkafka.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.properties.insert(name.into(), value.into());
        self
    }

    /// How the endpoint is placed; as the node's other artifacts unless set.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.config.placement = Some(placement);
        self
    }

    /// The same as it is written in a file.
    pub fn config(&self) -> &KafkaConfig {
        &self.config
    }

    /// The artifact that calls `handler` with each message. What was set is checked when the node starts.
    #[must_use]
    pub fn handler(self, handler: impl Handler) -> KafkaEndpoint {
        KafkaEndpoint { config: Arc::new(self.config), kind: self.kind, handler: Arc::new(handler) }
    }
}

/// A consumer with its handler: an artifact of kind `event`.
pub struct KafkaEndpoint {
    config: Arc<KafkaConfig>,
    kind: ArtifactKind,
    handler: SharedHandler,
}

#[async_trait]
impl Artifact for KafkaEndpoint {
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
        let config = &self.config;
        let settings = Settings { order: config.order, policy: config.retry, capacity: config.max_in_flight };
        let mut topics = Topics::new(Arc::clone(config), lease.clone())?;
        let mut handler = Arc::clone(&self.handler);
        if config.offsets == Offsets::InDatabase {
            handler = Arc::new(Once::new(handler));
        }
        dispatch::run(&mut topics, handler, &lease, settings).await
    }
}

impl fmt::Debug for KafkaEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaEndpoint").field("config", &self.config).finish_non_exhaustive()
    }
}
