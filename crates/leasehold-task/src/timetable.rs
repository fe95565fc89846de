//! Which slot is next. Pure: instants in, instants out, in milliseconds since 1970.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use leasehold_core::Error;
use leasehold_core::cron::Cron;

use crate::config::TaskConfig;
use crate::schedule::{Misfire, Schedule};

/// A schedule that can be computed with.
#[derive(Clone, Debug)]
pub(crate) struct Timetable {
    rhythm: Rhythm,
    start: i64,
    end: i64,
    count: u64,
    jitter: i64,
    salt: u64,
}

#[derive(Clone, Debug)]
enum Rhythm {
    Rate(i64),
    Delay(i64),
    Cron(Cron),
    Once(i64),
}

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// No slot is earlier; of a rate the first one.
    pub(crate) anchor: i64,
    /// The last claimed slot.
    pub(crate) last: Option<i64>,
    /// When the firing of that slot was completed.
    pub(crate) completed: Option<i64>,
    /// How many slots of the task have fired.
    pub(crate) fired: u64,
    /// So many of them did under schedules before this one, and do not count.
    pub(crate) before: u64,
}

/// What a task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Claim this slot: it is due.
    Claim(i64),
    /// Nothing is due before this moment.
    Wait(i64),
    /// There is no further slot.
    Over,
}

impl Timetable {
    /// # Errors
    /// A cron expression that cannot be read or never fires.
    pub(crate) fn new(config: &TaskConfig) -> Result<Self, Error> {
        let rhythm = match &config.schedule {
            Schedule::FixedRate(period) => Rhythm::Rate(millis(*period)),
            Schedule::FixedDelay(delay) => Rhythm::Delay(millis(*delay)),
            Schedule::Cron(text) => {
                let problem = |problem| Error::artifact(config.name.as_str(), problem);
                Rhythm::Cron(Cron::parse(text, config.zone.unwrap_or(Tz::UTC)).map_err(problem)?)
            }
            Schedule::Once(at) => Rhythm::Once(at.timestamp_millis()),
        };
        let bound = |at: Option<DateTime<Utc>>, none| at.map_or(none, |at| at.timestamp_millis());
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Ok(Self {
            rhythm,
            start: bound(config.start, i64::MIN),
            end: bound(config.end, i64::MAX),
            count: config.count.unwrap_or(u64::MAX),
            jitter: i64::try_from(config.jitter.as_millis()).unwrap_or(0),
            salt: config.name.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix),
        })
    }

    /// Whether a slot follows from the completion of the one before: then none can come due meanwhile.
    pub(crate) fn waits_for_completion(&self) -> bool {
        matches!(self.rhythm, Rhythm::Delay(_))
    }

    /// What to do at `now`.
    pub(crate) fn step(&self, progress: Progress, misfire: Misfire, threshold: Duration, now: i64) -> Step {
        let Some(first) = self.next(progress) else { return Step::Over };
        let horizon = now.saturating_sub(millis(threshold)).saturating_sub(self.jitter);
        let slot = if first < horizon { self.skip(first, horizon, misfire.kept()) } else { Some(first) };
        let Some(slot) = slot.filter(|slot| *slot <= self.end) else { return Step::Over };
        let due = self.due(slot);
        if due <= now { Step::Claim(slot) } else { Step::Wait(due) }
    }

    /// The latest slot that is due at `now`, if one is.
    pub(crate) fn latest(&self, progress: Progress, now: i64) -> Option<i64> {
        let first = self.next(progress)?;
        let mut slot = self.until(first, now.min(self.end))?;
        while self.due(slot) > now {
            slot = self.until(first, slot.checked_sub(1)?)?;
        }
        Some(slot)
    }

    /// When a slot fires: up to the jitter later, always the same.
    fn due(&self, slot: i64) -> i64 {
        if self.jitter == 0 {
            return slot;
        }
        let mut z = self.salt ^ slot.unsigned_abs();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let spread = (z ^ (z >> 31)) % self.jitter.unsigned_abs();
        slot.saturating_add_unsigned(spread)
    }

    /// The slot that is due then, where that follows from it.
    pub(crate) fn slot_of(&self, due: i64) -> Option<i64> {
        (self.jitter == 0).then_some(due)
    }

    /// The first slot later than the last claimed one.
    pub(crate) fn next(&self, progress: Progress) -> Option<i64> {
        let Progress { last, completed, fired, before, .. } = progress;
        let anchor = progress.anchor.max(self.start);
        let slot = match (&self.rhythm, last) {
            (Rhythm::Once(at), last) => last.is_none_or(|last| last < *at).then_some(*at),
            (Rhythm::Cron(cron), last) => {
                let after = last.map_or(anchor.saturating_sub(1), |last| last.max(anchor.saturating_sub(1)));
                cron.next(after, false)
            }
            (_, None) => Some(anchor),
            (Rhythm::Rate(_), Some(last)) if last < anchor => Some(anchor),
            (Rhythm::Rate(period), Some(last)) => {
                let passed = last.saturating_sub(anchor) / period + 1;
                Some(anchor.saturating_add(passed.saturating_mul(*period)))
            }
            // The clock may have been set back between the claim and the completion.
            (Rhythm::Delay(delay), Some(last)) => {
                let slot = completed.unwrap_or(last).saturating_add(*delay).max(last.saturating_add(1));
                Some(slot.max(anchor))
            }
        };
        slot.filter(|slot| *slot <= self.end && fired.saturating_sub(before) < self.count)
    }

    /// The first slot from `first` on when only the last `kept` of those before `horizon` count.
    fn skip(&self, first: i64, horizon: i64, kept: u32) -> Option<i64> {
        let missed_by = |step: i64| (horizon.saturating_sub(first) + step - 1) / step;
        let spared = |step: i64| {
            let skipped = (missed_by(step) - i64::from(kept)).max(0);
            Some(first.saturating_add(skipped.saturating_mul(step)))
        };
        match &self.rhythm {
            Rhythm::Rate(step) => {
                let within = self.end.saturating_sub(first) / step + 1;
                let skipped = (missed_by(*step).min(within) - i64::from(kept)).max(0);
                Some(first.saturating_add(skipped.saturating_mul(*step)))
            }
            // Nothing follows a slot before it is completed.
            Rhythm::Delay(_) | Rhythm::Once(_) if kept > 0 => Some(first),
            // By whole delays, so that skipping needs no memory and a slot cannot be put off for ever.
            Rhythm::Delay(step) => spared(*step),
            Rhythm::Once(_) => None,
            Rhythm::Cron(cron) => {
                let horizon = horizon.min(self.end.saturating_add(1));
                if kept == 0 {
                    return cron.next(horizon, true);
                }
                let mut slot = horizon;
                for _ in 0..kept {
                    match cron.previous(slot, false).filter(|slot| *slot >= first) {
                        Some(before) => slot = before,
                        None => return Some(first),
                    }
                }
                Some(slot)
            }
        }
    }

    /// The last slot up to `at`, of those from `first` on.
    fn until(&self, first: i64, at: i64) -> Option<i64> {
        if at < first {
            return None;
        }
        match &self.rhythm {
            Rhythm::Rate(period) => Some(first + (at - first) / period * period),
            Rhythm::Delay(_) | Rhythm::Once(_) => Some(first),
            Rhythm::Cron(cron) => cron.previous(at, true).filter(|slot| *slot >= first),
        }
    }
}

/// At least 1: a division by it must be possible whatever was configured.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod year;
