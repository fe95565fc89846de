//! A node that holds thousands of artifacts is killed.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::Options;
use crate::counters::{Counters, Counts};
use crate::failover::LIMIT;
use crate::figures::{Bound, Report, percentile};
use crate::replica::Role;
use crate::replicas::Fleet;
use crate::servers::{Server, random};

const MANY: usize = 10_000;
const FEW: usize = 1_000;
/// Late statements of a move: the audit trail, and statistics that backends report once a second.
const AFTERMATH: Duration = Duration::from_secs(3);
const MOST_ROWS: f64 = 2_000.0;
const MOST_MS: f64 = 200.0;

pub(crate) async fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let counters = Counters::open(server).await?;
    let rounds = (options.kills / 6).clamp(1, 5);
    for ttl in options.ttls()? {
        let few = moves(server, counters.as_ref(), ttl, FEW, rounds).await?;
        let many = moves(server, counters.as_ref(), ttl, MANY, rounds).await?;
        for (artifacts, moves) in [(FEW, &few), (MANY, &many)] {
            let name = |what| {
                format!("ttl {ttl:?}, holder of {artifacts} killed, until all run, {what} of {rounds}")
            };
            report.time(name("median"), percentile(&moves.times, 0.5), None);
            report.time(name("worst"), percentile(&moves.times, 1.0), Some(ttl + Duration::from_secs(2)));
        }
        let Some(counters) = &counters else { continue };
        let name = |what: &str| format!("ttl {ttl:?}, {what}");
        report.add(name("statements of a move of 1000, of all nodes"), few.counts.statements, "", None);
        report.add(name("statements of a move of 10000, of all nodes"), many.counts.statements, "", None);
        let growth = (many.counts.statements - few.counts.statements) / (MANY - FEW) as f64;
        report.add(name("further statements per further artifact"), growth, "", Some(Bound::AtMost(0.01)));
        if counters.by_statement() {
            let most = Some(Bound::AtMost(MOST_ROWS));
            let granted = MANY as f64 / many.counts.grants.max(1.0);
            report.add(name("leases that one statement granted"), granted, "rows", most);
            report.add(
                name("audit events that one statement wrote"),
                many.counts.events_written,
                "rows",
                most,
            );
            report.add(name("slowest statement"), many.counts.slowest_ms, "ms", Some(Bound::AtMost(MOST_MS)));
            for text in many.heavy {
                report.note(format!("above {MOST_ROWS} rows or {MOST_MS} ms: {text}"));
            }
        } else {
            report.note(
                "rows and times of statements: not measured, pg_stat_statements cannot be created here",
            );
        }
    }
    if counters.is_none() {
        report.note("statements: SQLite has no server that counts");
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Moves {
    times: Vec<Duration>,
    /// Of the last move.
    counts: Counts,
    heavy: Vec<String>,
}

async fn moves(
    server: &Server,
    counters: Option<&Counters>,
    ttl: Duration,
    artifacts: usize,
    rounds: usize,
) -> Result<Moves> {
    let mut fleet = Fleet::new(Role {
        database: server.url().to_owned(),
        cluster: server.cluster("mass-move"),
        ttl,
        artifacts,
        quiet: true,
        ..Role::default()
    });
    for name in ["a", "b", "c"] {
        fleet.start(name).await?;
    }
    let mut moves = Moves::default();
    for _ in 0..rounds {
        let ready = |fleet: &Fleet| {
            let joined = fleet.members().all(|(_, member)| !member.sessions.is_empty());
            joined && holder(fleet, artifacts).is_some()
        };
        fleet.until(LIMIT, "three replicas are up and one runs everything", ready).await?;
        fleet.pause(AFTERMATH + random(ttl / 2)).await;
        let victim = holder(&fleet, artifacts).context("no holder")?;
        if let Some(counters) = counters {
            counters.reset().await?;
        }
        let at = fleet.kill(std::slice::from_ref(&victim))?;
        fleet.until(LIMIT, "another runs everything", |fleet| holder(fleet, artifacts).is_some()).await?;
        moves.times.push(Duration::from_nanos(fleet.complete.saturating_sub(at)));
        fleet.pause(AFTERMATH).await;
        if let Some(counters) = counters {
            moves.counts = counters.read().await?;
            if counters.by_statement() {
                moves.heavy = counters.heavy(MOST_ROWS, MOST_MS).await?;
            }
        }
        fleet.start(&victim).await?;
    }
    fleet
        .until(LIMIT, "the last one is back", |fleet| fleet.members().all(|(_, m)| !m.sessions.is_empty()))
        .await?;
    fleet.stop_all().await?;
    Ok(moves)
}

/// Who has entered a run of every artifact.
fn holder(fleet: &Fleet, artifacts: usize) -> Option<String> {
    fleet.members().find(|(_, member)| member.total >= artifacts).map(|(name, _)| name.clone())
}
