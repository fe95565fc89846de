//! A node whose process has no processor and whose runtime is blocked keeps its session.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::failover::LIMIT;
use crate::figures::{Bound, Report};
use crate::replica::Role;
use crate::replicas::Fleet;
use crate::servers::Server;

const TTL: Duration = Duration::from_secs(2);
const BLOCK: Duration = Duration::from_secs(10);
const BUSY: usize = 8;
const VICTIM: &str = "starved";

pub(crate) async fn measure(server: &Server, seconds: u64, report: &mut Report) -> Result<()> {
    let role = Role {
        database: server.url().to_owned(),
        cluster: server.cluster("starved"),
        ttl: TTL,
        artifacts: 1,
        ..Role::default()
    };
    let mut fleet = Fleet::new(role.clone());
    fleet.start_as(&Role { name: VICTIM.to_owned(), busy: BUSY, block: BLOCK, ..role.clone() }).await?;
    fleet.until(LIMIT, "the starved replica runs", |fleet| fleet.holder("job-00000").is_some()).await?;
    // One that would take over at once.
    fleet.start("observer").await?;
    let up = |fleet: &Fleet| fleet.members().all(|(_, member)| !member.sessions.is_empty());
    fleet.until(LIMIT, "both are up", up).await?;
    fleet.pause(Duration::from_secs(seconds)).await;

    for (name, member) in fleet.members() {
        let lost = member.sessions.len().saturating_sub(1) as f64;
        let name = format!(
            "sessions that {name} lost in {seconds} s, {BUSY} busy threads, handler blocks {BLOCK:?}"
        );
        report.add(name, lost, "", Some(Bound::AtMost(0.0)));
    }
    let held = fleet.holder("job-00000").context("nobody runs it")?;
    report.add("takeovers", f64::from(u8::from(held.by != VICTIM)), "", Some(Bound::AtMost(0.0)));
    let everybody: Vec<_> = fleet.members().map(|(name, _)| name.clone()).collect();
    fleet.kill(&everybody)?;
    Ok(())
}
