//! Tasks that fire each second on one node: how late, and at how many statements.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use leasehold::prelude::*;
use leasehold::task::Schedule;

use crate::counters::Counters;
use crate::figures::{Bound, Report, percentile};
use crate::servers::Server;

const FEW: usize = 100;
const MANY: usize = 1_000;
/// Joining, the first grants and the first firings must be over.
const SETTLE: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(30);
const LATENESS: Duration = Duration::from_millis(50);

pub(crate) async fn measure(server: &Server, report: &mut Report) -> Result<()> {
    let counters = Counters::open(server).await?;
    // A cron expression fires all of them in the same millisecond: nothing is harder. Rates begin when a task first
    // runs, so they spread a little.
    for (schedule, called) in [
        (Schedule::Cron("* * * * * *".to_owned()), "at the same instants"),
        (Schedule::FixedRate(Duration::from_secs(1)), "at instants of their own"),
    ] {
        let few = fire(server, counters.as_ref(), &schedule, FEW).await?;
        let many = fire(server, counters.as_ref(), &schedule, MANY).await?;
        let name = |what: &str| format!("{MANY} tasks each second {called}, {what}");
        let bound = (server.kind() == "PostgreSQL").then_some(LATENESS);
        report.time(name("lateness p50"), percentile(&many.lateness, 0.5), None);
        report.time(name("lateness p99"), percentile(&many.lateness, 0.99), bound);
        report.time(name("lateness worst"), percentile(&many.lateness, 1.0), None);
        let fired = many.lateness.len() as f64 / WINDOW.as_secs_f64();
        // A second at either end of the window may be cut.
        let least = MANY as f64 * (1.0 - 1.0 / WINDOW.as_secs_f64());
        report.add(name("firings per second"), fired, "/s", Some(Bound::AtLeast(least)));
        if let (Some(few), Some(many)) = (few.statements, many.statements) {
            report.add(format!("{FEW} tasks each second {called}, statements per second"), few, "/s", None);
            report.add(name("statements per second"), many, "/s", None);
            let growth = (many - few) / (MANY - FEW) as f64;
            report.add(name("further statements per further firing"), growth, "", Some(Bound::AtMost(0.2)));
        }
    }
    Ok(())
}

struct Fired {
    lateness: Vec<Duration>,
    /// Per second.
    statements: Option<f64>,
}

async fn fire(
    server: &Server,
    counters: Option<&Counters>,
    schedule: &Schedule,
    tasks: usize,
) -> Result<Fired> {
    let lateness: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let mut node = Node::builder(server.url()).cluster(server.cluster("tasks")).node_id("bench");
    for index in 0..tasks {
        let name = format!("task-{index:04}");
        let task = match schedule {
            Schedule::Cron(expression) => Task::cron(name, expression)?,
            _ => Task::fixed_rate(name, Duration::from_secs(1))?,
        };
        let lateness = Arc::clone(&lateness);
        node = node.artifact(task.handler(move |firing: Firing| {
            let late = firing.lease().schedule_clock().now() - firing.slot();
            // A slot is in whole milliseconds, so none fires before it.
            lateness.lock().unwrap_or_else(PoisonError::into_inner).push(late.to_std().unwrap_or_default());
            async { Ok(()) }
        }));
    }
    let node = node.start().await?;
    tokio::time::sleep(SETTLE).await;
    lateness.lock().unwrap_or_else(PoisonError::into_inner).clear();
    if let Some(counters) = counters {
        counters.reset().await?;
    }
    tokio::time::sleep(WINDOW).await;
    let lateness = std::mem::take(&mut *lateness.lock().unwrap_or_else(PoisonError::into_inner));
    let statements = match counters {
        Some(counters) => {
            Some(counters.read().await.context("statements")?.statements / WINDOW.as_secs_f64())
        }
        None => None,
    };
    node.shutdown().await;
    Ok(Fired { lateness, statements })
}
