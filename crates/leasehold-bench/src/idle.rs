//! What a node costs that has nothing to do.

use std::time::Duration;

use anyhow::Result;
use leasehold::timing::Timings;

use crate::counters::{Counters, Counts};
use crate::failover::LIMIT;
use crate::figures::{Bound, Report};
use crate::replica::Role;
use crate::replicas::Fleet;
use crate::servers::Server;

const NODES: [&str; 2] = ["a", "b"];
const WINDOW: Duration = Duration::from_secs(20);
/// What joining leaves behind must be over: deployments, the first plan, the audit trail.
const SETTLE: Duration = Duration::from_secs(12);

pub(crate) async fn measure(server: &Server, report: &mut Report) -> Result<()> {
    let timings = Timings::default();
    match Counters::open(server).await? {
        None => report.note("statements: SQLite has no server that counts"),
        Some(counters) => {
            let one = statements(server, &counters, 1).await?;
            let many = statements(server, &counters, 10_000).await?;
            let budget = 1.0 / timings.renew.as_secs_f64() + 1.0 / timings.watch.as_secs_f64();
            for (artifacts, counts) in [(1, one), (10_000, many)] {
                let name = format!("statements per idle node and second, {artifacts} artifacts");
                report.add(name, counts.statements, "/s", Some(Bound::AtMost(budget)));
                if counters.by_statement() {
                    let name = format!("of these renewals, {artifacts} artifacts");
                    // One more may fall into the window than its length in periods.
                    let most = 1.0 / timings.renew.as_secs_f64() + 1.0 / WINDOW.as_secs_f64();
                    report.add(name, counts.renewals, "/s", Some(Bound::AtMost(most)));
                }
            }
            // The windows do not begin at the same phase, so they may differ by a statement of each node.
            let most = 1.0 + 2.0 / (WINDOW.as_secs_f64() * one.statements.max(f64::MIN_POSITIVE));
            let ratio = many.statements / one.statements.max(f64::MIN_POSITIVE);
            report.add(
                "statements at 10000 artifacts, as a multiple of those at 1",
                ratio,
                "x",
                Some(Bound::AtMost(most)),
            );
            report.note(match counters.by_statement() {
                true => "counted by pg_stat_statements",
                false => {
                    "counted as transactions by pg_stat_database: pg_stat_statements cannot be created here"
                }
            });
        }
    }
    let mut fleet = start(server, 1_000).await?;
    let (mut holder, mut other) = (0.0_f64, 0.0_f64);
    for name in NODES {
        let resident = fleet.resident(name)?;
        let holds = fleet.members().any(|(member, state)| member == name && state.total > 0);
        *(if holds { &mut holder } else { &mut other }) = resident;
    }
    report.add(
        "RSS of an idle node with 1000 artifacts, which it runs",
        holder,
        "MiB",
        Some(Bound::AtMost(40.0)),
    );
    report.add(
        "RSS of an idle node with 1000 artifacts, standing by",
        other,
        "MiB",
        Some(Bound::AtMost(40.0)),
    );
    fleet.stop_all().await
}

async fn start(server: &Server, artifacts: usize) -> Result<Fleet> {
    let mut fleet = Fleet::new(Role {
        database: server.url().to_owned(),
        cluster: server.cluster("idle"),
        ttl: Timings::default().ttl,
        artifacts,
        quiet: true,
        ..Role::default()
    });
    for name in NODES {
        fleet.start(name).await?;
    }
    let all = |fleet: &Fleet| {
        fleet.members().all(|(_, member)| !member.sessions.is_empty())
            && fleet.members().any(|(_, member)| member.total == artifacts)
    };
    fleet.until(LIMIT, "one of two replicas runs everything", all).await?;
    fleet.pause(SETTLE).await;
    Ok(fleet)
}

/// Per node and second.
async fn statements(server: &Server, counters: &Counters, artifacts: usize) -> Result<Counts> {
    let mut fleet = start(server, artifacts).await?;
    counters.reset().await?;
    fleet.pause(WINDOW).await;
    let counts = counters.read().await?;
    fleet.stop_all().await?;
    let per = |count: f64| count / WINDOW.as_secs_f64() / NODES.len() as f64;
    Ok(Counts { statements: per(counts.statements), renewals: per(counts.renewals), ..counts })
}
