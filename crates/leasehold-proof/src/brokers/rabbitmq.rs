//! RabbitMQ: a queue whose consumers wait for one another at the broker, and a proxy for each replica.

mod admin;

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use leasehold::event::rabbitmq::{Fence, Key, QueueType, RabbitMqEndpoint};
use leasehold::prelude::*;
use leasehold_testkit::proxy::{Fault as Net, FaultProxy};
use tokio::sync::Mutex;

use self::admin::Admin;
use super::control::Control;
use super::{Broker, Consume, Publisher, QUEUE, own_name};
use crate::deliver::{Deliver, retry};
use crate::node::AT_ONCE;
use crate::plan::{Hurt, Kinds};
use crate::record::{Parcel, Told, now_ms};

/// The broker may take so long for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// What the order goes by.
const KEY: &str = "key";
/// So many messages come again when a connection is gone.
const PREFETCH: u16 = 20;

/// What a replica consumes the queue with. Without the fence nobody waits at the broker for the consumer before it.
pub(super) fn endpoint(url: &str, queue: &str, handler: Deliver, fenced: bool) -> Result<RabbitMqEndpoint> {
    let endpoint = RabbitMq::consume(QUEUE, url, queue)?
        .declare(QueueType::Quorum)
        .fence(if fenced { Fence::SingleActive } else { Fence::None })
        .prefetch(PREFETCH)
        .order(Order::PerKey(AT_ONCE))
        .key(Key::Header(KEY.to_owned()))
        .retry(retry())
        .timeout(ANSWER);
    Ok(endpoint.handler(handler))
}

/// A connection, as long as it works.
struct Link {
    _connection: Connection,
    channel: Channel,
}

/// A queue of a round's own.
pub(super) struct Rabbit {
    /// Without a proxy.
    url: String,
    queue: String,
    proxies: Vec<FaultProxy>,
    admin: Option<Admin>,
    control: Control,
    publishing: Mutex<Option<Link>>,
}

impl Rabbit {
    pub(super) async fn create(url: &str, place: &super::Where, nodes: usize) -> Result<Self> {
        let queue = own_name();
        let (login, rest) = url.split_once('@').context("give amqp://user:password@host:port/vhost")?;
        let (server, vhost) =
            rest.split_once('/').context("the URL names no virtual host: %2f is the default one")?;
        let (mut admin, mut vhost) = (None, vhost.to_owned());
        if let Some(api) = &place.rabbitmq_admin {
            let user = login.rsplit('/').next().and_then(|login| login.split(':').next()).unwrap_or_default();
            vhost.clone_from(&queue);
            admin = Some(Admin::create(api, &vhost, user).await?);
        }
        let upstream = tokio::net::lookup_host(server).await?.next().context("the broker's address")?;
        let mut proxies = Vec::new();
        for _ in 0..nodes {
            proxies.push(FaultProxy::start(upstream).await?);
        }
        Ok(Self {
            url: format!("{login}@{server}/{vhost}"),
            queue,
            proxies,
            admin,
            control: Control::new(place.rabbitmq_ctl.as_deref()),
            publishing: Mutex::default(),
        })
    }

    async fn connect(&self) -> Result<Link> {
        let connecting = async {
            let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            anyhow::Ok(Link { _connection: connection, channel })
        };
        tokio::time::timeout(ANSWER, connecting).await?
    }

    /// One of them, or all.
    fn proxies(&self, node: Option<usize>) -> &[FaultProxy] {
        match node {
            Some(node) => self.proxies.get(node..=node).unwrap_or_default(),
            None => &self.proxies,
        }
    }

    /// Tried until it is done: whether a broker has done what it did not answer is not known.
    async fn delete(&self) -> Result<Told> {
        loop {
            let deleting = async {
                let link = self.connect().await?;
                let options = QueueDeleteOptions::default();
                let deleting = link.channel.queue_delete(self.queue.as_str().into(), options);
                anyhow::Ok(tokio::time::timeout(ANSWER, deleting).await??)
            };
            if deleting.await.is_ok() {
                return Ok(Told::Emptied { artifact: QUEUE.to_owned(), until: now_ms() });
            }
            tokio::time::sleep(super::LOOK_EVERY).await;
        }
    }
}

