//! The holder of a processor is killed under load, again and again: what arrived, how often, and in which order.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use leasehold::prelude::*;
use sea_orm::Database;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::AT_ONCE;
use crate::Options;
use crate::figures::{Bound, Report, percentile};
use crate::line::now;
use crate::servers::{Server, random};

const STORE: &str = "bench-kills";
const TTL: Duration = Duration::from_secs(2);
const NAMES: [&str; 3] = ["a", "b", "c"];
const KEYS: u64 = 50;
/// Besides what is in flight, so many acknowledgements wait to be written at most.
const UNWRITTEN: usize = 400;
const LIMIT: Duration = Duration::from_secs(60);

/// What a forwarding process is to do; by its standard input, because a URL may hold a password.
#[derive(Serialize, Deserialize)]
struct Role {
    database: String,
    cluster: String,
    name: String,
    url: String,
}

/// The forwarding process.
pub(crate) fn forwarder() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let Role { database, cluster, name, url } = serde_json::from_str(&line)?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let db = Database::connect(&database).await?;
        let forward = Forward::post(url)?.header("x-node", name.as_str())?.header("x-key", "{key}")?;
        let push = Processor::new("push", SqlStore::new(&db, STORE)?, forward)?.order(Order::PerKey(AT_ONCE));
        let node = Node::builder(database).cluster(cluster).node_id(name).ttl(TTL);
        node.artifact(push.without_breaker()).start().await?.run_until_signal().await;
        Ok(())
    })
}

#[derive(Default)]
struct Seen {
    /// By key: the highest number that arrived.
    highest: HashMap<String, u64>,
    /// By message: how often it arrived.
    times: HashMap<String, usize>,
    out_of_order: usize,
    last: Option<(String, u64)>,
}

#[derive(Clone, Default)]
struct Recorder(Arc<(Mutex<Seen>, Notify)>);

impl Recorder {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Each step is complete when the lock is let go.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until<T>(&self, what: &str, wanted: impl Fn(&Seen) -> Option<T>) -> Result<T> {
        let waiting = async {
            loop {
                let changed = self.0.1.notified();
                if let Some(found) = wanted(&self.seen()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.with_context(|| format!("waited in vain until {what}"))
    }
}

async fn take(State(recorder): State<Recorder>, headers: HeaderMap, body: String) {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let number: u64 = body.parse().unwrap_or(u64::MAX);
    {
        let mut seen = recorder.seen();
        let first = seen.times.entry(text("idempotency-key")).or_default();
        *first += 1;
        let first = *first == 1;
        let highest = seen.highest.entry(text("x-key")).or_insert(0);
        let late = first && number < *highest;
        *highest = (*highest).max(number);
        seen.out_of_order += usize::from(late);
        seen.last = Some((text("x-node"), now()));
    }
    recorder.0.1.notify_waiters();
    recorder.0.1.notify_one();
    // An endpoint takes its time.
    tokio::time::sleep(Duration::from_millis(2)).await;
}

async fn start(role: &Role) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("forwarder")
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting a forwarder")?;
    let mut input = child.stdin.take().context("its input")?;
    input.write_all(format!("{}\n", serde_json::to_string(role)?).as_bytes()).await?;
    Ok(child)
}

pub(super) async fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let recorder = Recorder::default();
    let app = Router::new().route("/", post(take)).with_state(recorder.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let db = Database::connect(server.url()).await?;
    let store = SqlStore::new(&db, STORE)?;
    // An earlier run of this program read it in another cluster.
    store.release_reader().await?;
    let (cluster, database) = (server.cluster("kills"), server.url().to_owned());
    let role = |name: &str| Role {
        database: database.clone(),
        cluster: cluster.clone(),
        name: name.to_owned(),
        url: url.clone(),
    };
    let mut members = HashMap::new();
    for name in NAMES {
        members.insert(name.to_owned(), start(&role(name)).await?);
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(load(store.clone(), db.clone(), stopped));

    let (mut gaps, mut duplicates, mut before) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.kills {
        let (holder, _) = recorder.until("a message arrives", |seen| seen.last.clone()).await?;
        tokio::time::sleep(Duration::from_millis(500) + random(Duration::from_secs(1))).await;
        let holder = recorder.seen().last.clone().map_or(holder, |(name, _)| name);
        let mut child = members.remove(&holder).context("the holder")?;
        let at = now();
        child.kill().await?;
        let next = recorder.until("another replica delivers", |seen| {
            seen.last.clone().filter(|(name, when)| *name != holder && *when > at)
        });
        gaps.push(Duration::from_nanos(next.await?.1.saturating_sub(at)));
        members.insert(holder.clone(), start(&role(&holder)).await?);
        let all: usize = recorder.seen().times.values().map(|times| times - 1).sum();
        duplicates.push(all - before);
        before = all;
    }
    stop.send_replace(true);
    let sent = load.await??;
    recorder.until("everything has arrived", |seen| (seen.times.len() >= sent).then_some(())).await?;
    let seen = recorder.seen();
    let kills = options.kills;
    let name = |what: &str| format!("{kills} SIGKILLs of a forwarding holder, ttl {TTL:?}, {what}");
    report.time(
        name("to the next delivery, median"),
        percentile(&gaps, 0.5),
        Some(TTL + Duration::from_millis(500)),
    );
    report.time(name("to the next delivery, worst"), percentile(&gaps, 1.0), None);
    report.add(name("messages"), sent as f64, "", None);
    report.add(name("lost"), (sent - seen.times.len()) as f64, "", Some(Bound::AtMost(0.0)));
    report.add(name("out of order within their key"), seen.out_of_order as f64, "", Some(Bound::AtMost(0.0)));
    let worst = duplicates.iter().max().copied().unwrap_or(0);
    report.add(
        name("delivered again, worst kill"),
        worst as f64,
        "",
        Some(Bound::AtMost((AT_ONCE + UNWRITTEN) as f64)),
    );
    ensure!(seen.times.len() <= sent, "something arrived that was never sent");
    Ok(())
}

/// Appends until it is stopped; tells how many.
async fn load(
    store: SqlStore,
    db: sea_orm::DatabaseConnection,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> Result<usize> {
    let mut sent = 0_u64;
    while !*stopped.borrow() {
        let messages: Vec<_> =
            (sent..sent + 10).map(|n| Outgoing::text((n / KEYS + 1).to_string()).key(n % KEYS)).collect();
        // A node may still make the tables.
        if store.append_batch(&db, &messages).await.is_ok() {
            sent += 10;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(usize::try_from(sent)?)
}
