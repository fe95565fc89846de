//! A message store: append, and bring to a handler or an endpoint, against bare loops of the same run on the same rows.

mod append;
mod bare;
mod kills;

use std::time::Duration;

use anyhow::{Context, Result};
use leasehold::clock::{BootClock, Clock};
use leasehold::prelude::*;
use leasehold::processor::config::Acknowledge;
use leasehold_core::handler::Handler;
use leasehold_core::message::Message;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};

use crate::Options;
use crate::counters::Counters;
use crate::figures::{Bound, Report};
use crate::servers::Server;
use crate::sink::{self, Count};

pub(crate) use kills::forwarder;

const AT_ONCE: usize = 16;
const BODY: usize = 1024;
/// Keys that messages are spread over.
const KEYS: u32 = 1000;
/// One at a time over HTTP is slow: fewer messages say as much.
const FEWER: u32 = 8;
const ROUNDS: usize = 3;
const IDLE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let mut connection = ConnectOptions::new(server.url());
    connection.max_connections(if server.is_sqlite() { 1 } else { 16 }).sqlx_logging(false);
    let db = Database::connect(connection).await?;
    let stage = Stage { server, db, cluster: server.cluster("store") };
    stage.nothing().await?;
    append::measure(&stage, options.messages, report).await?;
    let all = options.messages;

    for (order, called) in [(Order::Unordered(AT_ONCE), "unordered"), (Order::PerKey(AT_ONCE), "per key")] {
        let name = format!("{all} messages to a handler that does nothing, {called}");
        let bare = async || bare::pages(&stage, all).await;
        let ours = async || stage.handled(all, order).await;
        compare(report, &name, "of page and delete", bare, ours, 0.85).await?;
    }
    for (order, called) in [(Order::Unordered(AT_ONCE), "unordered"), (Order::PerKey(AT_ONCE), "per key")] {
        let name = format!("{all} messages over HTTP, {AT_ONCE} at once, {called}");
        let bare = async || bare::pages_over_http(&stage, all).await;
        let ours = async || stage.forwarded(all, order, None).await;
        compare(report, &name, "of page, post and delete", bare, ours, 0.75).await?;
    }
    let few = all / FEWER;
    let bare = async || bare::posts(few).await;
    let ours = async || stage.forwarded(few, Order::Ordered, None).await;
    compare(
        report,
        &format!("{few} messages over HTTP, strictly in order"),
        "of posting alone",
        bare,
        ours,
        0.9,
    )
    .await?;
    let bare = async || bare::one_by_one(&stage, few).await;
    let ours = async || stage.forwarded(few, Order::Ordered, Some(Acknowledge::Each)).await;
    let name = format!("{few} messages over HTTP, strictly in order, each acknowledged");
    compare(report, &name, "of select, post and delete", bare, ours, 0.9).await?;
    idle(&stage, report).await?;
    crowd(&stage, report).await?;
    kills::measure(server, options, report).await
}

/// Rounds of both, one after the other: the ratio is the median of rounds.
async fn compare(
    report: &mut Report,
    name: &str,
    of: &str,
    bare: impl AsyncFn() -> Result<f64>,
    ours: impl AsyncFn() -> Result<f64>,
    least: f64,
) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (bare, ours) = (bare().await?, ours().await?);
        rounds.push((ours / bare, bare, ours));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, bare, ours) = rounds.get(ROUNDS / 2).copied().context("a median")?;
    report.add(format!("{name}: bare loop"), bare, "/s", None);
    report.add(name, ours, "/s", None);
    report.add(format!("{name}: ratio {of}, median of {ROUNDS}"), ratio, "x", Some(Bound::AtLeast(least)));
    Ok(())
}

/// Where it takes place.
pub(crate) struct Stage<'a> {
    server: &'a Server,
    db: DatabaseConnection,
    cluster: String,
}

