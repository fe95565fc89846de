//! When a task fires. Pure: instants in, instants out, in milliseconds since 1970.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;

/// When a task fires.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Schedule {
    /// Each `period` from an anchor, which is the moment at which the task first ran in the cluster, plus the initial
    /// delay. The anchor is kept in the database: restarts and failover do not shift the slots.
    #[serde(with = "duration::serde")]
    FixedRate(Duration),
    /// So long after the last firing was completed, whichever node completed it. There is never more than one slot to
    /// catch up with.
    #[serde(with = "duration::serde")]
    FixedDelay(Duration),
}

/// What to do about slots that are older than the threshold when they could be claimed at last: no node ran, or the
/// task was paused, or its firings took too long. A slot claimed within the threshold is merely late, and fires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Misfire {
    /// They do not fire.
    Skip,
    /// Only the latest of them fires.
    #[default]
    FireOnce,
    /// The latest `limit` of them fire, oldest first.
    FireAll {
        /// At most so many; at least 1.
        limit: u32,
    },
}

impl Misfire {
    /// How many misfired slots fire.
    fn kept(self) -> u32 {
        match self {
            Self::Skip => 0,
            Self::FireOnce => 1,
            Self::FireAll { limit } => limit,
        }
    }
}

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The first slot.
    pub(crate) anchor: i64,
    /// The last claimed slot.
    pub(crate) last: Option<i64>,
    /// When the firing of that slot was completed.
    pub(crate) completed: Option<i64>,
}

/// What a task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Claim this slot: it is due.
    Claim(i64),
    /// Nothing is due before this slot.
    Wait(i64),
}

impl Schedule {
    /// What to do at `now`.
    pub(crate) fn step(&self, progress: Progress, misfire: Misfire, threshold: Duration, now: i64) -> Step {
        let first = self.after(progress);
        let horizon = now.saturating_sub(millis(threshold));
        let slot = if first < horizon { self.skip(first, horizon, misfire.kept()) } else { first };
        if slot <= now { Step::Claim(slot) } else { Step::Wait(slot) }
    }

    /// The first slot later than the last claimed one.
    fn after(&self, progress: Progress) -> i64 {
        let Progress { anchor, last, completed } = progress;
        let Some(last) = last else { return anchor };
        match self {
            Self::FixedRate(_) if last < anchor => anchor,
            Self::FixedRate(period) => {
                let period = millis(*period);
                let passed = last.saturating_sub(anchor) / period + 1;
                anchor.saturating_add(passed.saturating_mul(period))
            }
            Self::FixedDelay(delay) => {
                // The clock may have been set back between the claim and the completion.
                completed.unwrap_or(last).saturating_add(millis(*delay)).max(last.saturating_add(1))
            }
        }
    }

    /// The first slot from `first` on when only the last `kept` of those before `horizon` count.
    fn skip(&self, first: i64, horizon: i64, kept: u32) -> i64 {
        let step = match self {
            Self::FixedRate(period) => millis(*period),
            // Nothing follows a slot before it is completed.
            Self::FixedDelay(_) if kept > 0 => return first,
            // By whole delays, so that skipping needs no memory and a slot cannot be put off for ever.
            Self::FixedDelay(delay) => millis(*delay),
        };
        let missed = (horizon.saturating_sub(first) + step - 1) / step;
        first.saturating_add((missed - i64::from(kept)).max(0).saturating_mul(step))
    }
}

/// At least 1: a division by it must be possible whatever was configured.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests;
