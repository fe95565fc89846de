//! Brokers that take part in a round: what is published to them, how they are hurt, and whether they are what they were.

#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
mod control;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
use anyhow::Context;
use anyhow::{Result, bail, ensure};
use async_trait::async_trait;
use clap::Args;
use leasehold_core::node::NodeBuilder;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::deliver::Deliver;
use crate::plan::{Hurt, Kinds, Way};
use crate::record::{Parcel, Told, now_ms};

/// The artifact that consumes a queue of RabbitMQ.
pub(crate) const QUEUE: &str = "queue";
/// The artifact that consumes a topic of Kafka.
pub(crate) const TOPIC: &str = "topic";

/// Messages are published this often, to so many keys.
const PUBLISH_EVERY: Duration = Duration::from_millis(15);
const KEYS: u64 = 8;
/// Who has lost its connection needs some seconds: the broker must notice, and so must the consumer.
const WHOLE: Duration = Duration::from_secs(30);
/// How often a broker is asked, which tells nobody by itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Brokers that are to take part.
#[derive(Args, Clone, Debug, Default)]
// That of databases has the same name.
#[group(skip)]
pub(crate) struct Where {
    /// A RabbitMQ, by an AMQP URL: each replica consumes a queue, which only one may. Needs the feature `rabbitmq` of this program.
    #[arg(long, value_name = "URL")]
    pub(crate) rabbitmq: Option<String>,
    /// Its management API, `http://user:password@host:port`: for a virtual host of each round's own, and to close connections.
    #[arg(long, value_name = "URL", requires = "rabbitmq")]
    pub(crate) rabbitmq_admin: Option<String>,
    /// Its `rabbitmqctl`, to stop and start the broker: only for one that nobody else uses. `scripts/test -- COMMAND` tells
    /// where one is that needs no arguments to find its server.
    #[arg(long, value_name = "PROGRAM", requires = "rabbitmq")]
    pub(crate) rabbitmq_ctl: Option<PathBuf>,
    /// A Kafka, as host:port: each replica consumes a topic, which only one may. Needs the feature `kafka` of this program.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka: Option<String>,
    /// A listener of that Kafka whose clients are told to connect to the next address: to hurt their connections.
    #[arg(long, value_name = "ADDRESS", requires_all = ["kafka", "kafka_proxy"])]
    pub(crate) kafka_behind: Option<SocketAddr>,
    /// Where this program is to listen for them.
    #[arg(long, value_name = "ADDRESS", requires = "kafka_behind")]
    pub(crate) kafka_proxy: Option<SocketAddr>,
    /// A program that ends that Kafka by `stop` and by `kill`, and starts it with the data it had by `start`: only for one that
    /// nobody else uses. `scripts/test -- COMMAND` tells where one is.
    #[arg(long, value_name = "PROGRAM", requires = "kafka")]
    pub(crate) kafka_ctl: Option<PathBuf>,
}

impl Where {
    /// For people; and how they are asked for.
    pub(crate) fn words(&self) -> (String, String) {
        let (mut names, mut options) = (String::new(), String::new());
        let all = [
            (self.rabbitmq.is_some(), ", RabbitMQ", " --rabbitmq $RABBITMQ"),
            (self.rabbitmq_admin.is_some(), "", " --rabbitmq-admin $RABBITMQ_ADMIN"),
            (self.rabbitmq_ctl.is_some(), " (restarted)", " --rabbitmq-ctl $RABBITMQ_CTL"),
            (self.kafka.is_some(), ", Kafka", " --kafka $KAFKA"),
            (self.kafka_behind.is_some(), "", " --kafka-behind $BEHIND --kafka-proxy $PROXY"),
            (self.kafka_ctl.is_some(), " (restarted)", " --kafka-ctl $KAFKA_CTL"),
        ];
        for (_, name, option) in all.into_iter().filter(|(asked, ..)| *asked) {
            names += name;
            options += option;
        }
        (names, options)
    }

    /// Only this one of them.
    pub(crate) fn only(&self, artifact: &str) -> Self {
        let mut only = self.clone();
        if artifact != QUEUE {
            (only.rabbitmq, only.rabbitmq_admin, only.rabbitmq_ctl) = (None, None, None);
        }
        if artifact != TOPIC {
            (only.kafka, only.kafka_behind, only.kafka_proxy, only.kafka_ctl) = (None, None, None, None);
        }
        only
    }
}

/// What a replica consumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Consume {
    Queue { url: String, queue: String },
    Topic { brokers: String, topic: String, way: Way },
}

impl Consume {
    pub(crate) fn artifact(&self) -> &'static str {
        match self {
            Self::Queue { .. } => QUEUE,
            Self::Topic { .. } => TOPIC,
        }
    }

    /// A node that consumes it.
    pub(crate) fn on(&self, node: NodeBuilder, handler: Deliver, fenced: bool) -> Result<NodeBuilder> {
        match self {
            #[cfg(feature = "rabbitmq")]
            Self::Queue { url, queue } => Ok(node.artifact(rabbitmq::endpoint(url, queue, handler, fenced)?)),
            #[cfg(feature = "kafka")]
            Self::Topic { brokers, topic, way } => {
                Ok(node.artifact(kafka::endpoint(brokers, topic, *way, handler)?))
            }
            #[allow(unreachable_patterns, reason = "not with all features")]
            _ => {
                let _ = (node, handler, fenced);
                bail!("{} takes no part in this build", self.artifact())
            }
        }
    }
}

