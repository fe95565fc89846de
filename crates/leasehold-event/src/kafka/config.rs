//! A Kafka endpoint as it is written in a file.

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

use super::client;
use crate::tls::Tls;

/// Enough to keep handlers busy between two commits, few enough that little comes again after a crash.
pub const DEFAULT_IN_FLIGHT: usize = 1_000;
/// More than this is memory that nobody bounded.
pub const MAX_IN_FLIGHT: usize = 1_000_000;
/// A commit is one small request; after a crash what was handled since the last one comes again.
pub const DEFAULT_COMMIT: Duration = Duration::from_secs(1);
/// Kafka's own default. It matters only when no replica is left: the next holder takes a static member's place at once.
pub const DEFAULT_SESSION: Duration = Duration::from_secs(45);
/// A broker in another region answers within this.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer ones are a mistake in the unit.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Which protocol consumers share a group by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The one of all brokers: the artifact is a static member, and the new holder fences the old one at once.
    #[default]
    Classic,
    /// The one of KIP-848, of brokers from 4.0 on: members without names; a dead one's partitions move when its session
    /// times out at the broker.
    Consumer,
}

/// Where it is kept how far the endpoint has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offsets {
    /// In the consumer group: what was handled since the last commit comes again after a crash.
    #[default]
    AtBroker,
    /// In fenced checkpoints of the database: written by [`Message::record`](leasehold_core::message::Message::record) in
    /// the handler's own transaction, effect and progress commit together, and each message takes effect once. Written
    /// after the handler where it does not do that.
    InDatabase,
}

/// Where a group begins that has come nowhere yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// With the oldest message there is.
    #[default]
    Earliest,
    /// With what comes next.
    Latest,
}

