//! SIGTERM: from the end of the last run to the next holder's `run`.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::failover::{LIMIT, Stage};
use crate::figures::{Bound, Report, percentile};
use crate::replicas::Fleet;
use crate::servers::{Server, random};

/// A firing that is under way when its node is asked to stop.
const FIRING: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
struct Stops {
    /// From a run's end to the next run of that artifact.
    gaps: Vec<Duration>,
    /// From a revocation to the end of the run.
    waits: Vec<Duration>,
    /// Runs whose lease became invalid while they finished their work.
    lapsed: usize,
}

/// Stops of holders that have nothing under way.
pub(crate) async fn stops(
    server: &Server,
    stage: &mut Stage,
    times: usize,
    report: &mut Report,
) -> Result<()> {
    let found = measure(stage, times).await?;
    let (ttl, bound) = (stage.timings.ttl, server.polite_bound(stage.timings.watch));
    let count = found.gaps.len();
    report.time(
        format!("ttl {ttl:?}, SIGTERM, end of run to next run, median of {count}"),
        percentile(&found.gaps, 0.5),
        None,
    );
    report.time(
        format!("ttl {ttl:?}, SIGTERM, end of run to next run, p99 of {count}"),
        percentile(&found.gaps, 0.99),
        Some(bound),
    );
    report.time(
        format!("ttl {ttl:?}, SIGTERM, end of run to next run, worst of {count}"),
        percentile(&found.gaps, 1.0),
        None,
    );
    Ok(())
}

/// Stops of holders with a firing under way.
pub(crate) async fn busy_stops(
    server: &Server,
    ttl: Duration,
    times: usize,
    report: &mut Report,
) -> Result<()> {
    let mut stage = Stage::new(server, ttl, FIRING).await?;
    let found = measure(&mut stage, times).await?;
    let bound = server.polite_bound(stage.timings.watch);
    let name = |what: &str| format!("ttl {ttl:?}, SIGTERM with a {FIRING:?} firing, {what}");
    let shortest = percentile(&found.waits, 0.0).as_secs_f64();
    report.add(name("shortest wait for it"), shortest, "s", Some(Bound::AtLeast(FIRING.as_secs_f64())));
    report.add(name("leases that lapsed meanwhile"), found.lapsed as f64, "", Some(Bound::AtMost(0.0)));
    let count = found.gaps.len();
    report.time(
        name(&format!("end of run to next run, p99 of {count}")),
        percentile(&found.gaps, 0.99),
        Some(bound),
    );
    stage.fleet.stop_all().await
}

async fn measure(stage: &mut Stage, times: usize) -> Result<Stops> {
    let mut stops = Stops::default();
    for _ in 0..times {
        stage.fleet.pause(random(stage.timings.renew * 2)).await;
        stage.settle().await?;
        let fleet = &mut stage.fleet;
        let holders: Vec<_> = fleet
            .members()
            .map(|(name, _)| name.clone())
            .filter(|name| !fleet.holdings(name).is_empty())
            .collect();
        let index = (random(Duration::from_secs(1)).as_nanos() as usize) % holders.len().max(1);
        let victim = holders.get(index).context("nobody holds anything")?.clone();
        let had = fleet.holdings(&victim);
        fleet.terminate(&victim)?;
        let moved = |fleet: &Fleet| {
            had.iter()
                .all(|(artifact, before)| fleet.holder(artifact).is_some_and(|now| now.token > before.token))
        };
        fleet.until(LIMIT, "another replica runs what was released", moved).await?;
        fleet.reap(&victim).await?;
        for (artifact, before) in &had {
            let key = (artifact.clone(), before.token);
            let (ended, valid) = *fleet.ended.get(&key).context("a run was cut off")?;
            let revoked = *fleet.revoked.get(&key).context("a run was not asked to end")?;
            let next = fleet.holder(artifact).context("nobody runs it")?.at;
            stops.gaps.push(Duration::from_nanos(next.saturating_sub(ended)));
            stops.waits.push(Duration::from_nanos(ended.saturating_sub(revoked)));
            stops.lapsed += usize::from(!valid);
        }
        stage.restart(&victim).await?;
    }
    stage.settle().await?;
    Ok(stops)
}
