//! What a task remembers across holders besides its firings: kept as a checkpoint of its lease.

use leasehold_core::Error;
use leasehold_core::lease::Lease;
use serde::{Deserialize, Serialize};

use crate::config::TaskConfig;
use crate::schedule::Schedule;
use crate::timetable::millis;

/// The name of the checkpoint.
const KEY: &str = "schedule";

/// Unknown fields are those of newer programs, and ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Position {
    /// No slot is earlier, milliseconds since 1970; of a fixed rate the first one.
    pub(crate) anchor: i64,
    /// The configuration whose slots these are; that of whoever asks, if none is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Box<TaskConfig>>,
}

impl Position {
    /// Where a task begins that nobody has run yet.
    pub(crate) fn begin(config: &TaskConfig, now: i64) -> Self {
        let delay = i64::try_from(config.initial_delay.as_millis()).unwrap_or(i64::MAX);
        let start = config.start.map(|start| start.timestamp_millis());
        let anchor = start.unwrap_or_else(|| now.saturating_add(delay));
        Self { anchor, config: Some(Box::new(config.clone())) }
    }

    /// Where a task goes on whose schedule changes at `now`, when all that was due before has fired. A rate keeps its
    /// distance to the last slot.
    pub(crate) fn change(&self, config: &TaskConfig, last: Option<i64>, now: i64) -> Self {
        let begin = Self::begin(config, now);
        let rhythm = |c: &TaskConfig| (c.schedule.clone(), c.zone, c.start);
        if self.config.as_deref().map(rhythm) == Some(rhythm(config)) {
            return Self { anchor: self.anchor, ..begin };
        }
        let anchor = match (&config.schedule, last) {
            (Schedule::FixedRate(period), Some(last)) if config.start.is_none() => {
                last.saturating_add(millis(*period)).max(now)
            }
            (_, Some(_)) => begin.anchor.max(now),
            (_, None) => begin.anchor,
        };
        Self { anchor, ..begin }
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
