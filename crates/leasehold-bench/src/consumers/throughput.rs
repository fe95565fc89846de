//! Messages a second beside a bare loop with the same prefetch and acknowledgement, in the same run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use leasehold::event::rabbitmq::{Fence, Key};
use leasehold::prelude::*;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;

use super::broker::{Broker, settings};
use crate::figures::{Bound, Report};
use crate::line::now;
use crate::servers::Server;

const BYTES: usize = 1024;
const KEYS: usize = 1_000;
/// Prefetched, and acknowledged or committed together at most, as leasehold does.
const PREFETCH: u16 = 1_000;
const TOGETHER: usize = 64;
const ROUNDS: usize = 3;

fn messages(broker: &Broker) -> usize {
    match broker {
        Broker::RabbitMq(_) => 100_000,
        Broker::Kafka(_) => 400_000,
    }
}

pub(super) async fn measure(server: &Server, broker: &Broker, report: &mut Report) -> Result<()> {
    let count = messages(broker);
    let (mut bare, mut ordered, mut per_key) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(round(broker, |queue| loop_of(broker, queue, count)).await?);
        ordered.push(round(broker, |queue| ours(server, broker, queue, count, Order::Ordered)).await?);
        per_key.push(round(broker, |queue| ours(server, broker, queue, count, Order::PerKey(16))).await?);
    }
    let bare = median(bare);
    report.add("a bare loop", bare, "msg/s", None);
    for (name, rates) in [("ordered", ordered), ("per key", per_key)] {
        let rate = median(rates);
        report.add(format!("{name}, a handler that does nothing"), rate, "msg/s", None);
        report.add(format!("{name} against the bare loop"), rate / bare, "", Some(Bound::AtLeast(0.9)));
    }
    report.note(format!(
        "{count} messages of {BYTES} bytes each time, the median of {ROUNDS}; prefetch {PREFETCH}"
    ));
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// A queue that is filled first.
async fn round<F>(broker: &Broker, consume: impl FnOnce(String) -> F) -> Result<f64>
where
    F: Future<Output = Result<f64>>,
{
    let queue = broker.make("throughput").await?;
    broker.publisher(&queue).await?.fill(messages(broker), KEYS, BYTES).await?;
    let rate = consume(queue.clone()).await?;
    broker.drop_queue(&queue).await?;
    Ok(rate)
}

fn rate(count: usize, from: u64) -> f64 {
    count as f64 / Duration::from_nanos(now() - from).as_secs_f64()
}

async fn loop_of(broker: &Broker, queue: String, count: usize) -> Result<f64> {
    match broker.clone() {
        Broker::RabbitMq(url) => rabbitmq(&url, &queue, count).await,
        // The client blocks.
        Broker::Kafka(brokers) => tokio::task::spawn_blocking(move || kafka(&brokers, &queue, count)).await?,
    }
}

async fn rabbitmq(url: &str, queue: &str, count: usize) -> Result<f64> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "bare".into(), options, arguments).await?;
    let (mut from, mut done, mut waiting) = (0, 0, 0);
    while done < count {
        let delivery = consumer.next().await.context("a delivery")??;
        if done == 0 {
            from = now();
        }
        done += 1;
        waiting += 1;
        if waiting == TOGETHER || done == count {
            delivery.ack(BasicAckOptions { multiple: true }).await?;
            waiting = 0;
        }
    }
    Ok(rate(count, from))
}

fn kafka(brokers: &str, topic: &str, count: usize) -> Result<f64> {
    let mut settings = settings(brokers);
    settings
        .set("group.id", format!("{topic}-bare"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("queued.max.messages.kbytes", "16384");
    let consumer: BaseConsumer = settings.create()?;
    consumer.subscribe(&[topic])?;
    // The same bound: no more than the prefetch is handed over whose commit is not confirmed, and half of it together. A loop
    // that waits for each commit is several times slower, and one that waits for none knows no bound.
    let most = usize::from(PREFETCH);
    std::thread::scope(|scope| {
        let ((ask, asked), (tell, told)) = (mpsc::channel(), mpsc::channel());
        let consumer = &consumer;
        scope.spawn(move || {
            while let Ok(many) = asked.recv() {
                let done = match consumer.commit_consumer_state(CommitMode::Sync) {
                    // The commit before told of these, too.
                    Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(many),
                    Err(error) => Err(error),
                };
                if tell.send(done).is_err() {
                    break;
                }
            }
        });
        let (mut from, mut done, mut open, mut asking) = (0, 0, 0, 0);
        while done < count {
            if asking > 0 {
                let answer = if open >= most { told.recv().ok() } else { told.try_recv().ok() };
                if let Some(many) = answer.transpose()? {
                    (open, asking) = (open - many, 0);
                }
            }
            if asking == 0 && open >= most / 2 {
                asking = open;
                ask.send(open)?;
            }
            let Some(message) = consumer.poll(Duration::from_secs(10)) else { continue };
            let message = message?;
            if done == 0 {
                from = now();
            }
            (done, open) = (done + 1, open + 1);
            consumer.store_offset_from_message(&message)?;
        }
        Ok(rate(count, from))
    })
}

async fn ours(server: &Server, broker: &Broker, queue: String, count: usize, order: Order) -> Result<f64> {
    let (handled, from, all) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, began, done) = (Arc::clone(&handled), Arc::clone(&from), Arc::clone(&all));
    let handler = move |_: Message, _: Lease| {
        match counted.fetch_add(1, Ordering::Relaxed) + 1 {
            1 => began.store(usize::try_from(now()).unwrap_or(0), Ordering::Relaxed),
            n if n == count => done.notify_one(),
            _ => {}
        }
        std::future::ready(Ok(()))
    };
    let node = Node::builder(server.url()).cluster(server.cluster("throughput")).ttl(Duration::from_secs(5));
    let node = match broker {
        Broker::RabbitMq(url) => {
            let endpoint = RabbitMq::consume("load", url.as_str(), queue.as_str())?.prefetch(PREFETCH);
            let endpoint = endpoint.fence(Fence::SingleActive).order(order).key(Key::CorrelationId);
            node.artifact(endpoint.handler(handler))
        }
        Broker::Kafka(brokers) => {
            let endpoint = Kafka::consume("load", brokers.as_str(), [queue.as_str()])?.group(queue.as_str());
            node.artifact(endpoint.max_in_flight(usize::from(PREFETCH)).order(order).handler(handler))
        }
    };
    let node = node.start().await?;
    all.notified().await;
    let rate = rate(count, u64::try_from(from.load(Ordering::Relaxed))?);
    node.shutdown().await;
    Ok(rate)
}
