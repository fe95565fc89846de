//! SIGKILL of a holder whose parent knows, to the next holder's `run`; and what `status` costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use leasehold::supervise::Parent;
use leasehold_core::clock::{BootClock, Clock};
use leasehold_core::control::Control;
use leasehold_core::name::{ArtifactKind, ArtifactName, ClusterName, NodeId};
use leasehold_core::protocol::request::{
    Answer, Deployed, Deployment, Grant, MAX_ROWS, NewNode, Placement, Request, Scope,
};
use leasehold_core::protocol::{SessionId, Token};
use leasehold_core::store::{Link, Target};
use uuid::Uuid;

use crate::Options;
use crate::counters::Counters;
use crate::failover::{Stage, Victim};
use crate::figures::{Bound, Report, percentile};
use crate::servers::Server;

const NODES: usize = 50;
const ARTIFACTS: usize = 10_000;
/// Of a database that wakes the others; elsewhere they look twice.
const AT_ONCE: Duration = Duration::from_millis(100);
const MOST_MS: f64 = 100.0;
/// So many looks, of which the median counts.
const LOOKS: usize = 11;

/// The parent of one replica, as `leasehold run` is.
pub(crate) fn parent() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("replica");
        let ended = Parent::start_as_init(command)?.wait().await?;
        std::process::exit(ended.status.code().unwrap_or(1))
    })
}

pub(crate) async fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    // A ttl that would show: whatever happens within 100 ms was not waited out.
    let ttl = options.ttls()?.into_iter().max().context("a ttl")?;
    let mut stage = Stage::supervised(server, ttl).await?;
    let bound = match server.kind() {
        "PostgreSQL" => AT_ONCE,
        _ => stage.timings.watch * 2 + AT_ONCE,
    };
    for (victim, called, kills, bound) in [
        (Victim::Holder, "a holder", options.kills, Some(bound)),
        (Victim::Leader, "the leader, which holds something", options.kills / 4, None),
    ] {
        let mut times = Vec::new();
        for _ in 0..kills {
            times.push(stage.kill(victim).await?);
        }
        let name = |what| format!("ttl {ttl:?}, SIGKILL of {called}, supervised, {what} of {kills}");
        report.time(name("median"), percentile(&times, 0.5), None);
        report.time(name("p99"), percentile(&times, 0.99), bound);
        report.time(name("worst"), percentile(&times, 1.0), None);
    }
    let early = stage.fleet.early;
    report.add(
        "runs that began before the holder before was killed",
        early as f64,
        "",
        Some(Bound::AtMost(0.0)),
    );
    stage.fleet.stop_all().await?;
    status(server, report).await
}

/// What `leasehold status` asks, of a large cluster of which no process lives: only its rows.
async fn status(server: &Server, report: &mut Report) -> Result<()> {
    let cluster = server.cluster("status");
    populate(server, &ClusterName::new(&cluster)?).await?;
    let control = Control::open(server.url(), &cluster).await?;
    let reader = control.reader().await?;
    let counters = Counters::open(server).await?;
    reader.overview().await?;
    let mut times = Vec::new();
    if let Some(counters) = &counters {
        counters.reset().await?;
    }
    for _ in 0..LOOKS {
        let begun = BootClock.now();
        let overview = reader.overview().await?;
        times.push(BootClock.now().since(begun));
        if (overview.nodes.len(), overview.artifacts.len()) != (NODES, ARTIFACTS) {
            bail!("{} nodes and {} artifacts", overview.nodes.len(), overview.artifacts.len());
        }
    }
    let name = |what: &str| format!("status of {NODES} nodes and {ARTIFACTS} artifacts, {what}");
    let bound = Some(Bound::AtMost(MOST_MS));
    match counters {
        Some(counters) if counters.by_statement() => {
            let total = counters.read().await?.total_ms / LOOKS as f64;
            report.add(name("time in the database"), total, "ms", bound);
            report.time(name("with reading the rows"), percentile(&times, 0.5), None);
        }
        _ => {
            let ms = percentile(&times, 0.5).as_secs_f64() * 1000.0;
            report.add(name("with reading the rows"), ms, "ms", bound);
        }
    }
    reader.close().await;
    Ok(())
}

async fn populate(server: &Server, cluster: &ClusterName) -> Result<()> {
    let target = Target::from_url(server.url())?;
    leasehold_core::store::migrate(&target).await?;
    let link = Link::open(&target).await?;
    let kind = ArtifactKind::new("lead")?;
    let mut artifacts = BTreeMap::new();
    for index in 0..ARTIFACTS {
        let placement = Placement::round_robin();
        let deployed = Deployed { kind: kind.clone(), fingerprint: Uuid::nil(), placement };
        artifacts.insert(ArtifactName::new(format!("job-{index:05}"))?, deployed);
    }
    let (deployment, ttl) = (Deployment::new(artifacts), Duration::from_secs(600));
    let open = Request::Open { node: NodeId::new("node-0")?, max_ttl: ttl };
    let Answer::Opened { cluster: row, live, .. } = link.call(cluster, &open).await? else {
        bail!("no cluster")
    };
    link.call(cluster, &Request::Register { deployment: deployment.clone() }).await?;
    let sessions: Vec<_> = (0..NODES).map(|_| SessionId::fresh()).collect();
    for (index, &session) in sessions.iter().enumerate() {
        let node = NewNode {
            session,
            node: NodeId::new(format!("node-{index}"))?,
            ttl,
            labels: Arc::default(),
            deployment: deployment.id,
            draining: false,
        };
        link.call(cluster, &Request::Join { node, incarnation: live.clone() }).await?;
        let renew =
            Request::Renew { session, beat: 1, pass: 0, incarnation: live.clone(), scope: Scope::Heads };
        link.call(cluster, &renew).await?;
    }
    let names: Vec<_> = deployment.artifacts.keys().cloned().collect();
    for (at, names) in names.chunks(MAX_ROWS).enumerate() {
        let rows = names.iter().enumerate().map(|(index, artifact)| Grant {
            artifact: artifact.clone(),
            seen: Token(0),
            to: sessions[(at + index) % NODES],
        });
        let grant = Request::Grant {
            rows: rows.collect(),
            incarnation: live.clone(),
            epoch: row.epoch,
            term: row.term,
        };
        link.call(cluster, &grant).await?;
    }
    link.close().await;
    Ok(())
}