#[async_trait]
impl Publisher for Rabbit {
    fn artifact(&self) -> &'static str {
        QUEUE
    }

    async fn publish(&self, parcel: &Parcel) -> bool {
        let mut open = self.publishing.lock().await;
        let publishing = async {
            if open.is_none() {
                *open = Some(self.connect().await?);
            }
            let channel = &open.as_ref().context("it was opened")?.channel;
            let mut headers = FieldTable::default();
            headers.insert(KEY.into(), AMQPValue::LongString(parcel.key.as_str().into()));
            let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
            // A message that no queue gets comes back, and is confirmed all the same.
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let body = serde_json::to_vec(parcel)?;
            let sent =
                channel.basic_publish("".into(), self.queue.as_str().into(), options, &body, properties);
            anyhow::Ok(sent.await?.await?)
        };
        match tokio::time::timeout(ANSWER, publishing).await {
            Ok(Ok(confirmation)) => matches!(confirmation, Confirmation::Ack(None)),
            Ok(Err(_)) | Err(_) => {
                // What becomes of it nobody knows.
                *open = None;
                false
            }
        }
    }
}

#[async_trait]
impl Broker for Rabbit {
    fn consume(&self, node: usize) -> Consume {
        let (queue, url) = (self.queue.clone(), self.url.clone());
        let by = self.proxies.get(node).map(|proxy| proxy.address().to_string());
        let url = match (url.split_once('@'), by) {
            (Some((login, rest)), Some(by)) => {
                let vhost = rest.split_once('/').map_or("", |(_, vhost)| vhost);
                format!("{login}@{by}/{vhost}")
            }
            _ => url,
        };
        Consume::Queue { url, queue }
    }

    fn kinds(&self) -> Kinds {
        Kinds {
            network: true,
            of_each: true,
            deletes: true,
            disconnects: self.admin.is_some(),
            restarts: self.control.is_there(),
            ..Kinds::default()
        }
    }

    async fn hurt(&self, hurt: &Hurt) -> Result<Option<Told>> {
        match hurt {
            Hurt::Net(node, fault) => self.proxies(*node).iter().for_each(|proxy| proxy.set(*fault)),
            Hurt::Hold(node) => self.proxies(*node).iter().for_each(FaultProxy::hold),
            Hurt::Release(node) => self.proxies(*node).iter().for_each(FaultProxy::release),
            Hurt::Delete => return self.delete().await.map(Some),
            Hurt::Disconnect => {
                if let Some(admin) = &self.admin {
                    // One that is down has none.
                    let _ = admin.disconnect().await;
                }
            }
            // The application alone: the tool that starts it again talks to the runtime that it runs in.
            Hurt::Down | Hurt::Crash => self.control.order("stop_app").await,
            Hurt::Up => self.control.order("start_app").await,
        }
        Ok(None)
    }

    async fn heal(&self) -> Result<()> {
        for proxy in &self.proxies {
            proxy.set(Net::None);
            proxy.release();
        }
        self.control.done().await
    }

    async fn look(&self) -> Result<Option<String>> {
        let link = self.connect().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let looking = link.channel.queue_declare(self.queue.as_str().into(), options, FieldTable::default());
        let queue = tokio::time::timeout(ANSWER, looking).await??;
        let connections: usize = self.proxies.iter().map(FaultProxy::connections).sum();
        let seen = (queue.consumer_count(), queue.message_count(), connections);
        let words = |(consumers, ready, connections)| {
            format!("{consumers} consumers, {ready} messages ready, {connections} connections of replicas")
        };
        Ok((seen != (1, 0, 1)).then(|| format!("{} instead of {}", words(seen), words((1, 0, 1)))))
    }

    async fn end(&self) -> Result<()> {
        *self.publishing.lock().await = None;
        match &self.admin {
            Some(admin) => admin.end().await,
            None => self.delete().await.map(drop),
        }
    }
}
