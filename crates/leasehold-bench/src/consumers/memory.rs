//! A slow handler, and a million messages that wait.

use std::time::Duration;

use anyhow::Result;

use super::broker::Broker;
use super::fleet::Fleet;
use super::member::Consumer;
use crate::figures::{Bound, Report};
use crate::servers::Server;

const WAITING: usize = 1_000_000;
const BYTES: usize = 100;
/// Far above what a consumer takes, and far below what waits.
const MOST: f64 = 150.0;

pub(super) async fn measure(server: &Server, broker: &Broker, report: &mut Report) -> Result<()> {
    let queue = broker.make("memory").await?;
    broker.publisher(&queue).await?.fill(WAITING, 1_000, BYTES).await?;
    let consumer = Consumer {
        name: String::new(),
        database: server.url().to_owned(),
        cluster: server.cluster("memory"),
        ttl: Duration::from_secs(5),
        broker: broker.clone(),
        queue: queue.clone(),
        work: Duration::from_secs(1),
    };
    let mut fleet = Fleet::start(consumer, &["a"]).await?;
    fleet.pause(Duration::from_secs(20)).await;
    let resident = fleet.resident("a")?;
    report.add(
        "resident memory of a consumer whose handler takes 1 s, 1,000,000 messages waiting",
        resident,
        "MiB",
        Some(Bound::AtMost(MOST)),
    );
    fleet.stop_all().await?;
    broker.drop_queue(&queue).await
}