impl Stage<'_> {
    fn store(&self) -> Result<SqlStore> {
        Ok(SqlStore::new(&self.db, "bench-outbox")?)
    }

    /// Makes the tables, and no message.
    async fn nothing(&self) -> Result<()> {
        let node = Node::builder(self.server.url()).cluster(self.cluster.as_str()).start().await?;
        node.shutdown().await;
        self.store()?.release_reader().await?;
        self.empty().await
    }

    async fn empty(&self) -> Result<()> {
        let clear = if self.server.is_sqlite() { "delete from" } else { "truncate table" };
        for table in ["leasehold_message", "leasehold_parked"] {
            self.db.execute_unprepared(&format!("{clear} {table}")).await?;
        }
        Ok(())
    }

    /// So many messages wait.
    async fn fill(&self, many: u32) -> Result<()> {
        self.empty().await?;
        let (store, body) = (self.store()?, "x".repeat(BODY));
        for first in (0..many).step_by(1000) {
            let last = many.min(first + 1000);
            let messages: Vec<_> =
                (first..last).map(|n| Outgoing::text(body.as_str()).key(n % KEYS)).collect();
            store.append_batch(&self.db, &messages).await?;
        }
        if self.server.kind() == "PostgreSQL" {
            self.db.execute_unprepared("vacuum analyze leasehold_message").await?;
        }
        Ok(())
    }

    /// Messages per second, from the first to the last, that a processor brings to this handler.
    async fn brought(&self, many: u32, processor: Processor, count: &Count) -> Result<f64> {
        let node = Node::builder(self.server.url())
            .cluster(self.cluster.as_str())
            .artifact(processor)
            .start()
            .await?;
        count.reaches(1).await;
        let begin = BootClock.now();
        count.reaches(many as usize).await;
        let took = BootClock.now().since(begin).as_secs_f64();
        node.shutdown().await;
        Ok(f64::from(many) / took)
    }

    fn processor(&self, handler: impl Handler, order: Order) -> Result<Processor> {
        Ok(Processor::new("bench", self.store()?, handler)?.order(order))
    }

    async fn handled(&self, many: u32, order: Order) -> Result<f64> {
        self.fill(many).await?;
        let count = Count::default();
        let counted = count.clone();
        let handler = move |_: Message, _: Lease| {
            counted.add();
            std::future::ready(Ok(()))
        };
        self.brought(many, self.processor(handler, order)?, &count).await
    }

    async fn forwarded(&self, many: u32, order: Order, acknowledge: Option<Acknowledge>) -> Result<f64> {
        self.fill(many).await?;
        let (address, count) = sink::start()?;
        let mut processor = self.processor(Forward::post(format!("http://{address}/"))?, order)?;
        if let Some(Acknowledge::Each) = acknowledge {
            processor = processor.acknowledge_each();
        }
        self.brought(many, processor, &count).await
    }
}

/// What a processor asks of the database while there is nothing to do.
async fn idle(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let Some(counters) = Counters::open(stage.server).await? else { return Ok(()) };
    stage.empty().await?;
    let mut all = Vec::new();
    for with in [false, true] {
        let mut node = Node::builder(stage.server.url()).cluster(stage.cluster.as_str());
        if with {
            let handler = |_: Message, _: Lease| std::future::ready(Ok(()));
            node = node.artifact(stage.processor(handler, Order::Ordered)?);
        }
        let node = node.start().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        counters.reset().await?;
        tokio::time::sleep(IDLE).await;
        all.push(counters.read().await?.statements / IDLE.as_secs_f64());
        node.shutdown().await;
    }
    let more = all.last().zip(all.first()).map_or(0.0, |(with, without)| with - without);
    // Twice a second it looks for messages, unless told otherwise.
    report.add(
        "an idle processor's statements per second, beside the node's",
        more,
        "/s",
        Some(Bound::AtMost(2.2)),
    );
    Ok(())
}

/// A million that wait cost no more than a few.
async fn crowd(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    const FEW: u32 = 20_000;
    const MANY: u32 = 1_000_000;
    if stage.server.is_sqlite() {
        return Ok(());
    }
    let few = stage.handled(FEW, Order::PerKey(AT_ONCE)).await?;
    let before = resident()?;
    stage.fill(MANY).await?;
    let count = Count::default();
    let counted = count.clone();
    let handler = move |_: Message, _: Lease| {
        counted.add();
        std::future::ready(Ok(()))
    };
    let processor = stage.processor(handler, Order::PerKey(AT_ONCE))?;
    let node =
        Node::builder(stage.server.url()).cluster(stage.cluster.as_str()).artifact(processor).start().await?;
    count.reaches(1).await;
    let begin = BootClock.now();
    count.reaches(FEW as usize).await;
    let many = f64::from(FEW) / BootClock.now().since(begin).as_secs_f64();
    let memory = resident()?.saturating_sub(before);
    node.shutdown().await;
    stage.empty().await?;
    report.add(
        "with 1,000,000 messages waiting, rate of that with 20,000",
        many / few,
        "x",
        Some(Bound::AtLeast(0.8)),
    );
    report.add(
        "with 1,000,000 messages waiting, memory more",
        memory as f64 / 1e6,
        "MB",
        Some(Bound::AtMost(64.0)),
    );
    Ok(())
}

/// Bytes that this process has in memory.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
