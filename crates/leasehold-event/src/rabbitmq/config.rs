//! A RabbitMQ endpoint as it is written in a file.

use std::collections::BTreeMap;
use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::dispatch::{Order, Place, RetryPolicy, Then};
use leasehold_core::duration;
use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::placement::Placement;
use leasehold_core::secret::Secret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::address::Address;
use super::publish;
use crate::tls::Tls;

/// Enough that the next messages are here while some are handled, few enough that little comes again after a crash.
pub const DEFAULT_PREFETCH: u16 = 100;
/// A broker in another region answers within this; one that says nothing for so long is taken for dead.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause before connecting again: a broker that restarts is asked again soon,
pub const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// and one that stays away is asked often enough that its return is noticed within seconds.
pub const RECONNECT_LONGEST: Duration = Duration::from_secs(5);
/// Longer ones are a mistake in the unit.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// What AMQP allows for names.
const MAX_NAME: usize = 255;

/// Whether the endpoint makes what it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Declare {
    /// Only checks that the queue exists.
    #[default]
    Passive,
    /// Declares queue, exchange, bindings and dead-letter queue: makes what is missing, refuses what differs.
    Active,
}

/// The type of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueType {
    /// On one node of the broker.
    Classic,
    /// Replicated; counts deliveries.
    Quorum,
}

/// How the broker keeps a second consumer away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fence {
    /// The consumer is exclusive: the broker refuses a second one while the first one's connection lives.
    #[default]
    Exclusive,
    /// The queue has `x-single-active-consumer`: a second one waits until the first one's connection is gone, so that order
    /// is kept across a freeze, too. With [`Declare::Passive`] nobody checks that the queue has it: without it this is
    /// [`Fence::None`].
    SingleActive,
    /// Others may consume beside this endpoint.
    None,
}

/// What the order of messages goes by under [`Order::PerKey`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// The routing key.
    #[default]
    RoutingKey,
    /// The property `correlation_id`.
    CorrelationId,
    /// The header of this name.
    Header(String),
}

/// An exchange to declare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// Its type: `direct`, `fanout`, `topic`, `headers` or one of a plugin.
    pub kind: String,
}

/// A binding of the queue to declare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// The routing key or pattern; empty unless set.
    #[serde(default)]
    pub routing_key: String,
}

/// Where messages go that are not handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeadLetter {
    /// The exchange; the default one, which brings them to the queue named by the routing key, unless set.
    #[serde(default)]
    pub exchange: String,
    /// The routing key: on the default exchange the queue.
    pub routing_key: String,
}

