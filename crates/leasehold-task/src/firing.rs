//! What a handler gets, and how it ended.

use chrono::{DateTime, SecondsFormat, Utc};
use leasehold_core::lease::Lease;
use leasehold_core::name::ArtifactName;

/// One slot of a task, handed to its handler.
#[derive(Clone, Debug)]
pub struct Firing {
    slot: DateTime<Utc>,
    command: i64,
    attempt: u32,
    lease: Lease,
}

impl Firing {
    pub(crate) fn new(slot: DateTime<Utc>, command: i64, attempt: u32, lease: Lease) -> Self {
        Self { slot, command, attempt, lease }
    }

    /// Whether the schedule asked for it. Otherwise an operator did, and [`slot`](Firing::slot) is when it was taken up.
    pub fn is_scheduled(&self) -> bool {
        self.command == 0
    }

    /// The scheduled instant, in whole milliseconds, by the database's wall clock. The firing may be later; use this
    /// one where the work is about a period of time.
    pub fn slot(&self) -> DateTime<Utc> {
        self.slot
    }

    /// Which attempt at this slot it is, from 1. Above 1 an earlier attempt failed, or was interrupted: then it may have
    /// done nothing, a part, or everything but telling so.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The lease under which it fires. Check [`is_valid`](Lease::is_valid) right before effects on other systems, and
    /// write to the database in [`transaction`](Lease::transaction).
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The task.
    pub fn artifact(&self) -> &ArtifactName {
        self.lease.artifact()
    }

    /// The same for every attempt at this slot, and for no other slot: `artifact@slot`, the slot in RFC 3339 with
    /// milliseconds, as in `reminders@2026-11-24T08:00:00.000Z`. What an operator asked for has the number of the command
    /// instead, as in `reminders#17`.
    pub fn idempotency_key(&self) -> String {
        match self.command {
            0 => key(self.artifact(), self.slot),
            command => format!("{}#{command}", self.artifact()),
        }
    }
}

fn key(artifact: &ArtifactName, slot: DateTime<Utc>) -> String {
    format!("{artifact}@{}", slot.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// How a firing ended. All of them complete the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed(String),
    TimedOut(String),
    /// It was cut off under earlier leases, and the task says not to fire it again.
    Interrupted(String),
}

/// The longest error text that is stored, in characters.
const MAX_ERROR: usize = 4000;

impl Outcome {
    /// As stored.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::TimedOut(_) => "timed-out",
            Self::Interrupted(_) => "interrupted",
        }
    }

    /// As stored: PostgreSQL's text has no NUL, and a history is no place for a core dump.
    pub(crate) fn error(&self) -> Option<String> {
        match self {
            Self::Succeeded => None,
            Self::Failed(error) | Self::TimedOut(error) | Self::Interrupted(error) => {
                Some(error.replace('\0', "\u{fffd}").chars().take(MAX_ERROR).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_names_artifact_and_slot_to_the_millisecond() {
        let slot = DateTime::from_timestamp_millis(1_795_507_200_007).unwrap();
        let artifact = ArtifactName::new("reminders").unwrap();
        assert_eq!(key(&artifact, slot), "reminders@2026-11-24T08:00:00.007Z");
    }

    #[test]
    fn a_stored_error_is_short_and_has_no_nul() {
        let outcome = Outcome::Failed("a\0".repeat(MAX_ERROR));
        let stored = outcome.error().unwrap();
        assert_eq!(stored.chars().count(), MAX_ERROR);
        assert!(!stored.contains('\0'));
        assert_eq!(Outcome::Succeeded.error(), None);
    }
}
