//! One round: a cluster is started, hurt, healed and judged.

mod recovery;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use leasehold::processor::{MessageStore, Outgoing, SqlStore};
use sea_orm::{DatabaseConnection, TransactionTrait};

use crate::brokers::{Brokers, Publisher, publish_all};
use crate::check::{self, Violation};
use crate::clock::Pace;
use crate::cluster::{Cluster, name};
use crate::database::Database;
use crate::node::{Broken, HOLDS, PUSH, STORE};
use crate::plan::Plan;
use crate::record::{Parcel, Record, Told, now_ms};

/// How long a cluster may take until it runs for the first time.
const START: Duration = Duration::from_secs(60);
/// A keeper's connections, its pool's, the store's, and those that are on their way out.
const MOST_CONNECTIONS: usize = 14;
/// Within this everything that was appended is delivered, once everybody is well.
const DRAIN: Duration = Duration::from_secs(30);

/// Promises about how long something takes.
pub(crate) const LIVENESS: [&str; 4] = [LATE, LEAKED, UNDELIVERED, NOT_WHOLE];
const LATE: &str = "failover in time";
const LEAKED: &str = "no leaked connection";
const UNDELIVERED: &str = "messages are delivered in time";
const NOT_WHOLE: &str = "one consumer, and no leaked connection to a broker";

/// What a cluster is like.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) nodes: usize,
    pub(crate) ttl_ms: u64,
    /// The second node's clock is that slow, the third one's that fast: a factor of 1.2 lies between them.
    pub(crate) uneven: bool,
    /// The first node's clock.
    pub(crate) pace: Pace,
    /// The third node's ttl, if it differs.
    pub(crate) long_ttl_ms: Option<u64>,
    pub(crate) rough_ms: u64,
    /// How long a machine that does other things as well may hold things up, besides what the protocol takes.
    pub(crate) slack_ms: u64,
    pub(crate) broken: Option<Broken>,
}

impl Setting {
    /// Nothing is broken; clocks, and ttls, differ as far as is allowed.
    pub(crate) fn healthy(nodes: usize, ttl_ms: u64) -> Self {
        let (pace, broken) = (Pace::True, None);
        let (long_ttl_ms, rough_ms) = (Some(ttl_ms * 3 / 2), ttl_ms * 3 / 2);
        Self { nodes, ttl_ms, uneven: true, pace, long_ttl_ms, rough_ms, slack_ms: 1500, broken }
    }

    /// Nodes of one cluster may differ in it.
    pub(crate) fn ttl_of(&self, node: usize) -> u64 {
        self.long_ttl_ms.filter(|_| node % 3 == 2).unwrap_or(self.ttl_ms)
    }

    pub(crate) fn max_ttl(&self) -> u64 {
        (0..self.nodes).map(|node| self.ttl_of(node)).max().unwrap_or(self.ttl_ms)
    }

    pub(crate) fn pace_of(&self, node: usize) -> Pace {
        match (self.uneven, node % 3) {
            (true, 1) => Pace::PerMille(915),
            (true, 2) => Pace::PerMille(1090),
            (_, 0) if node == 0 => self.pace,
            _ => Pace::True,
        }
    }

    /// Within which everything runs again once everybody is well: the longest session ends, or the longest ttl is waited for
    /// before a database that became another one is adopted, and then the sessions of the others end.
    fn bound_ms(&self, restarts: bool) -> u64 {
        // By the slowest clock.
        let longest = self.max_ttl() * 11 / 10;
        longest * if restarts { 3 } else { 2 } + self.slack_ms
    }
}

/// What came of a round.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<Violation>,
    /// By kind of fault: how long it took until what the hurt node held, or everything, ran elsewhere, if it moved.
    pub(crate) recoveries: Vec<(String, Option<u64>)>,
    pub(crate) healed_ms: u64,
    pub(crate) operations: usize,
    /// Statements that were executed with a mistake.
    pub(crate) mutated: u64,
    records: Vec<Record>,
}

