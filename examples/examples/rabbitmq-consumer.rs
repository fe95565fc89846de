//! Three replicas and one queue: one consumes, is killed, and the next goes on with nothing lost and order kept per key.
//!
//! `cargo run --example rabbitmq-consumer --features rabbitmq -- --broker amqp://guest:guest@localhost/%2f`
//!
//! It makes a queue for itself and deletes it in the end. The replicas meet in an SQLite file in a temporary folder.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use anyhow::{Result, bail};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use leasehold::event::rabbitmq::{Key, QueueType};
use leasehold::prelude::*;
use leasehold_examples::{TTL, say, show};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["replica", name, database, queue] => replica(name, database, queue).await,
        ["--broker", broker] => {
            let folder = std::env::temp_dir().join(format!("leasehold-rabbitmq-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let done = play(broker, &format!("sqlite://{}/shared.db?mode=rwc", folder.display())).await;
            std::fs::remove_dir_all(&folder)?;
            done
        }
        _ => bail!("usage: rabbitmq-consumer --broker amqp://user:password@host:port/vhost"),
    }
}

/// One replica. All are the same: who consumes is up to the lease.
async fn replica(name: &str, database: &str, queue: &str) -> Result<()> {
    // Not in the argument list, which everybody on the machine can read.
    let broker = leasehold::secret::Secret::env("EXAMPLE_BROKER");
    let who = name.to_owned();
    let orders = RabbitMq::consume("orders-in", broker, queue)?
        .declare(QueueType::Quorum)
        .key(Key::CorrelationId)
        .order(Order::PerKey(4))
        .handler(move |message: Message, _: Lease| {
            let who = who.clone();
            async move {
                say(&who, message.text()?);
                Ok(())
            }
        });
    let node = Node::builder(database)
        .cluster("consumer-demo")
        .node_id(name)
        .ttl(TTL)
        .artifact(orders)
        .start()
        .await?;
    node.run_until_signal().await;
    Ok(())
}

async fn play(broker: &str, database: &str) -> Result<()> {
    let queue = format!("leasehold-example-{}", std::process::id());
    let connection = Connection::connect(broker, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    let mut arguments = lapin::types::FieldTable::default();
    arguments.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.as_str().into(), options, arguments).await?;
    println!("Three replicas consume queue {queue}; ttl {TTL:?}.\n");

    let publish = async |key: String, body: String| {
        let properties = BasicProperties::default().with_correlation_id(key.into()).with_delivery_mode(2);
        let (to, options) = (queue.as_str().into(), BasicPublishOptions::default());
        channel.basic_publish("".into(), to, options, body.as_bytes(), properties).await?.await?;
        Ok(())
    };
    let shown = show(&[("EXAMPLE_BROKER", broker)], &[database, &queue], publish).await;
    channel.queue_delete(queue.as_str().into(), Default::default()).await?;
    shown
}
