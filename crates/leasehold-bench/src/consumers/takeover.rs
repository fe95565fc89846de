//! Holders that are killed, stopped and frozen, under load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::broker::Broker;
use super::fleet::Fleet;
use super::member::{Consumer, in_flight};
use crate::figures::{Bound, Report, percentile};
use crate::servers::{Server, random};

const TTL: Duration = Duration::from_secs(2);
const KEYS: u32 = 64;
/// Between two messages: some 500 a second, so that many are under way at any moment.
const EVERY: Duration = Duration::from_millis(2);
const WORK: Duration = Duration::from_millis(25);
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Publishes until it is told to end, and then tells how many of each key.
struct Load {
    over: Arc<AtomicBool>,
    task: JoinHandle<Result<BTreeMap<u32, u64>>>,
}

impl Load {
    async fn begin(broker: &Broker, queue: &str) -> Result<Self> {
        let publisher = broker.publisher(queue).await?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let task = tokio::spawn(async move {
            let mut published: BTreeMap<u32, u64> = BTreeMap::new();
            let mut ticks = tokio::time::interval(EVERY);
            for n in 0_u32.. {
                if ended.load(Ordering::Acquire) {
                    break;
                }
                ticks.tick().await;
                let key = n % KEYS;
                let number = published.entry(key).or_default();
                publisher.send(&format!("key-{key}"), format!("{key} {number}").as_bytes()).await?;
                *number += 1;
            }
            Ok(published)
        });
        Ok(Self { over, task })
    }

    async fn end(self) -> Result<BTreeMap<u32, u64>> {
        self.over.store(true, Ordering::Release);
        self.task.await?
    }
}

struct Stage {
    queue: String,
    fleet: Fleet,
    load: Load,
}

impl Stage {
    async fn set(server: &Server, broker: &Broker, of: &str) -> Result<Self> {
        let queue = broker.make(of).await?;
        let consumer = Consumer {
            name: String::new(),
            database: server.url().to_owned(),
            cluster: server.cluster(of),
            ttl: TTL,
            broker: broker.clone(),
            queue: queue.clone(),
            work: WORK,
        };
        let load = Load::begin(broker, &queue).await?;
        let mut fleet = Fleet::start(consumer, &NAMES).await?;
        fleet.until("somebody consumes", |fleet| fleet.ledger.len() > 100).await?;
        Ok(Self { queue, fleet, load })
    }

    /// Ends the load, waits for the rest, and judges.
    async fn judge(mut self, broker: &Broker, of: &str, most: usize, report: &mut Report) -> Result<()> {
        let published = self.load.end().await?;
        let count: u64 = published.values().sum();
        let all = usize::try_from(count)?;
        let waited = self
            .fleet
            .until("everything is handled", |fleet| {
                fleet.ledger.len() >= all && fleet.ledger.different() >= all
            })
            .await;
        if let Err(error) = waited {
            report.note(format!("{of}: {error}"));
        }
        self.fleet.stop_all().await?;
        self.fleet.pause(Duration::from_millis(200)).await;
        let verdict = self.fleet.ledger.judge(&published);
        report.add(
            format!("{of}: messages lost of {count}"),
            verdict.lost as f64,
            "",
            Some(Bound::AtMost(0.0)),
        );
        report.add(
            format!("{of}: handled before an earlier one of their key"),
            verdict.early as f64,
            "",
            Some(Bound::AtMost(0.0)),
        );
        report.add(
            format!("{of}: duplicates"),
            verdict.duplicates as f64,
            "",
            Some(Bound::AtMost(most as f64)),
        );
        broker.drop_queue(&self.queue).await
    }
}

