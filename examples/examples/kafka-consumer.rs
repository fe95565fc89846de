//! Three replicas and one topic: one consumes, is killed, and the next goes on with nothing lost and order kept per key.
//!
//! `cargo run --example kafka-consumer --features kafka -- --broker localhost:9092`
//!
//! It makes a topic for itself and deletes it in the end. The replicas meet in an SQLite file in a temporary folder.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use leasehold::prelude::*;
use leasehold_examples::{TTL, say, show};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["replica", name, database, broker, topic] => replica(name, database, broker, topic).await,
        ["--broker", broker] => {
            let folder = std::env::temp_dir().join(format!("leasehold-kafka-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let done = play(broker, &format!("sqlite://{}/shared.db?mode=rwc", folder.display())).await;
            std::fs::remove_dir_all(&folder)?;
            done
        }
        _ => bail!("usage: kafka-consumer --broker host:port"),
    }
}

/// One replica. All are the same: who consumes is up to the lease.
async fn replica(name: &str, database: &str, broker: &str, topic: &str) -> Result<()> {
    let who = name.to_owned();
    let payments = Kafka::consume("payments-in", broker, [topic])?
        .group(topic)
        .order(Order::PerKey(4))
        // What was handled since the last commit is handled again after a kill.
        .commit_every(Duration::from_millis(200))
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
        .artifact(payments)
        .start()
        .await?;
    node.run_until_signal().await;
    Ok(())
}

async fn play(broker: &str, database: &str) -> Result<()> {
    let topic = format!("leasehold-example-{}", std::process::id());
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", broker).set("linger.ms", "0");
    let admin: AdminClient<DefaultClientContext> = settings.create()?;
    let new = NewTopic::new(&topic, 3, TopicReplication::Fixed(1));
    for made in admin.create_topics(&[new], &AdminOptions::new()).await? {
        made.map_err(|(topic, error)| anyhow!("topic {topic}: {error}"))?;
    }
    println!("Three replicas consume topic {topic}; ttl {TTL:?}.\n");

    let producer: FutureProducer = settings.create()?;
    let publish = async |key: String, body: String| {
        let sent =
            producer.send(FutureRecord::to(&topic).key(&key).payload(&body), Duration::from_secs(10)).await;
        sent.map(drop).map_err(|(error, _)| error.into())
    };
    let shown = show(&[], &[database, broker, &topic], publish).await;
    admin.delete_topics(&[&topic], &AdminOptions::new()).await?;
    shown
}
