//! One replica: a node with artifacts that do nothing but say when they run.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use leasehold::prelude::*;
use leasehold::status::{State, Status};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::line::{Line, now};

/// What a replica is to be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) database: String,
    pub(crate) cluster: String,
    pub(crate) ttl: Duration,
    pub(crate) artifacts: usize,
    /// Over all nodes, rather than all on one.
    pub(crate) spread: bool,
    /// Say only when everything runs: thousands of lines would be measured along.
    pub(crate) quiet: bool,
    /// A firing that is under way when the node is asked to stop.
    pub(crate) work: Duration,
    /// Under a parent that knows when it dies.
    pub(crate) supervised: bool,
    /// Threads that never pause.
    pub(crate) busy: usize,
    /// For how long a handler blocks the runtime, again and again.
    pub(crate) block: Duration,
}

pub(crate) fn main() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let role: Role = serde_json::from_str(&line)?;
    for _ in 0..role.busy {
        std::thread::spawn(|| {
            let mut spins = 0_u64;
            loop {
                spins = std::hint::black_box(spins.wrapping_add(1));
            }
        });
    }
    // A handler can block all of a runtime only if that has one thread.
    let mut runtime = match role.block.is_zero() {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    runtime.worker_threads(2).enable_all().build()?.block_on(run(role))
}

async fn run(role: Role) -> Result<()> {
    let mut node = Node::builder(role.database.as_str())
        .cluster(role.cluster.as_str())
        .node_id(role.name.as_str())
        .ttl(role.ttl);
    if role.spread {
        node = node.placement(Placement::round_robin());
    }
    let (runs, role) = (Arc::new(AtomicUsize::new(0)), Arc::new(role));
    for index in 0..role.artifacts {
        let (role, runs) = (Arc::clone(&role), Arc::clone(&runs));
        let job = move |lease: Lease| job(Arc::clone(&role), Arc::clone(&runs), lease);
        node = node.artifact(Lead::new(format!("job-{index:05}"), job)?);
    }
    let node = node.start().await?;
    let status = node.status();
    // On a thread of its own, because a handler may block the runtime.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(tell(status));
        }
    });
    node.run_until_signal().await;
    Ok(())
}

async fn job(role: Arc<Role>, runs: Arc<AtomicUsize>, lease: Lease) -> Result<(), ArtifactError> {
    let at = now();
    let (artifact, token) = (lease.artifact().to_string(), lease.token().0);
    if role.quiet {
        let runs = runs.fetch_add(1, Ordering::Relaxed) + 1;
        if runs.is_multiple_of(role.artifacts) {
            say(&Line::Total { runs, at });
        }
        lease.revoked().await;
        return Ok(());
    }
    say(&Line::Run { artifact: artifact.clone(), token, at });
    while !role.block.is_zero() && !lease.is_revoked() {
        std::thread::sleep(role.block);
        // Long enough for a runtime to turn once.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    lease.revoked().await;
    say(&Line::Revoked { artifact: artifact.clone(), token, at: now() });
    let end = now() + u64::try_from(role.work.as_nanos())?;
    let mut valid = true;
    while now() < end {
        valid &= lease.is_valid();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    say(&Line::Ended { artifact, token, at: now(), valid });
    Ok(())
}

/// Says what changes in the node's status.
async fn tell(mut status: watch::Receiver<Status>) {
    let (mut session, mut leads) = (None, None);
    loop {
        {
            let status = status.borrow_and_update();
            if status.state == State::Joined && status.session != session {
                session = status.session;
                say(&Line::Session { id: session.map(|id| id.to_string()).unwrap_or_default() });
            }
            if leads != Some(status.leads) {
                leads = Some(status.leads);
                say(&Line::Leads { leads: status.leads });
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn say(line: &Line) {
    if let Ok(line) = serde_json::to_string(line) {
        // Whoever listened may be gone, and takes this process along, also one that has a parent.
        if writeln!(std::io::stdout().lock(), "{line}").is_err() {
            std::process::exit(1);
        }
    }
}