/// Hurts a cluster by plan, and judges it.
pub(crate) async fn run(
    database: &Database,
    brokers: &Brokers,
    setting: &Setting,
    plan: &Plan,
    seed: u64,
) -> Result<Outcome> {
    let outcome = hurt(database, brokers, setting, plan, seed).await;
    brokers.end().await?;
    outcome
}

async fn hurt(
    database: &Database,
    brokers: &Brokers,
    setting: &Setting,
    plan: &Plan,
    seed: u64,
) -> Result<Outcome> {
    let mut cluster = Cluster::new(database, brokers, setting, seed).await?;
    if let Some((node, failpoint)) = plan.failpoint {
        cluster.arm(node, failpoint);
    }
    if let Some((node, wall)) = plan.wall {
        cluster.set_wall(node, wall).await?;
    }
    for node in 0..setting.nodes {
        cluster.start(node, false)?;
    }
    until_all_held(&cluster, 0, START).await.context("the cluster has not begun to run")?;
    let not_whole = brokers.whole().await;
    anyhow::ensure!(not_whole.is_empty(), "nobody has begun to consume: {}", not_whole.join(", "));
    let stop = Arc::new(AtomicBool::new(false));
    let store = SqlStore::new(&cluster.db, STORE)?;
    let mut appending = brokers.publish(&stop);
    let append = Store { db: cluster.db.clone(), store: store.clone() };
    appending.push(tokio::spawn(publish_all(Arc::new(append), Arc::clone(&stop))));

    let began = now_ms();
    for step in &plan.steps {
        tokio::time::sleep(Duration::from_millis((began + step.at).saturating_sub(now_ms()))).await;
        if let Some(fault) = &step.fault {
            let node = fault.node.map(name);
            let artifact = fault.artifact.map(str::to_owned);
            cluster.tell(vec![Told::Fault { kind: fault.kind.clone(), node, artifact }]).await?;
        }
        cluster.act(&step.act).await.with_context(|| format!("{:?}", step.act))?;
    }
    cluster.heal().await?;
    let healed = now_ms();
    cluster.tell(vec![Told::Healed]).await?;
    let mut violations = Vec::new();
    let bound = setting.bound_ms(plan.restarts);
    // Far beyond the bound, to tell late from never.
    let held = until_all_held(&cluster, healed, Duration::from_millis(bound * 4)).await;
    let healed_ms = now_ms() - healed;
    if held.is_err() || healed_ms > bound {
        let what = match held {
            Ok(()) => format!("everything runs again after {healed_ms} ms, not within {bound} ms"),
            Err(missing) => format!("{missing:#} {healed_ms} ms after everybody was well"),
        };
        violations.push(Violation { promise: LATE, what, at: healed + bound });
    }
    stop.store(true, Ordering::Relaxed);
    for appended in appending {
        cluster.tell(appended.await?).await?;
    }
    if let Some(left) = left(&store, DRAIN).await {
        let what =
            format!("{left} messages were still in the store {DRAIN:?} after the last one was appended");
        violations.push(Violation { promise: UNDELIVERED, what, at: now_ms() });
    }
    until_delivered(&cluster, DRAIN + brokers.silence()).await?;
    let not_whole = brokers.whole().await.into_iter();
    violations.extend(not_whole.map(|what| Violation { promise: NOT_WHOLE, what, at: now_ms() }));
    violations.extend(leaked(&cluster).await);
    for what in cluster.fallen() {
        violations.push(Violation { promise: "no replica ends by itself", what, at: now_ms() });
    }
    cluster.end().await?;
    let records = cluster.records()?;
    violations.extend(check::violations(&records));
    Ok(Outcome {
        violations,
        recoveries: recovery::all(&records),
        healed_ms,
        operations: records.iter().filter(|record| is_operation(&record.told)).count(),
        mutated: mutated(&records),
        records,
    })
}

