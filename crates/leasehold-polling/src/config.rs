//! What all polling endpoints have in common, as it is written in a file.

use std::time::Duration;

use leasehold_core::dispatch::{self, Order, Place, RetryPolicy, Then};
use leasehold_core::duration;
use serde::{Deserialize, Serialize};

use crate::schedule::Schedule;

/// Items of a poll unless set: enough to make the poll's own cost small.
pub const DEFAULT_BATCH: usize = 500;
/// More than this in one poll is no batch.
pub const MAX_BATCH: usize = 10_000;
/// Attempts unless set: with the default pauses, about two minutes.
pub const DEFAULT_ATTEMPTS: u32 = 8;
/// How long progress waits to be written unless set: a small write five times a second.
pub const DEFAULT_LAG: Duration = Duration::from_millis(200);
/// The longest such wait.
pub const MAX_LAG: Duration = Duration::from_secs(60);

/// When progress is written down: what is not comes again after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// After the handler, many together: at least once. A crash repeats what was in flight and what was done within
    /// [`lag`](Polling::lag).
    #[default]
    AfterHandler,
    /// By [`Message::record`](leasehold_core::message::Message::record) in the handler's own transaction: effect and progress
    /// commit together or not at all, and each item takes effect once. Written after the handler where it does not do that.
    InHandler,
}

/// What happens to an item whose attempts are used up, or that was rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exhausted {
    /// The endpoint is paused in the whole cluster, until somebody resumes it; the item stays where it is.
    #[default]
    Stop,
    /// It is kept with the reason, where people find it: moved aside by an endpoint of files, given to the handler of
    /// `park_with` by any. Those after it go on.
    Park,
    /// It is passed over; only the log tells of it. A file that was to be deleted is moved aside.
    Drop,
}

/// What becomes of an item that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Retry {
    /// How often it is handed over at most, by whichever holder; [`DEFAULT_ATTEMPTS`] unless set.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one, and is shortened by chance.
    #[serde(with = "duration::serde")]
    pub backoff: Duration,
    /// The longest pause.
    #[serde(with = "duration::serde")]
    pub max_backoff: Duration,
    /// What happens after the last attempt, and to what is rejected. Unless set: parked by endpoints of files, else stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<Exhausted>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: DEFAULT_ATTEMPTS,
            backoff: dispatch::DEFAULT_BACKOFF,
            max_backoff: dispatch::DEFAULT_MAX_BACKOFF,
            then: None,
        }
    }
}

/// How an endpoint polls, and brings what it finds to its handler. In a file:
///
/// ```toml
/// schedule = { every = "1s" }           # or { cron = { at = "0 */5 * * * *" } }, { adaptive = { fast = "50ms", slow = "10s" } }
/// order = "ordered"                     # or { per-key = 16 }, { unordered = 16 }
/// batch = 500
/// retry = { attempts = 8, backoff = "1s", max-backoff = "60s", then = "park" }       # or "stop", "drop"
/// progress = "after-handler"            # or "in-handler"
/// lag = "200ms"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Polling {
    /// When is polled.
    pub schedule: Schedule,
    /// How many items are handled at once, and in which order; one at a time unless set.
    pub order: Order,
    /// Items of a poll at most; [`DEFAULT_BATCH`] unless set. Twice as many are here at most of which the next holder would not
    /// know that they are done.
    pub batch: usize,
    /// What becomes of what fails.
    pub retry: Retry,
    /// When progress is written down.
    pub progress: Progress,
    /// How long progress waits to be written after the handler; [`DEFAULT_LAG`] unless set. Zero: after each settlement.
    #[serde(with = "duration::serde")]
    pub lag: Duration,
}

impl Default for Polling {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            order: Order::default(),
            batch: DEFAULT_BATCH,
            retry: Retry::default(),
            progress: Progress::default(),
            lag: DEFAULT_LAG,
        }
    }
}

impl Polling {
    /// Checks that the values can work. `keeps` says whether what failed can be kept, `records` whether the poller writes by
    /// itself what is done.
    pub(crate) fn problem(&self, keeps: bool, records: bool) -> Result<(), String> {
        self.schedule.validate()?;
        self.order.validate().map_err(|problem| format!("order {problem}"))?;
        self.policy(keeps).validate()?;
        if self.batch < self.order.at_once() || self.batch > MAX_BATCH {
            return Err(format!(
                "batch {} is out of range: give at least as many as are handled at once ({}), and at most {MAX_BATCH}",
                self.batch,
                self.order.at_once()
            ));
        }
        if self.lag > MAX_LAG {
            return Err(format!("lag {:?} is out of range: give at most {MAX_LAG:?}", self.lag));
        }
        if self.retry.then == Some(Exhausted::Park) && !keeps {
            return Err(
                "retry then park has nowhere to park: give park_with a handler, for example one that stores"
                    .to_owned(),
            );
        }
        if self.progress == Progress::InHandler && self.order != Order::Ordered && !records {
            return Err(
                "progress in-handler moves with each item, one after the other: use order ordered, or progress after-handler".to_owned(),
            );
        }
        Ok(())
    }

