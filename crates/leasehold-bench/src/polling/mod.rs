//! What is polled: small files, a large one by lines, rows; each against a bare loop of the same run on the same data.

mod files;
mod kills;
mod lines;
mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use leasehold::clock::{BootClock, Clock, Instant};
use leasehold::prelude::*;
use leasehold_core::artifact::Artifact as Runs;

use tokio::sync::Notify;

use crate::Options;
use crate::figures::{Bound, Report};
use crate::servers::Server;

pub(crate) use kills::poller;

const ROUNDS: usize = 3;
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) async fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    // First, while nothing else has used memory.
    if options.mebibytes > 0 {
        lines::measure(server, options.mebibytes, report).await?;
    }
    if options.files > 0 {
        files::measure(server, options.files, report).await?;
    }
    if options.rows > 0 {
        rows::measure(server, options.rows, report).await?;
    }
    kills::measure(server, options, report).await
}

/// Rounds of both, one after the other, in seconds: the ratio is the median of rounds.
async fn compare(
    report: &mut Report,
    name: &str,
    of: &str,
    (many, unit): (f64, &'static str),
    bare: impl AsyncFn() -> Result<f64>,
    ours: impl AsyncFn() -> Result<f64>,
    least: Option<f64>,
) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (bare, ours) = (bare().await?, ours().await?);
        rounds.push((bare / ours, many / bare, many / ours));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, bare, ours) = rounds.get(ROUNDS / 2).copied().context("a median")?;
    report.add(format!("{name}: {of}"), bare, unit, None);
    report.add(name, ours, unit, None);
    report.add(format!("{name}: ratio, median of {ROUNDS}"), ratio, "x", least.map(Bound::AtLeast));
    Ok(())
}

/// Starts a node with this endpoint, and tells since when it runs there.
async fn start(server: &Server, cluster: &str, endpoint: impl Runs) -> Result<(Node, Instant)> {
    let node = Node::builder(server.url()).cluster(cluster).artifact(endpoint).start().await?;
    let mut status = node.status();
    tokio::time::timeout(LIMIT, status.wait_for(|status| !status.running.is_empty())).await??;
    Ok((node, BootClock.now()))
}

/// Counts what a handler was given, and wakes who waits once.
struct Given {
    many: u64,
    count: AtomicU64,
    bytes: AtomicU64,
    all: Notify,
}

impl Given {
    fn of(many: u32) -> Arc<Self> {
        let (count, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { many: many.into(), count, bytes, all: Notify::new() })
    }

    fn add(&self, message: &Message) {
        self.bytes.fetch_add(message.body().map_or(0, |body| body.len() as u64), Ordering::Relaxed);
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.many {
            self.all.notify_one();
        }
    }

    /// Waits for all, and tells how many bytes they had.
    async fn all(&self) -> Result<u64> {
        tokio::time::timeout(LIMIT, self.all.notified()).await.context("not all came")?;
        Ok(self.bytes.load(Ordering::Relaxed))
    }
}

fn seconds(since: Instant) -> f64 {
    BootClock.now().since(since).as_secs_f64()
}
