//! Kafka: a topic with some partitions, and one proxy before the broker, which tells its clients one address.

mod group;
mod publishing;

use std::time::Duration;

use anyhow::{Result, ensure};
use async_trait::async_trait;
use leasehold::event::kafka::{KafkaEndpoint, Key, Offsets, Protocol};
use leasehold::prelude::*;
use leasehold_testkit::proxy::{Fault as Net, FaultProxy};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use self::publishing::Publishing;
use super::control::Control;
use super::{Broker, Consume, Publisher, TOPIC, Where, own_name};
use crate::deliver::{Deliver, retry};
use crate::node::AT_ONCE;
use crate::plan::{Hurt, Kinds, Way};
use crate::record::{Parcel, Told, now_ms};

const PARTITIONS: u16 = 4;
/// The broker may take so long for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// So much comes again after a crash.
const IN_FLIGHT: usize = 50;
const COMMIT: Duration = Duration::from_millis(50);
/// Bootstrap, broker and coordinator.
const MOST_CONNECTIONS: usize = 3;
/// The client's own pauses would be most of the time.
const RECONNECT: (&str, &str) = ("reconnect.backoff.max.ms", "200");

/// What a replica consumes the topic with.
pub(super) fn endpoint(brokers: &str, topic: &str, way: Way, handler: Deliver) -> Result<KafkaEndpoint> {
    let endpoint = Kafka::consume(TOPIC, brokers, [topic])?
        .group(topic)
        .order(Order::PerKey(AT_ONCE))
        .max_in_flight(IN_FLIGHT)
        .commit_every(COMMIT)
        .retry(retry())
        .timeout(ANSWER)
        .property(RECONNECT.0, RECONNECT.1);
    Ok(match way {
        Way::Classic => endpoint.handler(handler),
        Way::NewProtocol => endpoint.protocol(Protocol::Consumer).handler(handler),
        Way::InDatabase => {
            endpoint.offsets(Offsets::InDatabase).key(Key::Partition).handler(handler.recording())
        }
    })
}

/// A topic of a round's own, and a group of the same name.
pub(super) struct Topic {
    brokers: String,
    topic: String,
    way: Way,
    /// How long the broker waits for a member that it does not hear of.
    session: Duration,
    proxy: Option<FaultProxy>,
    control: Control,
    admin: AdminClient<DefaultClientContext>,
    publishing: Publishing,
}

impl Topic {
    pub(super) async fn create(brokers: &str, place: &Where, way: Way) -> Result<Self> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers).set(RECONNECT.0, RECONNECT.1);
        let admin: AdminClient<_> = settings.create()?;
        let session = if way == Way::NewProtocol { group::session(&admin).await? } else { Duration::ZERO };
        let mut proxy = None;
        if let (Some(behind), Some(place)) = (place.kafka_behind, place.kafka_proxy) {
            proxy = Some(FaultProxy::start_at(place, behind).await?);
        }
        let topic = own_name();
        let publishing = Publishing::new(settings, &topic)?;
        let control = Control::new(place.kafka_ctl.as_deref());
        let made =
            Self { brokers: brokers.to_owned(), topic, way, session, proxy, control, admin, publishing };
        made.make().await?;
        Ok(made)
    }

    /// Waits for one of the same name to be gone.
    async fn make(&self) -> Result<()> {
        loop {
            let new = NewTopic::new(&self.topic, PARTITIONS.into(), TopicReplication::Fixed(1));
            let made = self.admin.create_topics(&[new], &AdminOptions::new()).await?;
            let is_there = |made: &Result<String, (String, RDKafkaErrorCode)>| {
                matches!(made, Err((_, RDKafkaErrorCode::TopicAlreadyExists)))
            };
            if !made.iter().any(is_there) {
                ensure!(made.iter().all(Result::is_ok), "the topic: {made:?}");
                return Ok(());
            }
            tokio::time::sleep(super::LOOK_EVERY).await;
        }
    }

    /// The client goes on at the position it had, and begins anew only where the topic ends before that: the new one gets less
    /// than the group has told of the old one.
    async fn delete_and_make(&self) -> Result<Told> {
        let (brokers, topic) = (self.brokers.clone(), self.topic.clone());
        let told = tokio::task::spawn_blocking(move || group::committed(&brokers, &topic, &topic));
        let told = told.await??;
        self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await?;
        self.make().await?;
        self.publishing.begin_anew(&told)?;
        Ok(Told::Emptied { artifact: TOPIC.to_owned(), until: now_ms() })
    }

    async fn group(&self) -> Result<group::Group> {
        if self.way == Way::NewProtocol {
            return group::new_protocol(&self.brokers, &self.topic).await;
        }
        let (brokers, name) = (self.brokers.clone(), self.topic.clone());
        tokio::task::spawn_blocking(move || group::classic(&brokers, &name)).await?
    }
}

#[async_trait]
impl Publisher for Topic {
    fn artifact(&self) -> &'static str {
        TOPIC
    }

    async fn publish(&self, parcel: &Parcel) -> bool {
        self.publishing.publish(parcel).await
    }
}

#[async_trait]
impl Broker for Topic {
    fn consume(&self, _: usize) -> Consume {
        let by = self.proxy.as_ref().map(|proxy| proxy.address().to_string());
        let brokers = by.unwrap_or_else(|| self.brokers.clone());
        Consume::Topic { brokers, topic: self.topic.clone(), way: self.way }
    }

    fn kinds(&self) -> Kinds {
        Kinds {
            network: self.proxy.is_some(),
            // Offsets in the database outlive the topic: see what leasehold does not promise.
            deletes: self.way != Way::InDatabase,
            deletes_once: true,
            restarts: self.control.is_there(),
            crashes: self.control.is_there(),
            way: Some(self.way),
            ..Kinds::default()
        }
    }

    async fn hurt(&self, hurt: &Hurt) -> Result<Option<Told>> {
        match hurt {
            Hurt::Net(_, fault) => self.proxy.iter().for_each(|proxy| proxy.set(*fault)),
            Hurt::Hold(_) => self.proxy.iter().for_each(FaultProxy::hold),
            Hurt::Release(_) => self.proxy.iter().for_each(FaultProxy::release),
            Hurt::Delete => return self.delete_and_make().await.map(Some),
            Hurt::Down => self.control.order("stop").await,
            Hurt::Crash => self.control.order("kill").await,
            Hurt::Up => self.control.order("start").await,
            Hurt::Disconnect => {}
        }
        Ok(None)
    }

    async fn heal(&self) -> Result<()> {
        if let Some(proxy) = &self.proxy {
            proxy.set(Net::None);
            proxy.release();
        }
        self.control.done().await
    }

    async fn look(&self) -> Result<Option<String>> {
        let group::Group { members, state } = self.group().await?;
        let connections = self.proxy.as_ref().map_or(0, FaultProxy::connections);
        let whole = members == 1 && state == "Stable" && connections <= MOST_CONNECTIONS;
        let seen = format!("{members} members, {state}, {connections} connections");
        Ok((!whole).then(|| format!("{seen} instead of one, Stable, at most {MOST_CONNECTIONS}")))
    }

    fn silence(&self) -> Duration {
        self.session
    }

    async fn end(&self) -> Result<()> {
        // The group goes by itself when it has no member and no offset is new.
        self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await?;
        Ok(())
    }
}