/// An argument of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Argument {
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// A RabbitMQ endpoint as it is written in a file; the twin of [`RabbitMq`](super::RabbitMq).
///
/// ```toml
/// name = "orders-in"
/// url = "amqp://broker/%2f"              # or { env = "AMQP_URL" }, { file = "/run/secrets/amqp" }
/// # user = "shop"                        # instead of the one in the URL
/// # password = { env = "AMQP_PASSWORD" }
/// queue = "orders"
/// declare = "passive"                    # or "active": makes what is missing, refuses what differs
/// # queue-type = "quorum"                # or "classic"; the rest of the queue is for declare = "active"
/// # arguments = { x-max-length = 100000 }
/// # exchange = { name = "shop", kind = "topic" }
/// # bindings = [{ exchange = "shop", routing-key = "order.*" }]
/// fence = "exclusive"                    # or "single-active", "none"
/// prefetch = 100
/// order = { per-key = 16 }               # or "ordered", { unordered = 16 }
/// key = "routing-key"                    # or "correlation-id", { header = "customer" }
/// retry = { attempts = 8, backoff = "1s", max-backoff = "1m", place = "in-place", then = "dead-letter" }
/// dead-letter = { routing-key = "orders.dead" }
/// # heartbeat = "2s"                     # the longer of 1 s and half the node's ttl unless set
/// timeout = "10s"                        # of whatever the broker is asked
/// # tls = { ca = "ca.pem", certificate = "client.pem", key = "client.key" }
/// # placement = { resolver = "round-robin" }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RabbitMqConfig {
    /// The artifact's name, unique in the cluster.
    pub name: ArtifactName,
    /// Where the broker is: `amqp://` or `amqps://`, with the virtual host as path (`%2f` is the default one).
    pub url: Secret,
    /// The user, instead of the one in the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The password, instead of the one in the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The queue.
    pub queue: String,
    /// Whether the endpoint makes what it needs; only checks unless set.
    #[serde(default)]
    pub declare: Declare,
    /// The queue's type; the broker's default unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_type: Option<QueueType>,
    /// Further arguments of the queue.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, Argument>,
    /// The exchange that is declared with it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// How the queue is bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
    /// How the broker keeps a second consumer away; [`Fence::Exclusive`] unless set.
    #[serde(default)]
    pub fence: Fence,
    /// How many messages are here unacknowledged at most; [`DEFAULT_PREFETCH`] unless set.
    #[serde(default = "prefetch")]
    pub prefetch: u16,
    /// How many are handled at once, in which order; one at a time unless set.
    #[serde(default)]
    pub order: Order,
    /// What that order goes by; the routing key unless set.
    #[serde(default)]
    pub key: Key,
    /// What becomes of what could not be handled; tried for ever, in place, unless set.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Where messages go for which that is `dead-letter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// After so long without a sign of life the broker takes this consumer for dead, and gives what it has to the next. In
    /// whole seconds; the longer of 1 s and half the node's ttl unless set.
    #[serde(default, with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Duration>,
    /// How long the broker may take for an answer; [`DEFAULT_TIMEOUT`] unless set.
    #[serde(default = "timeout", with = "duration::serde")]
    pub timeout: Duration,
    /// For `amqps://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How it is placed; as the node's other artifacts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

fn prefetch() -> u16 {
    DEFAULT_PREFETCH
}

fn timeout() -> Duration {
    DEFAULT_TIMEOUT
}

impl RabbitMqConfig {
    /// An endpoint with the defaults.
    pub fn new(name: ArtifactName, url: impl Into<Secret>, queue: impl Into<String>) -> Self {
        Self {
            name,
            url: url.into(),
            user: None,
            password: None,
            queue: queue.into(),
            declare: Declare::default(),
            queue_type: None,
            arguments: BTreeMap::new(),
            exchange: None,
            bindings: Vec::new(),
            fence: Fence::default(),
            prefetch: prefetch(),
            order: Order::default(),
            key: Key::default(),
            retry: RetryPolicy::default(),
            dead_letter: None,
            heartbeat: None,
            timeout: timeout(),
            tls: None,
            placement: None,
        }
    }

