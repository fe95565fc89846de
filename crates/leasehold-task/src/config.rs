//! A task as it is written in a file.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use leasehold_core::Error;
use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::placement::Placement;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::schedule::{Interruption, Misfire, Overlap, Retry, Schedule};
use crate::timetable::Timetable;
use leasehold_core::duration;

/// Every firing costs two durable writes, of which either may take 10 ms on an ordinary disk.
pub const MIN_PERIOD: Duration = Duration::from_millis(10);
/// Longer ones are a mistake in the unit.
pub const MAX_DURATION: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Twice the default ttl, so that a slot that comes due while a dead node's lease expires is late, not misfired.
pub const DEFAULT_THRESHOLD: Duration = Duration::from_secs(10);
/// A week of history: long enough to look into what happened at the weekend.
pub const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// More firings of one task at once are a thread pool, not a schedule.
pub const MAX_AT_ONCE: u32 = 1_000;
/// With the longest pause after most of them, what still fails then is not helped by another attempt.
pub const MAX_ATTEMPTS: u32 = 1_000;
/// Above this the misfired slots alone would keep the task busy.
pub const MAX_FIRE_ALL: u32 = 10_000;

/// A task as it is written in a file; the twin of [`Task`](crate::Task). Durations are a whole number and a unit.
///
/// ```toml
/// name = "reminders"
/// schedule = { fixed-rate = "1m" }      # or { fixed-delay = "1m" }, { cron = "0 30 2 * * *" }, { once = "2027-01-01T00:00:00Z" }
/// # zone = "Europe/London"              # of a cron schedule; UTC unless set
/// # start = "2026-12-01T00:00:00Z"      # no slot before; likewise end: no slot after
/// # count = 12                          # so many slots at most
/// jitter = "0s"                         # each slot fires up to so much later, always by the same
/// overlap = "queue-one"                 # or "skip", "queue", or { allow = { limit = 3 } }
/// interruption = { rerun = { limit = 10 } }   # or "drop"
/// retry = { attempts = 3, backoff = "1s", max-backoff = "5m" }   # one attempt unless set
/// misfire = "fire-once"                 # or "skip", or { fire-all = { limit = 10 } }
/// threshold = "10s"
/// initial-delay = "0s"
/// timeout = "30s"                       # none unless set
/// keep = "7d"
/// placement = { resolver = "round-robin", min-nodes = 2 }   # as the node's other artifacts unless set
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct TaskConfig {
    /// The artifact's name, unique in the cluster.
    pub name: ArtifactName,
    /// When it fires.
    pub schedule: Schedule,
    /// The time zone of a cron schedule; UTC unless set.
    #[serde(
        default,
        deserialize_with = "leasehold_core::cron::zone",
        skip_serializing_if = "Option::is_none"
    )]
    pub zone: Option<Tz>,
    /// No slot is before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<DateTime<Utc>>,
    /// No slot is after this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<DateTime<Utc>>,
    /// So many slots fire at most, whoever fires them; without limit unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Each slot fires up to so much later, by an amount that follows from task and slot: tasks of one schedule do not
    /// all fire at once. Zero unless set.
    #[serde(default, with = "duration::serde")]
    pub jitter: Duration,
    /// What happens to slots that come due while a firing is under way; [`Overlap::QueueOne`] unless set.
    #[serde(default)]
    pub overlap: Overlap,
    /// What happens to a firing that was interrupted; [`Interruption::Rerun`] with [`DEFAULT_RERUNS`](crate::schedule::DEFAULT_RERUNS) unless set.
    #[serde(default)]
    pub interruption: Interruption,
    /// How often a firing is tried that fails or times out; once unless set.
    #[serde(default)]
    pub retry: Retry,
    /// What happens to slots older than the threshold; [`Misfire::FireOnce`] unless set.
    #[serde(default)]
    pub misfire: Misfire,
    /// How old a slot may be to be merely late; [`DEFAULT_THRESHOLD`] unless set. Twice the node's ttl fits.
    #[serde(default = "threshold", with = "duration::serde")]
    pub threshold: Duration,
    /// How long after the task first ran in the cluster its first slot is; zero unless set.
    #[serde(default, with = "duration::serde")]
    pub initial_delay: Duration,
    /// How long a firing may take before its handler is dropped; without limit unless set.
    #[serde(default, with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long firings stay in the history after their slot; [`DEFAULT_KEEP`] unless set. The last one always stays.
    #[serde(default = "keep", with = "duration::serde")]
    pub keep: Duration,
    /// How it is placed; as the node's other artifacts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

fn threshold() -> Duration {
    DEFAULT_THRESHOLD
}

fn keep() -> Duration {
    DEFAULT_KEEP
}

impl TaskConfig {
    /// A task with the defaults.
    pub fn new(name: ArtifactName, schedule: Schedule) -> Self {
        Self {
            name,
            schedule,
            zone: None,
            start: None,
            end: None,
            count: None,
            jitter: Duration::ZERO,
            overlap: Overlap::default(),
            interruption: Interruption::default(),
            retry: Retry::default(),
            misfire: Misfire::default(),
            threshold: threshold(),
            initial_delay: Duration::ZERO,
            timeout: None,
            keep: keep(),
            placement: None,
        }
    }

