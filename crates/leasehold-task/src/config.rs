//! A task as it is written in a file.

use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::placement::Placement;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::duration;
use crate::schedule::{Misfire, Schedule};

/// Every firing costs two durable writes, of which either may take 10 ms on an ordinary disk.
pub const MIN_PERIOD: Duration = Duration::from_millis(10);
/// Longer ones are a mistake in the unit.
pub const MAX_DURATION: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Twice the default ttl, so that a slot that comes due while a dead node's lease expires is late, not misfired.
pub const DEFAULT_THRESHOLD: Duration = Duration::from_secs(10);
/// A week of history: long enough to look into what happened at the weekend.
pub const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// Above this the misfired slots alone would keep the task busy.
pub const MAX_FIRE_ALL: u32 = 10_000;

/// A task as it is written in a file; the twin of [`Task`](crate::Task). Durations are a whole number and a unit.
///
/// ```toml
/// name = "reminders"
/// schedule = { fixed-rate = "1m" }      # or { fixed-delay = "1m" }
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
        }
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

    /// The same for the same configuration, on whichever node.
    pub(crate) fn fingerprint(&self) -> Uuid {
        // A configuration of text and numbers has a JSON form; without one all would look alike, which is harmless.
        Uuid::new_v5(&Uuid::NAMESPACE_OID, serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

#[cfg(test)]
mod tests;