    /// Checks that the values can work. Connects to nothing.
    ///
    /// # Errors
    /// [`Error::Artifact`] naming the endpoint, the field, its value and the remedy.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(self.problem(problem));
        Address::of(self)?;
        if self.queue.is_empty() || self.queue.len() > MAX_NAME {
            return refuse(format!(
                "queue {:?} has {} bytes: give 1 to {MAX_NAME}",
                self.queue,
                self.queue.len()
            ));
        }
        if self.prefetch == 0 {
            return refuse("prefetch 0 would be without bound: give 1 to 65535".to_owned());
        }
        if let Err(problem) = self.order.validate() {
            return refuse(format!("order {problem}"));
        }
        if self.order.at_once() > usize::from(self.prefetch) {
            return refuse(format!(
                "order asks for {} at once, and prefetch brings {}: raise prefetch, or lower order",
                self.order.at_once(),
                self.prefetch
            ));
        }
        self.names()?;
        self.failures()?;
        self.declaration()?;
        if let Some(heartbeat) = self.heartbeat
            && (heartbeat < Duration::from_secs(1)
                || heartbeat.subsec_nanos() != 0
                || heartbeat.as_secs() > 60)
        {
            return refuse(format!("heartbeat {heartbeat:?} is out of range: give 1 to 60 whole seconds"));
        }
        if self.timeout < Duration::from_millis(100) || self.timeout > MAX_TIMEOUT {
            return refuse(format!(
                "timeout {:?} is out of range: give 100ms to {MAX_TIMEOUT:?}",
                self.timeout
            ));
        }
        self.tls.as_ref().map_or(Ok(()), |tls| tls.validate(self.name.as_str()))
    }

    /// AMQP's names are short.
    fn names(&self) -> Result<(), Error> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        if let Some(dead) = &self.dead_letter {
            names.extend([
                ("dead-letter exchange", dead.exchange.as_str()),
                ("dead-letter routing-key", &dead.routing_key),
            ]);
        }
        if let Some(exchange) = &self.exchange {
            names.extend([("exchange name", exchange.name.as_str()), ("exchange kind", &exchange.kind)]);
        }
        for Binding { exchange, routing_key } in &self.bindings {
            names.extend([("bindings exchange", exchange.as_str()), ("bindings routing-key", routing_key)]);
        }
        names.extend(self.arguments.keys().map(|name| ("arguments", name.as_str())));
        if let Some((field, name)) = names.into_iter().find(|(_, name)| name.len() > MAX_NAME) {
            let bytes = name.len();
            return Err(self.problem(format!("{field} {name:?} has {bytes} bytes: give at most {MAX_NAME}")));
        }
        let most = MAX_NAME - publish::SUFFIX;
        if self.retry.place == Place::Requeue && self.queue.len() > most {
            return Err(self.problem(format!(
                "queue {:?} has {} bytes: retry place requeue has queues named after it, so give at most {most}",
                self.queue,
                self.queue.len()
            )));
        }
        Ok(())
    }

    fn failures(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(self.problem(problem));
        if let Err(problem) = self.retry.validate() {
            return refuse(problem);
        }
        if self.retry.then == Then::DeadLetter && self.dead_letter.is_none() {
            return refuse("retry then dead-letter has no destination: give dead-letter".to_owned());
        }
        if self.dead_letter.is_some() && self.retry.then != Then::DeadLetter {
            return refuse(
                "dead-letter would never be used: set retry then to dead-letter, or leave it out".to_owned(),
            );
        }
        // The default exchange brings to the queue of that name.
        if let Some(dead) = &self.dead_letter
            && dead.exchange.is_empty()
            && dead.routing_key == self.queue
        {
            return refuse(format!(
                "dead-letter {:?} is the queue itself: what cannot be handled would come back for ever; give another queue",
                self.queue
            ));
        }
        if self.retry.place == Place::Requeue && !self.order.allows_requeue() {
            return refuse(
                "retry place requeue breaks the order that is asked for: use in-place, or order unordered"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn declaration(&self) -> Result<(), Error> {
        let refuse = |problem: &str| Err(self.problem(problem.to_owned()));
        if self.declare == Declare::Passive {
            if self.queue_type.is_some() || !self.arguments.is_empty() {
                return refuse("queue-type and arguments have no effect unless declare is active");
            }
            if self.exchange.is_some() || !self.bindings.is_empty() {
                return refuse("exchange and bindings have no effect unless declare is active");
            }
        }
        if self.arguments.contains_key("x-queue-type") {
            return refuse("arguments x-queue-type: give queue-type instead");
        }
        Ok(())
    }

    fn problem(&self, problem: String) -> Error {
        Error::artifact(self.name.as_str(), problem)
    }

    /// The same for the same configuration, on whichever node. A secret is no part of it, the broker's address is.
    pub(crate) fn fingerprint(&self) -> Uuid {
        let address = Address::of(self).map(|address| address.to_string()).unwrap_or_default();
        let text = serde_json::to_string(self).unwrap_or_default() + &address;
        Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
    }
}