/// What messages are published to: a broker, or a store.
#[async_trait]
pub(crate) trait Publisher: Send + Sync {
    /// What delivers them.
    fn artifact(&self) -> &'static str;
    /// Publishes; whether it is there for sure.
    async fn publish(&self, parcel: &Parcel) -> bool;
}

/// What the rest of the proof knows of a broker.
#[async_trait]
trait Broker: Publisher {
    /// How the replica of this number reaches it.
    fn consume(&self, node: usize) -> Consume;
    fn kinds(&self) -> Kinds;
    /// Hurts it, and tells what is worth telling.
    async fn hurt(&self, hurt: &Hurt) -> Result<Option<Told>>;
    /// Ends whatever hurts.
    async fn heal(&self) -> Result<()>;
    /// What is otherwise than with one healthy consumer that has nothing left to do.
    async fn look(&self) -> Result<Option<String>>;
    /// For so long it takes a consumer for alive that it hears nothing of, and gives its messages to nobody else.
    fn silence(&self) -> Duration {
        Duration::ZERO
    }
    async fn end(&self) -> Result<()>;
}

/// The brokers of one round, each with a queue, or a topic, of its own.
#[derive(Clone, Default)]
pub(crate) struct Brokers(Vec<Arc<dyn Broker>>);

impl Brokers {
    /// A topic is consumed in this way.
    #[allow(unused_variables, unused_mut, clippy::unused_async, reason = "without brokers in this build")]
    pub(crate) async fn create(place: &Where, nodes: usize, way: Way) -> Result<Self> {
        let mut brokers: Vec<Arc<dyn Broker>> = Vec::new();
        let missing = |feature| format!("this program was built without brokers: add --features {feature}");
        ensure!(place.rabbitmq.is_none() || cfg!(feature = "rabbitmq"), missing("rabbitmq"));
        ensure!(place.kafka.is_none() || cfg!(feature = "kafka"), missing("kafka"));
        #[cfg(feature = "rabbitmq")]
        if let Some(url) = &place.rabbitmq {
            let rabbit = rabbitmq::Rabbit::create(url, place, nodes);
            brokers.push(Arc::new(rabbit.await.context("RabbitMQ")?));
        }
        #[cfg(feature = "kafka")]
        if let Some(address) = &place.kafka {
            brokers.push(Arc::new(kafka::Topic::create(address, place, way).await.context("Kafka")?));
        }
        Ok(Self(brokers))
    }

    pub(crate) fn consume(&self, node: usize) -> Vec<Consume> {
        self.0.iter().map(|broker| broker.consume(node)).collect()
    }

    /// How each can be hurt.
    pub(crate) fn kinds(&self) -> Vec<(&'static str, Kinds)> {
        self.0.iter().map(|broker| (broker.artifact(), broker.kinds())).collect()
    }

    pub(crate) async fn hurt(&self, artifact: &str, hurt: &Hurt) -> Result<Option<Told>> {
        match self.0.iter().find(|broker| broker.artifact() == artifact) {
            Some(broker) => broker.hurt(hurt).await,
            None => Ok(None),
        }
    }

    pub(crate) async fn heal(&self) -> Result<()> {
        for broker in &self.0 {
            broker.heal().await?;
        }
        Ok(())
    }

    /// Publishes to each until it is told to stop; what was confirmed.
    pub(crate) fn publish(&self, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<Vec<Told>>> {
        let publish = |broker: &Arc<dyn Broker>| {
            tokio::spawn(publish_all(Arc::<dyn Broker>::clone(broker), Arc::clone(stop)))
        };
        self.0.iter().map(publish).collect()
    }

    /// Waits until each is what it was; what is not.
    pub(crate) async fn whole(&self) -> Vec<String> {
        let began = now_ms();
        let mut wrong = Vec::new();
        for broker in &self.0 {
            let patience = WHOLE + broker.silence();
            let end = began + u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
            loop {
                let told = broker.look().await;
                let Some(told) = told.unwrap_or_else(|error| Some(format!("{error:#}"))) else { break };
                if now_ms() > end {
                    wrong.push(format!(
                        "{}: {told}, {patience:?} after everybody was well",
                        broker.artifact()
                    ));
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        wrong
    }

    /// The longest time that messages may wait for a consumer that is taken for alive.
    pub(crate) fn silence(&self) -> Duration {
        self.0.iter().map(|broker| broker.silence()).max().unwrap_or_default()
    }

    pub(crate) async fn end(&self) -> Result<()> {
        for broker in &self.0 {
            broker.end().await?;
        }
        Ok(())
    }
}

/// Publishes until it is told to stop, to some keys; what was confirmed.
pub(crate) async fn publish_all(publisher: Arc<dyn Publisher>, stop: Arc<AtomicBool>) -> Vec<Told> {
    let mut confirmed = Vec::new();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let parcel = Parcel { key: format!("k{}", number % KEYS), number };
        let from = now_ms();
        if publisher.publish(&parcel).await {
            let (artifact, key) = (publisher.artifact().to_owned(), parcel.key);
            confirmed.push(Told::Appended { artifact, key, number, from, at: now_ms() });
        }
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
    confirmed
}

/// What tells the queues and topics of rounds apart.
#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
fn own_name() -> String {
    use std::sync::atomic::AtomicU64;
    static CREATED: AtomicU64 = AtomicU64::new(0);
    let count = CREATED.fetch_add(1, Ordering::Relaxed);
    format!("proof-{:x}-{:x}-{count}", std::process::id(), now_ms())
}
