//! A handler that publishes what it gets.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use lapin::options::ConfirmSelectOptions;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel};
use leasehold_core::handler::{Handler, HandlerError};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::secret::Secret;

use super::address::Address;
use super::config::DEFAULT_TIMEOUT;
use super::convert::{self, Native};
use super::link::{Link, Route};
use super::publish::{publish, short};
use crate::dead;
use crate::error::{Error, ErrorKind};
use crate::tls::Tls;

/// A publisher nobody waits for needs no quick notice of its end.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The connection that all publish by.
struct Open {
    _connection: Link,
    channel: Channel,
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Open>, Arc<Error>>>>;

/// Publishes each message to an exchange, persistent and with confirms: done when the broker has it. The token of the
/// lease goes along in the header [`dead::TOKEN`]. Connects when it is first used, and again after an outage.
///
/// A message whose confirm did not arrive is tried again by the endpoint's policy, so it may be there twice.
pub struct RabbitMqPublisher {
    url: Secret,
    tls: Option<Tls>,
    timeout: Duration,
    exchange: String,
    routing_key: Option<String>,
    opening: Mutex<Option<Opening>>,
}

impl RabbitMqPublisher {
    /// Publishes to `exchange` of the broker at `url`, with the routing key that the message came with.
    pub fn new(url: impl Into<Secret>, exchange: impl Into<String>) -> Self {
        let (exchange, opening) = (exchange.into(), Mutex::new(None));
        Self { url: url.into(), tls: None, timeout: DEFAULT_TIMEOUT, exchange, routing_key: None, opening }
    }

    /// Publishes with this routing key, whatever the message came with; on the exchange `""` it names the queue.
    #[must_use]
    pub fn routing_key(mut self, key: impl Into<String>) -> Self {
        self.routing_key = Some(key.into());
        self
    }

    /// How the broker is recognized, and this client proves itself, on `amqps://`.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long the broker may take for an answer; 10 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn route(&self, lease: &Lease) -> Result<Route, leasehold_core::Error> {
        let artifact = lease.artifact().to_string();
        let address = Address::read(&artifact, &self.url)?;
        Ok(Route { artifact, address, tls: self.tls.clone(), heartbeat: HEARTBEAT, timeout: self.timeout })
    }

    fn opening(&self, route: &Route) -> Opening {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        opening
            .get_or_insert_with(|| {
                let route = route.clone();
                // On a task of its own: it is not cancelled with whoever asked first.
                let task = tokio::spawn(async move { open(&route).await.map(Arc::new).map_err(Arc::new) });
                let ended = |_| Arc::new(Error::new(ErrorKind::Other, "connect", "the runtime shuts down"));
                async move { task.await.map_err(ended)? }.boxed().shared()
            })
            .clone()
    }

    /// Connects anew the next time, unless that was done already.
    fn discard(&self, used: &Opening) {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if opening.as_ref().is_some_and(|known| known.ptr_eq(used)) {
            *opening = None;
        }
    }
}

async fn open(route: &Route) -> Result<Open, Error> {
    let connection = route.connect(&format!("leasehold {} publisher", route.artifact)).await?;
    let channel = route.ask("open a channel", connection.create_channel()).await?;
    route.ask("ask for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(Open { _connection: connection, channel })
}

fn properties(message: &Message, lease: &Lease) -> Result<BasicProperties, HandlerError> {
    let token = [(dead::TOKEN, AMQPValue::LongString(lease.token().to_string().into()))];
    let persistent = |properties: BasicProperties| properties.with_delivery_mode(2);
    if let Some(native) = Native::of(message) {
        return Ok(persistent(convert::with_headers(&native.properties, &convert::HISTORY, token)));
    }
    let mut properties = convert::with_headers(&BasicProperties::default(), &[], token);
    if let Some(mut table) = properties.headers().clone() {
        for (name, value) in message.headers() {
            // It will not be shorter the next time.
            let name = short("header", name).map_err(|error| HandlerError::reject(error.to_string()))?;
            table.insert(name, AMQPValue::LongString(value.to_vec().into()));
        }
        properties = properties.with_headers(table);
    }
    if let Some(kind) = message.content_type().and_then(|kind| short("content type", kind).ok()) {
        properties = properties.with_content_type(kind);
    }
    let id = message.id();
    if let Some(id) = Some(id).filter(|id| !id.is_empty()).and_then(|id| short("id", &id).ok()) {
        properties = properties.with_message_id(id);
    }
    Ok(persistent(properties))
}

#[async_trait]
impl Handler for RabbitMqPublisher {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        let route = self.route(&lease)?;
        let opening = self.opening(&route);
        let open = match opening.clone().await {
            Ok(open) => open,
            Err(error) => {
                self.discard(&opening);
                return Err(error.into());
            }
        };
        let came = Native::of(&message).map(|native| native.routing_key.as_str());
        let key = self.routing_key.as_deref().or(came).unwrap_or_default();
        let body = message.body().map_or(&[][..], |body| body);
        let properties = properties(&message, &lease)?;
        lease.check()?;
        let published = publish(&open.channel, &route, &self.exchange, key, body, properties).await;
        if published.is_err() {
            self.discard(&opening);
        }
        Ok(published?)
    }
}

impl fmt::Debug for RabbitMqPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqPublisher")
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .finish_non_exhaustive()
    }
}
