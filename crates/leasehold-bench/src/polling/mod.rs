//! What is polled: small files, a large one by lines, rows; each against a bare loop of the same run on the same data.

mod files;
mod kills;
mod lines;
mod rows;

use std::time::Duration;

use anyhow::{Context, Result};
use leasehold::clock::{BootClock, Clock, Instant};
use leasehold::prelude::*;
use leasehold_core::artifact::Artifact as Runs;

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
        rows::measure(server, options.files * 10, report).await?;
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

fn seconds(since: Instant) -> f64 {
    BootClock.now().since(since).as_secs_f64()
}
