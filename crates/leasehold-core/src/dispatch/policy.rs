//! What becomes of a message that could not be handled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff;
use crate::duration;

/// The first pause unless set: most of what fails for a moment is back within a second.
pub const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause unless set: what was repaired is noticed within a minute.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(60);
/// Longer ones are a mistake in the unit.
pub const MAX_BACKOFF: Duration = Duration::from_secs(24 * 3600);
/// With the longest pause after most of them, what still fails then is not helped by another attempt.
pub const MAX_ATTEMPTS: u32 = 1_000_000;

/// Where a message is while it waits for its next attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// With its holder, which keeps its order: what must come after it waits, too.
    #[default]
    InPlace,
    /// Back at its source until the pause is over. Only where no order is asked for.
    Requeue,
}

/// What becomes of a message whose attempts are used up, or that its handler rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The endpoint is paused in the whole cluster until somebody resumes it, and the message stays where it is.
    #[default]
    Stop,
    /// It goes to the endpoint's dead-letter destination, with the reason.
    DeadLetter,
    /// It is acknowledged and gone; only the log tells of it.
    Discard,
}

/// What becomes of a message that could not be handled. In a file:
/// `{ attempts = 8, backoff = "1s", max-backoff = "60s", place = "in-place", then = "dead-letter" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RetryPolicy {
    /// How often it is handled at most; without limit unless set. Attempts of earlier holders count where the source
    /// tells them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The pause after the first attempt; it doubles with each.
    #[serde(with = "duration::serde")]
    pub backoff: Duration,
    /// The longest pause.
    #[serde(with = "duration::serde")]
    pub max_backoff: Duration,
    /// Where it waits.
    pub place: Place,
    /// What happens after the last attempt, and to what is rejected.
    pub then: Then,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: None,
            backoff: DEFAULT_BACKOFF,
            max_backoff: DEFAULT_MAX_BACKOFF,
            place: Place::default(),
            then: Then::default(),
        }
    }
}

impl RetryPolicy {
    /// Whether another attempt follows after so many.
    pub fn allows(&self, attempts: u32) -> bool {
        self.attempts.is_none_or(|most| attempts < most)
    }

    /// The pause after so many attempts; shortened by up to a quarter, by `chance`.
    pub fn pause(&self, attempts: u32, chance: u64) -> Duration {
        backoff::pause(self.backoff, self.max_backoff, attempts, chance)
    }

    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// The field, its value and the remedy.
    pub fn validate(&self) -> Result<(), String> {
        let Self { attempts, backoff, max_backoff, .. } = *self;
        if attempts.is_some_and(|most| !(1..=MAX_ATTEMPTS).contains(&most)) {
            return Err(format!(
                "retry attempts {} is out of range: give 1 to {MAX_ATTEMPTS}, or leave it out for no limit",
                attempts.unwrap_or_default()
            ));
        }
        if backoff < Duration::from_millis(1) || backoff > MAX_BACKOFF {
            return Err(format!("retry backoff {backoff:?} is out of range: give 1ms to {MAX_BACKOFF:?}"));
        }
        if max_backoff < backoff || max_backoff > MAX_BACKOFF {
            return Err(format!(
                "retry max-backoff {max_backoff:?} is out of range: give at least backoff ({backoff:?}) and at most {MAX_BACKOFF:?}"
            ));
        }
        Ok(())
    }
}
