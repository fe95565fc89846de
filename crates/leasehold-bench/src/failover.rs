//! SIGKILL to the next holder's `run`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use leasehold::timing::Timings;

use crate::figures::{Report, percentile};
use crate::replica::Role;
use crate::replicas::Fleet;
use crate::servers::{Server, random};
use crate::{Options, polite};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ARTIFACTS: usize = 12;
/// What is scheduling and round trips in the bound, rather than protocol.
const SLACK: Duration = Duration::from_millis(50);
/// Enough for anything that works at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Victim {
    Holder,
    Leader,
    Both,
}

pub(crate) async fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    for ttl in options.ttls()? {
        let timings = Timings::derived(ttl);
        let mut stage = Stage::new(server, ttl, Duration::ZERO).await?;
        for (victim, called) in [
            (Victim::Holder, "a plain holder"),
            (Victim::Leader, "the leader"),
            (Victim::Both, "leader and holder at once"),
        ] {
            let mut times = Vec::new();
            for _ in 0..options.kills {
                times.push(stage.kill(victim).await?);
            }
            let name = |what| format!("ttl {ttl:?}, SIGKILL of {called}, {what} of {}", times.len());
            report.time(name("median"), percentile(&times, 0.5), Some(ttl));
            report.time(name("worst"), percentile(&times, 1.0), Some(ttl + timings.watch * 3 + SLACK));
        }
        polite::stops(server, &mut stage, options.kills, report).await?;
        stage.fleet.stop_all().await?;
        polite::busy_stops(server, ttl, options.kills.div_ceil(6), report).await?;
    }
    Ok(())
}

/// Four replicas that share artifacts evenly.
pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) timings: Timings,
}

impl Stage {
    /// Replicas whose firings last for `work` after they were asked to stop.
    pub(crate) async fn new(server: &Server, ttl: Duration, work: Duration) -> Result<Self> {
        Self::of(server, ttl, work, false).await
    }

    /// Replicas that have a parent each, which knows when they die.
    pub(crate) async fn supervised(server: &Server, ttl: Duration) -> Result<Self> {
        Self::of(server, ttl, Duration::ZERO, true).await
    }

    async fn of(server: &Server, ttl: Duration, work: Duration, supervised: bool) -> Result<Self> {
        let mut fleet = Fleet::new(Role {
            database: server.url().to_owned(),
            cluster: server.cluster("failover"),
            ttl,
            artifacts: ARTIFACTS,
            spread: true,
            work,
            supervised,
            ..Role::default()
        });
        for name in NAMES {
            fleet.start(name).await?;
        }
        fleet.until(LIMIT, "four replicas run everything", Fleet::settled).await?;
        Ok(Self { fleet, timings: Timings::derived(ttl) })
    }

    /// One kill: the time until the last artifact of the victims runs elsewhere.
    pub(crate) async fn kill(&mut self, victim: Victim) -> Result<Duration> {
        let victims = self.cast(victim).await?;
        let fleet = &mut self.fleet;
        let lost: Vec<_> = victims.iter().flat_map(|name| fleet.holdings(name)).collect();
        let at = fleet.kill(&victims)?;
        let moved = |fleet: &Fleet| {
            lost.iter()
                .all(|(artifact, before)| fleet.holder(artifact).is_some_and(|now| now.token > before.token))
        };
        fleet.until(LIMIT, "another replica runs what the victim held", moved).await?;
        fleet.early += lost
            .iter()
            .filter_map(|(artifact, _)| fleet.holder(artifact))
            .filter(|held| held.at < at)
            .count();
        let last = lost.iter().filter_map(|(artifact, _)| fleet.holder(artifact)).map(|held| held.at).max();
        for name in &victims {
            self.restart(name).await?;
        }
        self.settle().await?;
        Ok(Duration::from_nanos(last.context("the victim held nothing")?.saturating_sub(at)))
    }

    /// Waits for a random phase, and then says who is to die.
    async fn cast(&mut self, victim: Victim) -> Result<Vec<String>> {
        for _ in 0..20 {
            self.fleet.pause(random(self.timings.renew * 2)).await;
            if !self.fleet.settled() {
                self.settle().await?;
                continue;
            }
            let leader = self.fleet.leader().context("no leader")?.to_owned();
            let holds = |name: &String| !self.fleet.holdings(name).is_empty();
            let mut plain: Vec<_> = self
                .fleet
                .members()
                .map(|(name, _)| name.clone())
                .filter(|name| *name != leader && holds(name))
                .collect();
            let first = |plain: &mut Vec<String>| {
                let index = (random(Duration::from_secs(1)).as_nanos() as usize) % plain.len();
                plain.swap_remove(index)
            };
            match victim {
                Victim::Holder if !plain.is_empty() => return Ok(vec![first(&mut plain)]),
                Victim::Leader if holds(&leader) => return Ok(vec![leader]),
                Victim::Both if !plain.is_empty() => return Ok(vec![leader, first(&mut plain)]),
                _ => self.shuffle().await?,
            }
        }
        bail!("no replica became {victim:?}")
    }

    /// Lets the replica that holds most go and come back: what it held goes to those that hold least.
    async fn shuffle(&mut self) -> Result<()> {
        let fullest =
            self.fleet.members().map(|(name, _)| name).max_by_key(|name| self.fleet.holdings(name).len());
        let fullest = fullest.context("no replica")?.clone();
        self.fleet.terminate(&fullest)?;
        self.fleet.reap(&fullest).await?;
        self.fleet.until(LIMIT, "the others run everything", Fleet::settled).await?;
        self.restart(&fullest).await?;
        self.settle().await
    }

    pub(crate) async fn restart(&mut self, name: &str) -> Result<()> {
        self.fleet.pause(random(self.timings.renew)).await;
        self.fleet.start(name).await
    }

    pub(crate) async fn settle(&mut self) -> Result<()> {
        self.fleet.until(LIMIT, "four replicas run everything", Fleet::settled).await
    }
}
