//! When a task fires, and what it does about slots that it could not fire in time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use leasehold_core::duration;

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
    /// A cron expression of six fields, seconds first: `second minute hour day-of-month month day-of-week`, read in the
    /// task's time zone. With a day of the month and a day of the week given, either will do, unless one of them begins
    /// with `*`, as `*/2` does: then both must fit, as in Vixie cron.
    ///
    /// Where daylight saving begins, a slot with a fixed time inside the gap fires at the first instant after it, and
    /// patterns with `*` or a step go on after it. Where it ends, a slot with a fixed time fires once, at the
    /// first of the two passes, and patterns with `*` or a step fire in both. `0 30 1,13 * * *` lists two fixed times, and so
    /// do ranges, up to 288 times a day: more than that is a rhythm, too.
    Cron(String),
    /// Once, at this instant.
    Once(DateTime<Utc>),
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
    pub(crate) fn kept(self) -> u32 {
        match self {
            Self::Skip => 0,
            Self::FireOnce => 1,
            Self::FireAll { limit } => limit,
        }
    }
}

/// What to do about slots that come due while a firing of the task is under way. Retries of a firing belong to it. What
/// was due before it began is no overlap, and fires in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Overlap {
    /// They do not fire.
    Skip,
    /// The latest of them fires when the one under way has ended.
    #[default]
    QueueOne,
    /// All of them fire, one after the other, unless they are older than the threshold by then.
    Queue,
    /// They fire at once, beside each other; what comes due while `limit` are under way does not fire.
    Allow {
        /// At most so many at once; at least 2.
        limit: u32,
    },
}

/// What to do about a firing that was interrupted: its node died, was cut off, or dropped it at the end of the drain
/// time. It may have done nothing, a part, or everything but telling so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Interruption {
    /// It fires again, before anything else, and is told so by [`Firing::attempt`](crate::Firing::attempt).
    Rerun {
        /// So many attempts beyond those of [`Retry`] at most, at least 1. After them the history says `interrupted`: a
        /// firing that takes its node down with it must not take down all of them, one after the other, for ever.
        limit: u32,
    },
    /// It does not fire again; the history says `interrupted`.
    Drop,
}

/// More stops of nodes than a deploy of a whole cluster brings, and few enough to come to an end within an hour where each
/// firing kills its node.
pub const DEFAULT_RERUNS: u32 = 10;

impl Default for Interruption {
    fn default() -> Self {
        Self::Rerun { limit: DEFAULT_RERUNS }
    }
}

impl Interruption {
    /// How many attempts an interrupted firing may have, when a firing that fails has `attempts`.
    pub(crate) fn attempts(self, attempts: u32) -> u32 {
        match self {
            Self::Rerun { limit } => attempts.saturating_add(limit),
            Self::Drop => 1,
        }
    }
}

/// How often a firing is tried that fails or runs into its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct Retry {
    /// The most attempts, the first and interrupted ones among them.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one.
    #[serde(default = "backoff", with = "duration::serde")]
    pub backoff: Duration,
    /// The longest pause.
    #[serde(default = "max_backoff", with = "duration::serde")]
    pub max_backoff: Duration,
}

/// A second is long enough for a restart of what was called, and short for whoever waits.
pub const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);
/// Longer pauses hardly spare anybody anything.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(300);

fn backoff() -> Duration {
    DEFAULT_BACKOFF
}

fn max_backoff() -> Duration {
    DEFAULT_MAX_BACKOFF
}

impl Default for Retry {
    /// No second attempt.
    fn default() -> Self {
        Self { attempts: 1, backoff: DEFAULT_BACKOFF, max_backoff: DEFAULT_MAX_BACKOFF }
    }
}

impl Retry {
    /// At most so many attempts, at the default pauses.
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts, ..Self::default() }
    }

    /// The pause after the first failure, and the longest one.
    #[must_use]
    pub fn backoff(self, first: Duration, longest: Duration) -> Self {
        Self { backoff: first, max_backoff: longest, ..self }
    }

    /// The pause after attempt `attempt` failed, unless it was the last.
    pub(crate) fn pause(&self, attempt: u32) -> Option<Duration> {
        let doubled = self.backoff.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        (attempt < self.attempts).then_some(doubled.min(self.max_backoff))
    }
}