    /// Checks that the values can work.
    ///
    /// # Errors
    /// [`Error::Artifact`] naming the task, the field, its value and the remedy.
    pub fn validate(&self) -> Result<(), Error> {
        match &self.schedule {
            Schedule::FixedRate(period) => self.within("fixed-rate", *period, MIN_PERIOD)?,
            Schedule::FixedDelay(delay) => self.within("fixed-delay", *delay, MIN_PERIOD)?,
            Schedule::Cron(_) | Schedule::Once(_) => {}
        }
        Timetable::new(self)?;
        self.bounds()?;
        self.repetition()?;
        let millisecond = Duration::from_millis(1);
        self.within("threshold", self.threshold, millisecond)?;
        self.within("initial-delay", self.initial_delay, Duration::ZERO)?;
        self.within("keep", self.keep, millisecond)?;
        if let Some(timeout) = self.timeout {
            self.within("timeout", timeout, millisecond)?;
        }
        match self.misfire {
            Misfire::FireAll { limit: 0 } => Err(self.problem(
                "misfire fire-all with limit 0 would fire none: use skip, or a limit of 1 or more".into(),
            )),
            Misfire::FireAll { limit } if limit > MAX_FIRE_ALL => Err(self.problem(format!(
                "misfire fire-all with limit {limit} is out of range: give 1 to {MAX_FIRE_ALL}"
            ))),
            _ => Ok(()),
        }
    }

    fn bounds(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(self.problem(problem));
        if let (Some(zone), false) = (self.zone, matches!(self.schedule, Schedule::Cron(_))) {
            return refuse(format!("zone {zone} has no effect on this schedule: leave it out, or use cron"));
        }
        if let (Some(start), Some(end)) = (self.start, self.end)
            && start > end
        {
            return refuse(format!(
                "start {start} is after end {end}: it would never fire; give an earlier start"
            ));
        }
        if let Schedule::Once(at) = self.schedule
            && (self.start.is_some_and(|start| at < start) || self.end.is_some_and(|end| at > end))
        {
            return refuse(format!(
                "once {at} is not between start and end: leave those out, they say nothing more"
            ));
        }
        if self.count == Some(0) {
            return refuse("count 0 would never fire: give 1 or more, or leave it out".to_owned());
        }
        if !self.initial_delay.is_zero() && self.start.is_some() {
            return refuse("initial-delay and start contradict each other: give one of them".to_owned());
        }
        self.within("jitter", self.jitter, Duration::ZERO)
    }

    fn repetition(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(self.problem(problem));
        if let Interruption::Rerun { limit } = self.interruption
            && !(1..=MAX_ATTEMPTS).contains(&limit)
        {
            return refuse(format!(
                "interruption rerun with limit {limit} is out of range: give 1 to {MAX_ATTEMPTS}, or use drop"
            ));
        }
        match self.overlap {
            Overlap::Allow { limit } if !(2..=MAX_AT_ONCE).contains(&limit) => {
                return refuse(format!(
                    "overlap allow with limit {limit} is out of range: give 2 to {MAX_AT_ONCE}"
                ));
            }
            Overlap::Allow { .. } if matches!(self.schedule, Schedule::FixedDelay(_)) => {
                return refuse(
                    "overlap allow has no effect on fixed-delay, whose firings follow one another: leave it out".to_owned(),
                );
            }
            _ => {}
        }
        let Retry { attempts, backoff, max_backoff } = self.retry;
        if !(1..=MAX_ATTEMPTS).contains(&attempts) {
            return refuse(format!("retry attempts {attempts} is out of range: give 1 to {MAX_ATTEMPTS}"));
        }
        self.within("retry backoff", backoff, Duration::from_millis(1))?;
        self.within("retry max-backoff", max_backoff, backoff)
    }

    fn within(&self, field: &str, value: Duration, least: Duration) -> Result<(), Error> {
        if value < least || value > MAX_DURATION {
            return Err(
                self.problem(format!("{field} {value:?} is out of range: give {least:?} to 3650 days"))
            );
        }
        if !value.subsec_nanos().is_multiple_of(1_000_000) {
            let near = duration::format(value);
            return Err(
                self.problem(format!("{field} {value:?} is not a whole number of milliseconds: give {near}"))
            );
        }
        Ok(())
    }

    fn problem(&self, problem: String) -> Error {
        Error::artifact(self.name.as_str(), problem)
    }

    /// The schedule as it would be written in a file, for people.
    pub(crate) fn describe(&self) -> String {
        let mut text = match &self.schedule {
            Schedule::FixedRate(period) => format!("fixed-rate {}", duration::format(*period)),
            Schedule::FixedDelay(delay) => format!("fixed-delay {}", duration::format(*delay)),
            Schedule::Cron(text) => format!("cron {text:?}"),
            Schedule::Once(at) => format!("once {at}"),
        };
        let more = [
            self.zone.map(|zone| format!(" in {zone}")),
            self.start.map(|start| format!(" from {start}")),
            self.end.map(|end| format!(" until {end}")),
            self.count.map(|count| format!(" {count} times")),
            (!self.initial_delay.is_zero())
                .then(|| format!(" after {}", duration::format(self.initial_delay))),
        ];
        text.extend(more.into_iter().flatten());
        text
    }

    /// The same for the same configuration, on whichever node.
    pub(crate) fn fingerprint(&self) -> Uuid {
        leasehold_core::artifact::fingerprint(self)
    }
}

#[cfg(test)]
mod tests;