fn is_operation(told: &Told) -> bool {
    matches!(
        told,
        Told::Effect { .. }
            | Told::Saved { .. }
            | Told::Outside { .. }
            | Told::Fired { .. }
            | Told::Delivered { .. }
    )
}

fn mutated(records: &[Record]) -> u64 {
    let of = |record: &Record| match record.told {
        Told::Mutated { statements } => Some(statements),
        _ => None,
    };
    records.iter().filter_map(of).max().unwrap_or(0)
}

/// Waits until everything that is deployed was held at an instant later than `since`.
async fn until_all_held(cluster: &Cluster<'_>, since: u64, patience: Duration) -> Result<()> {
    let end = now_ms() + u64::try_from(patience.as_millis())?;
    loop {
        let records = cluster.records()?;
        let held = |hold: &String| {
            records.iter().rev().any(|record| {
                matches!(&record.told, Told::Valid { artifact, at, .. } if artifact == hold && *at > since)
            })
        };
        let missing: Vec<_> =
            (0..HOLDS).map(|hold| format!("hold-{hold}")).filter(|hold| !held(hold)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(now_ms() < end, "nobody holds {}", missing.join(", "));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The message store, appended to in transactions of the proof's own.
struct Store {
    db: DatabaseConnection,
    store: SqlStore,
}

#[async_trait]
impl Publisher for Store {
    fn artifact(&self) -> &'static str {
        PUSH
    }

    async fn publish(&self, parcel: &Parcel) -> bool {
        let done = async {
            let txn = self.db.begin().await.ok()?;
            let message = Outgoing::json(parcel).ok()?.key(&parcel.key);
            self.store.append(&txn, message).await.ok()?;
            txn.commit().await.ok()
        };
        done.await.is_some()
    }
}

/// Waits until the store is empty; how many are left in it otherwise.
async fn left(store: &SqlStore, patience: Duration) -> Option<u64> {
    let end = now_ms() + u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    loop {
        let waiting = store.depth().await.map_or(u64::MAX, |depth| depth.waiting);
        if waiting == 0 || now_ms() > end {
            return Some(waiting).filter(|waiting| *waiting > 0);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the endpoint has what it is owed. What it lacks then is judged with the rest.
async fn until_delivered(cluster: &Cluster<'_>, patience: Duration) -> Result<()> {
    let end = now_ms() + u64::try_from(patience.as_millis())?;
    while !check::undelivered(&cluster.records()?).is_empty() && now_ms() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Connections that an outage has left behind: those that lead nowhere are let go within moments.
async fn leaked(cluster: &Cluster<'_>) -> Vec<Violation> {
    let end = now_ms() + 10_000;
    loop {
        let open: Vec<_> = cluster.connections().into_iter().enumerate().collect();
        let many: Vec<_> = open.into_iter().filter(|(_, open)| *open > MOST_CONNECTIONS).collect();
        if many.is_empty() || now_ms() > end {
            let of = |(node, open)| {
                let what = format!("{} has {open}, at most {MOST_CONNECTIONS} were expected", name(node));
                Violation { promise: LEAKED, what, at: now_ms() }
            };
            return many.into_iter().map(of).collect();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Outcome {
    /// In one line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{} faults, {} operations, everything runs {} ms after the last, {} violations",
            self.recoveries.len(),
            self.operations,
            self.healed_ms,
            self.violations.len()
        )
    }

    /// What was violated first, and what led to it.
    pub(crate) fn explain(&self, plan: &Plan) {
        println!("what was done:\n{plan}");
        for violation in self.violations.iter().take(5) {
            println!("violated: {}: {}", violation.promise, violation.what);
        }
        let Some(first) = self.violations.first() else { return };
        println!("the last records before it:");
        let before = self.records.iter().filter(|record| {
            record.got <= first.at && !matches!(record.told, Told::Valid { .. } | Told::Appended { .. })
        });
        let before: Vec<_> = before.collect();
        for record in before.iter().skip(before.len().saturating_sub(25)) {
            println!("  {} {} {:?}", record.got, record.by, record.told);
        }
    }
}
