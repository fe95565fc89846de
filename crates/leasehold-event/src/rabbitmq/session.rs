//! One life of a connection: declared, subscribed, settled.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer, ExchangeKind};
use leasehold_core::lease::Lease;

use super::config::{Argument, Declare, Fence, QueueType, RabbitMqConfig};
use super::link::{self, Link, Route};
use super::publish;
use crate::error::{Error, ErrorKind};

/// Time for a farewell: it is over before another node is waited for.
const FAREWELL: Duration = Duration::from_millis(500);

/// A connection that consumes.
pub(super) struct Session {
    route: Arc<Route>,
    connection: Link,
    channel: Channel,
    /// Publishes what is dead-lettered or put back, with confirms: an error there must not end the consumer's channel.
    publishing: Option<Channel>,
    consumer: Consumer,
    tag: ShortString,
}

impl Session {
    /// Connects, declares and subscribes.
    pub(super) async fn open(
        config: Arc<RabbitMqConfig>,
        route: Arc<Route>,
        lease: Lease,
    ) -> Result<Self, Error> {
        let tag = format!("{}.{}", lease.artifact(), lease.token());
        let tag = publish::short("consumer tag", &tag)?;
        let connection =
            route.connect(&format!("leasehold {} token {}", lease.artifact(), lease.token())).await?;
        let channel = route.ask("open a channel", connection.create_channel()).await?;
        declare(&config, &route, &channel).await?;
        let qos = channel.basic_qos(config.prefetch, BasicQosOptions::default());
        route.ask("set the prefetch", qos).await?;
        lease.check().map_err(|lost| Error::new(ErrorKind::Fenced, "consume", lost.to_string()))?;
        if lease.is_revoked() {
            return Err(Error::new(ErrorKind::Fenced, "consume", "the run was asked to end"));
        }
        let exclusive = config.fence == Fence::Exclusive;
        let options = BasicConsumeOptions { exclusive, ..BasicConsumeOptions::default() };
        let queue = publish::short("queue", &config.queue)?;
        let consume = channel.basic_consume(queue, tag.clone(), options, FieldTable::default());
        let consumer = route.ask("consume", consume).await?;
        Ok(Self { route, connection, channel, publishing: None, consumer, tag })
    }

    /// Waits until there is one in `into`, and adds what is here to at most `room`. Without room it waits until the consumer
    /// ends. Cancellation safe.
    pub(super) async fn deliveries(&mut self, room: usize, into: &mut Vec<Delivery>) -> Result<(), Error> {
        while room == 0 || into.is_empty() {
            let next = self.consumer.next().await;
            into.push(self.delivery(next)?);
        }
        while into.len() < room {
            let Some(next) = self.consumer.next().now_or_never() else { break };
            into.push(self.delivery(next)?);
        }
        Ok(())
    }

    fn delivery(&self, next: Option<lapin::Result<Delivery>>) -> Result<Delivery, Error> {
        match next {
            Some(delivery) => delivery.map_err(|error| self.route.explain("consume", error)),
            None => Err(Error::new(
                ErrorKind::Unreachable,
                "consume",
                format!(
                    "{} ended the consumer: the queue was deleted, or moved to another of its nodes",
                    self.route.address
                ),
            )),
        }
    }

    /// Acknowledges one delivery, or all up to this one.
    pub(super) async fn acknowledge(&self, tag: u64, multiple: bool) -> Result<(), Error> {
        let acknowledge = self.channel.basic_ack(tag, BasicAckOptions { multiple });
        self.route.ask("acknowledge", acknowledge).await
    }

    /// A channel that confirms what is published.
    pub(super) async fn publishing(&mut self) -> Result<Channel, Error> {
        if let Some(channel) = &self.publishing {
            return Ok(channel.clone());
        }
        let channel = self.route.ask("open a channel", self.connection.create_channel()).await?;
        self.route.ask("ask for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        self.publishing = Some(channel.clone());
        Ok(channel)
    }

    /// After an error of publishing: whether the broker is still there to be asked again.
    pub(super) fn heals_publishing(&mut self) -> bool {
        // It ends the channel over a missing exchange.
        self.publishing.take_if(|channel| !channel.status().connected());
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Asks for no more deliveries.
    pub(super) async fn cancel(&self) -> Result<(), Error> {
        let cancel = self.channel.basic_cancel(self.tag.clone(), BasicCancelOptions::default());
        self.route.ask("cancel the consumer", cancel).await
    }

    /// Waits until the broker has what was acknowledged, and leaves; what was not acknowledged goes back to the queue.
    pub(super) async fn close(self) {
        // The broker answers in order: with this answer it has had all acknowledgements.
        let closing = self.channel.close(200, "done".into());
        let _ = tokio::time::timeout(FAREWELL, closing).await;
        link::close(&self.connection, FAREWELL).await;
    }
}

async fn declare(config: &RabbitMqConfig, route: &Route, channel: &Channel) -> Result<(), Error> {
    let queue = publish::short("queue", &config.queue)?;
    if config.declare == Declare::Passive {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let look = channel.queue_declare(queue, options, FieldTable::default());
        return route.ask("look for the queue", look).await.map(drop);
    }
    if let Some(exchange) = &config.exchange {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let kind = exchange_kind(&exchange.kind);
        let declare = channel.exchange_declare(
            publish::short("exchange", &exchange.name)?,
            kind,
            options,
            FieldTable::default(),
        );
        route.ask("declare the exchange", declare).await?;
    }
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declare = channel.queue_declare(queue.clone(), durable, arguments(config)?);
    route.ask("declare the queue", declare).await?;
    for binding in &config.bindings {
        let (exchange, key) = (
            publish::short("exchange", &binding.exchange)?,
            publish::short("routing key", &binding.routing_key)?,
        );
        let bind = channel.queue_bind(
            queue.clone(),
            exchange,
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        route.ask("bind the queue", bind).await?;
    }
    if let Some(dead) = config.dead_letter.as_ref().filter(|dead| dead.exchange.is_empty()) {
        let dead = publish::short("routing key", &dead.routing_key)?;
        let declare = channel.queue_declare(dead, durable, FieldTable::default());
        route.ask("declare the dead-letter queue", declare).await?;
    }
    Ok(())
}

fn exchange_kind(kind: &str) -> ExchangeKind {
    match kind {
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "topic" => ExchangeKind::Topic,
        "headers" => ExchangeKind::Headers,
        other => ExchangeKind::Custom(other.to_owned()),
    }
}

fn arguments(config: &RabbitMqConfig) -> Result<FieldTable, Error> {
    let mut table = FieldTable::default();
    if let Some(kind) = config.queue_type {
        let kind = match kind {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
        };
        table.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    }
    if config.fence == Fence::SingleActive {
        table.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    for (name, value) in &config.arguments {
        let value = match value {
            Argument::Flag(flag) => AMQPValue::Boolean(*flag),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
        };
        table.insert(publish::short("argument", name)?, value);
    }
    Ok(table)
}
