//! What a task remembers across holders besides its firings: kept as a checkpoint of its lease.

use leasehold_core::Error;
use leasehold_core::lease::Lease;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::TaskConfig;
use crate::schedule::Schedule;
use crate::timetable::millis;

/// The name of the checkpoint.
pub(crate) const KEY: &str = "schedule";

/// Unknown fields are those of newer programs, and ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Position {
    /// No slot is earlier, milliseconds since 1970; of a fixed rate the first one.
    pub(crate) anchor: i64,
    /// So many slots fired under schedules before this one, and do not count for its `count`.
    #[serde(default)]
    pub(crate) before: u64,
    /// The configuration whose slots these are; that of whoever asks, if none is stored, or one that only a newer program
    /// understands: then nothing is known to be due under it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "understood")]
    pub(crate) config: Option<Box<TaskConfig>>,
}

fn understood<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<TaskConfig>>, D::Error> {
    let config = Option::<serde_json::Value>::deserialize(from)?;
    Ok(config.and_then(|config| serde_json::from_value(config).ok()))
}

impl Position {
    /// Where a task begins that nobody has run yet.
    pub(crate) fn begin(config: &TaskConfig, now: i64) -> Self {
        let delay = i64::try_from(config.initial_delay.as_millis()).unwrap_or(i64::MAX);
        let start = config.start.map(|start| start.timestamp_millis());
        let anchor = start.unwrap_or_else(|| now.saturating_add(delay));
        Self { anchor, before: 0, config: Some(Box::new(config.clone())) }
    }

    /// Where a task goes on whose schedule changes at `now`, when all that was due before has fired: `fired` slots so far, and
    /// the `last` one. A rate keeps its distance to that, or to its start.
    pub(crate) fn change(&self, config: &TaskConfig, last: Option<i64>, fired: u64, now: i64) -> Self {
        let begin = Self::begin(config, now);
        let rhythm = |c: &TaskConfig| (c.schedule.clone(), c.zone, c.start);
        if self.config.as_deref().map(rhythm) == Some(rhythm(config)) {
            return Self { anchor: self.anchor, before: self.before, ..begin };
        }
        let anchor = match (&config.schedule, last) {
            (Schedule::FixedRate(period), Some(_)) if config.start.is_some() => {
                let period = millis(*period);
                let passed = now.saturating_sub(begin.anchor).saturating_add(period - 1).max(0) / period;
                begin.anchor.saturating_add(passed.saturating_mul(period))
            }
            (Schedule::FixedRate(period), Some(last)) => last.saturating_add(millis(*period)).max(now),
            (_, Some(_)) => begin.anchor.max(now),
            (_, None) => begin.anchor,
        };
        Self { anchor, before: fired, ..begin }
    }

    /// The configuration that was stored, if its slots are others than those of `config`.
    pub(crate) fn differs(&self, config: &TaskConfig) -> Option<&TaskConfig> {
        let slots = |c: &TaskConfig| (c.schedule.clone(), c.zone, c.start, c.end, c.count, c.initial_delay);
        self.config.as_deref().filter(|stored| slots(stored) != slots(config))
    }
}

/// What is stored.
///
/// # Errors
/// A checkpoint that cannot be read, errors of the database.
pub(crate) async fn load(lease: &Lease) -> Result<Option<Position>, Error> {
    let Some(text) = lease.load(KEY).await? else { return Ok(None) };
    let read = serde_json::from_str(&text).map_err(|error| {
        let problem = format!(
            "its checkpoint {KEY:?} cannot be read ({error}): {text}; correct it, or delete it to begin anew"
        );
        Error::artifact(lease.artifact().as_str(), problem)
    });
    read.map(Some)
}

/// # Errors
/// The lease is lost; errors of the database.
pub(crate) async fn save(lease: &Lease, position: &Position) -> Result<(), Error> {
    let text = serde_json::to_string(position)
        .map_err(|error| Error::artifact(lease.artifact().as_str(), error.to_string()))?;
    lease.save(KEY, text).await
}

#[cfg(test)]
mod tests {
    use leasehold_core::name::ArtifactName;
    use std::time::Duration;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn rate(hours: u64, start: Option<i64>) -> TaskConfig {
        let period = Duration::from_secs(hours * 3600);
        let mut config = TaskConfig::new(ArtifactName::new("t").unwrap(), Schedule::FixedRate(period));
        config.start = start.map(|start| chrono::DateTime::from_timestamp_millis(start).unwrap());
        config
    }

    #[test]
    fn a_rate_with_a_start_keeps_its_distance_to_it() {
        let daily = Position::begin(&rate(24, Some(2 * HOUR)), 0);
        let changed = daily.change(&rate(12, Some(2 * HOUR)), Some(2 * HOUR), 1, 15 * HOUR);
        assert_eq!((changed.anchor, changed.before), (26 * HOUR, 1));
        let at_a_slot = daily.change(&rate(12, Some(2 * HOUR)), Some(2 * HOUR), 1, 14 * HOUR);
        assert_eq!(at_a_slot.anchor, 14 * HOUR);
        let ahead = daily.change(&rate(12, Some(20 * HOUR)), Some(2 * HOUR), 1, 15 * HOUR);
        assert_eq!(ahead.anchor, 20 * HOUR);
        let without = daily.change(&rate(12, None), Some(2 * HOUR), 1, 4 * HOUR);
        assert_eq!(without.anchor, 14 * HOUR, "from the last slot");
    }

    #[test]
    fn slots_of_the_schedule_before_do_not_count() {
        let mut config = rate(1, None);
        let position = Position::begin(&config, 0);
        config.count = Some(12);
        let longer = position.change(&config, Some(0), 500, HOUR);
        assert_eq!(longer.before, 0, "the same rhythm goes on");
        let other = position.change(&rate(2, None), Some(0), 500, HOUR);
        assert_eq!(other.before, 500);
    }

    #[test]
    fn a_checkpoint_of_a_newer_program_is_read_as_far_as_it_is_understood() {
        let mut stored = serde_json::to_value(Position::begin(&rate(1, None), 7)).unwrap();
        stored["config"]["heeds-the-moon"] = true.into();
        stored["phase"] = "full".into();
        let read: Position = serde_json::from_value(stored).unwrap();
        assert_eq!((read.anchor, read.config), (7, None));
        let old: Position = serde_json::from_str("{\"anchor\":5}").unwrap();
        assert_eq!((old.anchor, old.before), (5, 0));
    }
}