    /// What the engine goes by.
    pub(crate) fn policy(&self, keeps: bool) -> RetryPolicy {
        let Retry { attempts, backoff, max_backoff, then } = self.retry;
        let unset = if keeps { Exhausted::Park } else { Exhausted::Stop };
        RetryPolicy {
            attempts: Some(attempts),
            backoff,
            max_backoff,
            place: Place::InPlace,
            then: match then.unwrap_or(unset) {
                Exhausted::Stop => Then::Stop,
                Exhausted::Park => Then::DeadLetter,
                Exhausted::Drop => Then::Discard,
            },
        }
    }

    /// How many items are here at most of which the next holder would not know that they are done.
    pub(crate) fn capacity(&self) -> usize {
        self.batch * 2
    }
}

/// The part of a builder that is the same for all: what is in [`Polling`], and the placement.
macro_rules! polling_builder {
    () => {
        /// When is polled; a second after each poll unless set.
        #[must_use]
        pub fn schedule(mut self, schedule: $crate::Schedule) -> Self {
            self.config.polling.schedule = schedule;
            self
        }

        /// So long after the end of each poll.
        #[must_use]
        pub fn every(self, pause: std::time::Duration) -> Self {
            self.schedule($crate::Schedule::Every(pause))
        }

        /// At the instants of this cron expression (seconds first), in UTC.
        #[must_use]
        pub fn cron(self, at: impl Into<String>) -> Self {
            self.schedule($crate::Schedule::Cron { at: at.into(), zone: chrono_tz::Tz::UTC })
        }

        /// `fast` while there is something, and slower and slower while there is not.
        #[must_use]
        pub fn adaptive(self, fast: std::time::Duration, slow: std::time::Duration) -> Self {
            self.schedule($crate::Schedule::Adaptive { fast, slow })
        }

        /// How many items are handled at once, and in which order; one at a time unless set.
        #[must_use]
        pub fn order(mut self, order: leasehold_core::dispatch::Order) -> Self {
            self.config.polling.order = order;
            self
        }

        /// Items of a poll at most; 500 unless set.
        #[must_use]
        pub fn batch(mut self, items: usize) -> Self {
            self.config.polling.batch = items;
            self
        }

        /// How often an item is handed over at most, by whichever holder; 8 times unless set.
        #[must_use]
        pub fn attempts(mut self, attempts: u32) -> Self {
            self.config.polling.retry.attempts = attempts;
            self
        }

        /// The pause after the first failure, and the longest one; 1 s and 60 s unless set.
        #[must_use]
        pub fn backoff(mut self, first: std::time::Duration, longest: std::time::Duration) -> Self {
            self.config.polling.retry.backoff = first;
            self.config.polling.retry.max_backoff = longest;
            self
        }

        /// What happens after the last attempt, and to what is rejected.
        #[must_use]
        pub fn exhausted(mut self, then: $crate::Exhausted) -> Self {
            self.config.polling.retry.then = Some(then);
            self
        }

        /// When progress is written down; after the handler unless set.
        #[must_use]
        pub fn progress(mut self, progress: $crate::Progress) -> Self {
            self.config.polling.progress = progress;
            self
        }

        /// How long progress waits to be written after the handler; 200 ms unless set.
        #[must_use]
        pub fn lag(mut self, lag: std::time::Duration) -> Self {
            self.config.polling.lag = lag;
            self
        }

        /// How it is placed; as the node's other artifacts unless set.
        #[must_use]
        pub fn placement(mut self, placement: leasehold_core::protocol::placement::Placement) -> Self {
            self.config.placement = Some(placement);
            self
        }
    };
}
pub(crate) use polling_builder;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_the_remedy() {
        let problem = |change: fn(&mut Polling), keeps| {
            let mut polling = Polling::default();
            change(&mut polling);
            polling.problem(keeps, false).unwrap_err()
        };
        assert!(problem(|p| p.batch = 0, true).contains("batch 0 is out of range"));
        assert!(problem(|p| p.retry.attempts = 0, true).contains("attempts 0 is out of range"));
        assert!(
            problem(|p| p.retry.then = Some(Exhausted::Park), false).contains("give park_with a handler")
        );
        let unordered = |p: &mut Polling| {
            (p.order, p.progress) = (Order::Unordered(4), Progress::InHandler);
        };
        assert!(problem(unordered, true).contains("use order ordered"));
        Polling::default().problem(false, false).unwrap();
    }

    #[test]
    fn it_is_read_from_a_file_and_unknown_fields_are_refused() {
        let read: Polling = toml::from_str(
            r#"
            schedule = { adaptive = { fast = "50ms", slow = "10s" } }
            order = { per-key = 16 }
            retry = { attempts = 3, then = "park" }
            progress = "after-handler"
            "#,
        )
        .unwrap();
        assert_eq!(read.order, Order::PerKey(16));
        assert_eq!(read.retry.then, Some(Exhausted::Park));
        assert_eq!(toml::from_str::<Polling>(&toml::to_string(&read).unwrap()).unwrap(), read);
        assert!(toml::from_str::<Polling>("every = \"1s\"").is_err());
        assert_eq!(toml::from_str::<Polling>("").unwrap(), Polling::default());
    }
}