/// SIGKILL of the holder.
pub(super) async fn kills(server: &Server, broker: &Broker, kills: usize, report: &mut Report) -> Result<()> {
    let mut stage = Stage::set(server, broker, "kill").await?;
    let mut times = Vec::new();
    for _ in 0..kills {
        stage.fleet.pause(Duration::from_secs(1) + random(TTL / 2)).await;
        let (holder, token) = stage.fleet.holder()?;
        let at = stage.fleet.signal(&holder, Signal::KILL)?;
        stage.fleet.reap(&holder).await?;
        let from = stage.fleet.taken_over(token).await?;
        times.push(Duration::from_nanos(from.saturating_sub(at)));
        stage.fleet.add(&holder).await?;
    }
    let name =
        |what| format!("SIGKILL to the first message at the next holder, ttl {TTL:?}: {what} of {kills}");
    report.time(name("median"), percentile(&times, 0.5), Some(TTL + Duration::from_millis(500)));
    report.time(name("worst"), percentile(&times, 1.0), None);
    stage.judge(broker, &format!("{kills} SIGKILLs"), kills * in_flight(broker), report).await
}

/// SIGTERM of the holder.
pub(super) async fn polite(
    server: &Server,
    broker: &Broker,
    stops: usize,
    report: &mut Report,
) -> Result<()> {
    let mut stage = Stage::set(server, broker, "polite").await?;
    let mut times = Vec::new();
    for _ in 0..stops {
        stage.fleet.pause(Duration::from_millis(500) + random(Duration::from_millis(500))).await;
        let (holder, token) = stage.fleet.holder()?;
        let at = stage.fleet.signal(&holder, Signal::TERM)?;
        let from = stage.fleet.taken_over(token).await?;
        times.push(Duration::from_nanos(from.saturating_sub(at)));
        stage.fleet.reap(&holder).await?;
        stage.fleet.add(&holder).await?;
    }
    let name = |what| format!("SIGTERM to the first message at the next holder: {what} of {stops}");
    report.time(name("median"), percentile(&times, 0.5), Some(Duration::from_secs(1)));
    report.time(name("worst"), percentile(&times, 1.0), None);
    stage.judge(broker, &format!("{stops} polite stops"), 0, report).await
}

/// SIGSTOP of the holder for three ttl, and SIGCONT.
pub(super) async fn frozen(server: &Server, broker: &Broker, report: &mut Report) -> Result<()> {
    let mut stage = Stage::set(server, broker, "freeze").await?;
    stage.fleet.pause(Duration::from_secs(1)).await;
    let (holder, token) = stage.fleet.holder()?;
    let at = stage.fleet.signal(&holder, Signal::STOP)?;
    let from = stage.fleet.taken_over(token).await?;
    report.time(
        format!("SIGSTOP to the first message at the next holder, ttl {TTL:?}"),
        Duration::from_nanos(from.saturating_sub(at)),
        None,
    );
    let frozen = (TTL * 3).saturating_sub(Duration::from_nanos(from.saturating_sub(at)));
    stage.fleet.pause(frozen).await;
    let heard = stage.fleet.ledger.len();
    let woken = stage.fleet.signal(&holder, Signal::CONT)?;
    stage.fleet.pause(TTL * 2).await;
    let stale = |handled: &&super::member::Handled| handled.token == token && handled.from > woken;
    let begun = stage.fleet.ledger.since(heard).iter().filter(stale).count();
    report.add("handed over by the frozen holder after it woke", begun as f64, "", Some(Bound::AtMost(0.0)));
    // What it had under way ends after it woke, and counts for nothing: the next holder has handled it, too.
    let late = |handled: &&super::member::Handled| handled.token == token && handled.until > woken;
    let ended: Vec<_> =
        stage.fleet.ledger.since(heard).iter().filter(late).map(|h| (h.key, h.number)).collect();
    let again = |(key, number): &(u32, u64)| {
        stage.fleet.ledger.since(0).iter().any(|h| h.token > token && (h.key, h.number) == (*key, *number))
    };
    let accepted = ended.iter().filter(|ended| !again(ended)).count();
    report.add(
        format!("acknowledged by the frozen holder after it woke and accepted, of {} under way", ended.len()),
        accepted as f64,
        "",
        Some(Bound::AtMost(0.0)),
    );
    let most = in_flight(broker);
    stage.judge(broker, "a frozen holder", most, report).await.context("after the freeze")
}