/// What the order of messages goes by under [`Order::PerKey`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// The message's key.
    #[default]
    Message,
    /// The partition: all messages of one, one after the other.
    Partition,
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sasl {
    /// How the password is proved.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// How a password is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// It is sent: for connections with TLS.
    Plain,
    /// SCRAM-SHA-256; needs the feature `kafka-ssl`.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-512; needs the feature `kafka-ssl`.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

/// A Kafka endpoint as it is written in a file; the twin of [`Kafka`](super::Kafka).
///
/// ```toml
/// name = "payments-in"
/// brokers = "broker-1:9092,broker-2:9092"
/// topics = ["payments"]                  # "^pay.*" is a pattern
/// group = "billing"                      # the endpoint's name unless set
/// protocol = "classic"                   # or "consumer"
/// offsets = "at-broker"                  # or "in-database"
/// start = "earliest"                     # or "latest"
/// order = { per-key = 16 }               # or "ordered", { unordered = 16 }
/// key = "message"                        # or "partition"
/// max-in-flight = 1000
/// commit = "1s"
/// session = "45s"
/// retry = { attempts = 8, backoff = "1s", max-backoff = "1m", then = "dead-letter" }
/// dead-letter = "payments.dead"
/// timeout = "10s"
/// # sasl = { mechanism = "scram-sha-512", user = "shop", password = { env = "KAFKA_PASSWORD" } }
/// # tls = { ca = "ca.pem", certificate = "client.pem", key = "client.key" }   # needs the feature `kafka-ssl`
/// # properties = { "fetch.wait.max.ms" = "100" }   # of librdkafka
/// # placement = { resolver = "round-robin" }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct KafkaConfig {
    /// The artifact's name, unique in the cluster.
    pub name: ArtifactName,
    /// Some brokers of the Kafka cluster, as `host:port`, separated by commas.
    pub brokers: String,
    /// The topics; one that begins with `^` is a regular expression.
    pub topics: Vec<String>,
    /// The consumer group; the endpoint's name unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Which protocol the group is shared by; [`Protocol::Classic`] unless set.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where it is kept how far the endpoint has come; [`Offsets::AtBroker`] unless set.
    #[serde(default)]
    pub offsets: Offsets,
    /// Where a group begins that has come nowhere yet; [`Start::Earliest`] unless set.
    #[serde(default)]
    pub start: Start,
    /// How many messages are handled at once, in which order; one at a time unless set.
    #[serde(default)]
    pub order: Order,
    /// What that order goes by; the message's key unless set.
    #[serde(default)]
    pub key: Key,
    /// How many messages are here at most of which the next holder would not know that they are done;
    /// [`DEFAULT_IN_FLIGHT`] unless set. At most so many come again after a crash.
    #[serde(default = "in_flight")]
    pub max_in_flight: usize,
    /// How often offsets are committed to the broker at least, if there is something to commit; [`DEFAULT_COMMIT`]
    /// unless set.
    #[serde(default = "commit", with = "duration::serde")]
    pub commit: Duration,
    /// After so long without a sign of life the broker takes this consumer for dead; [`DEFAULT_SESSION`] unless set.
    #[serde(default = "session", with = "duration::serde")]
    pub session: Duration,
    /// What becomes of what could not be handled; tried for ever, in place, unless set.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// The topic for messages for which that is `dead-letter`. A pattern among `topics` does not find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// How long the broker may take for an answer; [`DEFAULT_TIMEOUT`] unless set.
    #[serde(default = "timeout", with = "duration::serde")]
    pub timeout: Duration,
    /// How to log in; not unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// TLS; none unless set. Needs the feature `kafka-ssl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Further settings of librdkafka; those that leasehold depends on are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// How it is placed; as the node's other artifacts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

fn in_flight() -> usize {
    DEFAULT_IN_FLIGHT
}

fn commit() -> Duration {
    DEFAULT_COMMIT
}

fn session() -> Duration {
    DEFAULT_SESSION
}

fn timeout() -> Duration {
    DEFAULT_TIMEOUT
}

impl KafkaConfig {
    /// An endpoint with the defaults.
    pub fn new(
        name: ArtifactName,
        brokers: impl Into<String>,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            name,
            brokers: brokers.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            group: None,
            protocol: Protocol::default(),
            offsets: Offsets::default(),
            start: Start::default(),
            order: Order::default(),
            key: Key::default(),
            max_in_flight: in_flight(),
            commit: commit(),
            session: session(),
            retry: RetryPolicy::default(),
            dead_letter: None,
            timeout: timeout(),
            sasl: None,
            tls: None,
            properties: BTreeMap::new(),
            placement: None,
        }
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(self.name.as_str())
    }

    /// Checks that the values can work. Connects to nothing.
    ///
    /// # Errors
    /// [`Error::Artifact`] naming the endpoint, the field, its value and the remedy.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(self.problem(problem));
        if self.brokers.trim().is_empty() {
            return refuse("brokers is empty: give host:port, for example broker:9092".to_owned());
        }
        if self.topics.is_empty() || self.topics.iter().any(String::is_empty) {
            return refuse("topics: give at least one name, and no empty one".to_owned());
        }
        if let Err(problem) = self.order.validate() {
            return refuse(format!("order {problem}"));
        }
        if !(1..=MAX_IN_FLIGHT).contains(&self.max_in_flight) || self.max_in_flight < self.order.at_once() {
            return refuse(format!(
                "max-in-flight {} is out of range: give at least what order asks for ({}) and at most {MAX_IN_FLIGHT}",
                self.max_in_flight,
                self.order.at_once()
            ));
        }
        self.within("commit", self.commit, Duration::from_millis(10))?;
        self.within("session", self.session, Duration::from_secs(1))?;
        self.within("timeout", self.timeout, Duration::from_millis(100))?;
        self.failures()?;
        self.database()?;
        if let Some(tls) = &self.tls {
            tls.validate(self.name.as_str())?;
        }
        client::validate(self)
    }

    fn failures(&self) -> Result<(), Error> {
        let refuse = |problem: &str| Err(self.problem(problem.to_owned()));
        if let Err(problem) = self.retry.validate() {
            return refuse(&problem);
        }
        if self.retry.place == Place::Requeue {
            return refuse(
                "retry place requeue: a topic takes nothing back; use in-place, or a dead-letter topic",
            );
        }
        if self.retry.then == Then::DeadLetter && self.dead_letter.is_none() {
            return refuse("retry then dead-letter has no destination: give dead-letter");
        }
        if self.dead_letter.is_some() && self.retry.then != Then::DeadLetter {
            return refuse("dead-letter would never be used: set retry then to dead-letter, or leave it out");
        }
        if self.dead_letter.is_some() && self.has_pattern() && self.protocol == Protocol::Consumer {
            return refuse(
                "topics: with protocol consumer the broker finds what matches a pattern, and may find the dead-letter topic; give names, or use protocol classic",
            );
        }
        if let Some(dead) = self.dead_letter.as_ref().filter(|dead| self.topics.contains(dead)) {
            return Err(self.problem(format!(
                "dead-letter {dead:?} is among topics: what cannot be handled would come back for ever; give another topic"
            )));
        }
        Ok(())
    }

    /// Whether topics are found by a regular expression.
    pub(super) fn has_pattern(&self) -> bool {
        self.topics.iter().any(|topic| topic.starts_with('^'))
    }

    fn database(&self) -> Result<(), Error> {
        if self.offsets == Offsets::AtBroker {
            return Ok(());
        }
        let by_partition = self.key == Key::Partition && matches!(self.order, Order::PerKey(_));
        if self.order != Order::Ordered && !by_partition {
            return Err(self.problem(
                "offsets in-database move with each message of a partition, one after the other: use order ordered, or per-key with key partition"
                    .to_owned(),
            ));
        }
        if self.protocol == Protocol::Consumer {
            return Err(self.problem("offsets in-database need protocol classic".to_owned()));
        }
        Ok(())
    }

    fn within(&self, field: &str, value: Duration, least: Duration) -> Result<(), Error> {
        if value < least || value > MAX_TIMEOUT {
            return Err(
                self.problem(format!("{field} {value:?} is out of range: give {least:?} to {MAX_TIMEOUT:?}"))
            );
        }
        Ok(())
    }

    pub(super) fn problem(&self, problem: String) -> Error {
        Error::artifact(self.name.as_str(), problem)
    }

    /// The same for the same configuration, on whichever node. A secret is no part of it.
    pub(crate) fn fingerprint(&self) -> Uuid {
        leasehold_core::artifact::fingerprint(self)
    }
}
