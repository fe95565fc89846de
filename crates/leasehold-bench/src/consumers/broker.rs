//! The broker under measurement, without leasehold: queues and topics, and what fills them.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::{Deserialize, Serialize};

use crate::line::now;

/// Enough for keys to run in parallel.
const PARTITIONS: i32 = 4;
/// Published and not confirmed at once.
const UNDER_WAY: usize = 1_000;

/// Where the broker is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Broker {
    RabbitMq(String),
    Kafka(String),
}

impl Broker {
    pub(crate) fn new(url: &str) -> Result<Self> {
        match url.split_once("://") {
            Some(("amqp" | "amqps", _)) => Ok(Self::RabbitMq(url.to_owned())),
            None if url.contains(':') => Ok(Self::Kafka(url.to_owned())),
            _ => bail!("--broker takes amqp://user:password@host:port/vhost or, for Kafka, host:port"),
        }
    }

    /// A queue or topic that was never there.
    pub(crate) async fn make(&self, of: &str) -> Result<String> {
        let name = format!("bench-{of}-{}-{}", std::process::id(), now());
        match self {
            Self::RabbitMq(url) => {
                let connection = Connection::connect(url, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                let mut arguments = FieldTable::default();
                // So that order is kept across a freeze, too.
                arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
                channel.queue_declare(name.as_str().into(), options, arguments).await?;
            }
            Self::Kafka(brokers) => {
                let admin: AdminClient<DefaultClientContext> = settings(brokers).create()?;
                let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
                let made = admin.create_topics(&[topic], &AdminOptions::new()).await?;
                ensure!(made.iter().all(Result::is_ok), "making a topic: {made:?}");
            }
        }
        Ok(name)
    }

    pub(crate) async fn drop_queue(&self, name: &str) -> Result<()> {
        match self {
            Self::RabbitMq(url) => {
                let connection = Connection::connect(url, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel.queue_delete(name.into(), Default::default()).await?;
            }
            Self::Kafka(brokers) => {
                let admin: AdminClient<DefaultClientContext> = settings(brokers).create()?;
                admin.delete_topics(&[name], &AdminOptions::new()).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn publisher(&self, to: &str) -> Result<Publisher> {
        Ok(match self {
            Self::RabbitMq(url) => {
                let connection = Connection::connect(url, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                Publisher::RabbitMq { to: to.to_owned(), channel, _connection: connection.into() }
            }
            Self::Kafka(brokers) => {
                let producer = settings(brokers).set("linger.ms", "2").create()?;
                Publisher::Kafka { to: to.to_owned(), producer }
            }
        })
    }
}

pub(super) fn settings(brokers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers);
    settings
}

/// Publishes with confirms.
#[derive(Clone)]
pub(crate) enum Publisher {
    RabbitMq { to: String, channel: Channel, _connection: std::sync::Arc<Connection> },
    Kafka { to: String, producer: FutureProducer },
}

impl Publisher {
    /// Publishes one message; done when the broker has it.
    pub(crate) async fn send(&self, key: &str, body: &[u8]) -> Result<()> {
        match self {
            Self::RabbitMq { to, channel, .. } => {
                let properties =
                    BasicProperties::default().with_correlation_id(key.into()).with_delivery_mode(2);
                let options = BasicPublishOptions::default();
                let confirm =
                    channel.basic_publish("".into(), to.as_str().into(), options, body, properties).await?;
                ensure!(confirm.await?.is_ack(), "the broker did not take a message");
            }
            Self::Kafka { to, producer } => {
                let record = FutureRecord::to(to).key(key).payload(body);
                let sent = producer.send(record, Duration::from_secs(60)).await;
                sent.map_err(|(error, _)| error).context("producing")?;
            }
        }
        Ok(())
    }

    /// Publishes many, of `keys` keys in turn.
    pub(crate) async fn fill(&self, count: usize, keys: usize, bytes: usize) -> Result<()> {
        let body = vec![b'x'; bytes];
        let keys: Vec<String> = (0..keys).map(|key| format!("key-{key}")).collect();
        let mut under_way = FuturesUnordered::new();
        for n in 0..count {
            under_way.push(self.send(&keys[n % keys.len()], &body));
            if under_way.len() >= UNDER_WAY {
                under_way.next().await.transpose()?;
            }
        }
        while let Some(sent) = under_way.next().await {
            sent?;
        }
        Ok(())
    }
}
