//! Kafka: a topic with some partitions, and one proxy before the broker, which tells its clients one address.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use async_trait::async_trait;
use leasehold::event::kafka::KafkaEndpoint;
use leasehold::prelude::*;
use leasehold_testkit::proxy::{Fault as Net, FaultProxy};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::{Broker, Consume, Publisher, TOPIC, Where, own_name};
use crate::deliver::{Deliver, retry};
use crate::node::AT_ONCE;
use crate::plan::{Hurt, Kinds};
use crate::record::{Parcel, Told};

const PARTITIONS: i32 = 4;
/// The broker may take so long for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// So much comes again after a crash.
const IN_FLIGHT: usize = 50;
const COMMIT: Duration = Duration::from_millis(50);
/// Bootstrap, broker and coordinator.
const MOST_CONNECTIONS: usize = 3;

/// What a replica consumes the topic with.
pub(super) fn endpoint(brokers: &str, topic: &str, handler: Deliver) -> Result<KafkaEndpoint> {
    let endpoint = Kafka::consume(TOPIC, brokers, [topic])?
        .group(topic)
        .order(Order::PerKey(AT_ONCE))
        .max_in_flight(IN_FLIGHT)
        .commit_every(COMMIT)
        .retry(retry())
        .timeout(ANSWER)
        // The client's own pauses would be most of the time.
        .property("reconnect.backoff.max.ms", "200");
    Ok(endpoint.handler(handler))
}

/// A topic of a round's own, and a group of the same name.
pub(super) struct Topic {
    brokers: String,
    topic: String,
    proxy: Option<FaultProxy>,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
}

impl Topic {
    pub(super) async fn create(brokers: &str, place: &Where) -> Result<Self> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers);
        let admin: AdminClient<_> = settings.create()?;
        settings.set("enable.idempotence", "true").set("linger.ms", "0").set("message.timeout.ms", "5000");
        let producer = settings.create()?;
        let topic = own_name();
        let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[new], &AdminOptions::new()).await?;
        ensure!(made.iter().all(Result::is_ok), "the topic: {made:?}");
        let mut proxy = None;
        if let (Some(behind), Some(place)) = (place.kafka_behind, place.kafka_proxy) {
            proxy = Some(FaultProxy::start_at(place, behind).await?);
        }
        Ok(Self { brokers: brokers.to_owned(), topic, proxy, admin, producer })
    }
}

/// How many members a group has, and in which state it is.
fn members(brokers: &str, group: &str) -> Result<(usize, String)> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let list = consumer.fetch_group_list(Some(group), ANSWER)?;
    let known = list.groups().iter().find(|known| known.name() == group);
    let known = known.ok_or_else(|| anyhow!("no group {group}"))?;
    Ok((known.members().len(), known.state().to_owned()))
}

#[async_trait]
impl Publisher for Topic {
    fn artifact(&self) -> &'static str {
        TOPIC
    }

    async fn publish(&self, parcel: &Parcel) -> bool {
        let Ok(body) = serde_json::to_string(parcel) else { return false };
        let record = FutureRecord::to(&self.topic).key(&parcel.key).payload(&body);
        self.producer.send(record, ANSWER).await.is_ok()
    }
}

#[async_trait]
impl Broker for Topic {
    fn consume(&self, _: usize) -> Consume {
        let by = self.proxy.as_ref().map(|proxy| proxy.address().to_string());
        Consume::Topic { brokers: by.unwrap_or_else(|| self.brokers.clone()), topic: self.topic.clone() }
    }

    fn kinds(&self) -> Kinds {
        Kinds { network: self.proxy.is_some(), ..Kinds::default() }
    }

    async fn hurt(&self, hurt: &Hurt) -> Result<Option<Told>> {
        if let Some(proxy) = &self.proxy {
            match hurt {
                Hurt::Net(_, fault) => proxy.set(*fault),
                Hurt::Hold(_) => proxy.hold(),
                Hurt::Release(_) => proxy.release(),
                Hurt::Delete | Hurt::Disconnect | Hurt::Down | Hurt::Up => {}
            }
        }
        Ok(None)
    }

    async fn heal(&self) -> Result<()> {
        if let Some(proxy) = &self.proxy {
            proxy.set(Net::None);
            proxy.release();
        }
        Ok(())
    }

    async fn look(&self) -> Result<Option<String>> {
        let (brokers, group) = (self.brokers.clone(), self.topic.clone());
        let (members, state) = tokio::task::spawn_blocking(move || members(&brokers, &group)).await??;
        let connections = self.proxy.as_ref().map_or(0, FaultProxy::connections);
        let whole = members == 1 && state == "Stable" && connections <= MOST_CONNECTIONS;
        let seen = format!("{members} members, {state}, {connections} connections");
        Ok((!whole).then(|| format!("{seen} instead of one, Stable, at most {MOST_CONNECTIONS}")))
    }

    async fn end(&self) -> Result<()> {
        // The group goes by itself when it has no member and no offset is new.
        self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await?;
        Ok(())
    }
}
