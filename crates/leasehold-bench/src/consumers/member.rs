//! One replica that consumes, and says what it handles.

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::Result;
use leasehold::event::rabbitmq::{Fence, Key};
use leasehold::prelude::*;
use serde::{Deserialize, Serialize};

use super::broker::Broker;
use crate::line::now;

/// How many handlers at once.
pub(super) const AT_ONCE: usize = 32;
/// What is here unacknowledged at most: the defaults.
pub(super) fn in_flight(broker: &Broker) -> usize {
    match broker {
        Broker::RabbitMq(_) => 100,
        Broker::Kafka(_) => 1_000,
    }
}

/// What a consumer is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    pub(crate) database: String,
    pub(crate) cluster: String,
    pub(crate) ttl: Duration,
    pub(crate) broker: Broker,
    pub(crate) queue: String,
    /// How long a message is handled.
    pub(crate) work: Duration,
}

/// A message that was handled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Handled {
    pub(crate) key: u32,
    pub(crate) number: u64,
    pub(crate) token: i64,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

pub(crate) fn main() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let consumer: Consumer = serde_json::from_str(&line)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(consumer))
}

async fn run(consumer: Consumer) -> Result<()> {
    let work = consumer.work;
    let handler = move |message: Message, lease: Lease| handle(message, lease, work);
    let node = Node::builder(consumer.database.as_str())
        .cluster(consumer.cluster.as_str())
        .node_id(consumer.name.as_str())
        .ttl(consumer.ttl);
    let order = Order::PerKey(AT_ONCE);
    let node = match &consumer.broker {
        Broker::RabbitMq(url) => {
            let endpoint = RabbitMq::consume("load", url.as_str(), consumer.queue.as_str())?;
            node.artifact(
                endpoint.fence(Fence::SingleActive).order(order).key(Key::CorrelationId).handler(handler),
            )
        }
        Broker::Kafka(brokers) => {
            let endpoint = Kafka::consume("load", brokers.as_str(), [consumer.queue.as_str()])?;
            node.artifact(endpoint.group(consumer.queue.as_str()).order(order).handler(handler))
        }
    };
    let node = node.start().await?;
    node.run_until_signal().await;
    Ok(())
}

async fn handle(message: Message, lease: Lease, work: Duration) -> Result<(), HandlerError> {
    let from = now();
    if !work.is_zero() {
        tokio::time::sleep(work).await;
    }
    let text = message.text()?;
    let Some((key, number)) = text.split_once(' ') else { return Ok(()) };
    let handled =
        Handled { key: key.parse()?, number: number.parse()?, token: lease.token().0, from, until: now() };
    // Before it is acknowledged: what is not said is not done.
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&handled)?)?;
    Ok(())
}
