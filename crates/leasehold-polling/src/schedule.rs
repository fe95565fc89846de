//! When is polled next: pure.

use std::time::Duration;

use chrono_tz::Tz;
use leasehold_core::backoff::Backoff;
use leasehold_core::clock::Instant;
use leasehold_core::cron::{self, Cron};
use leasehold_core::duration;
use serde::{Deserialize, Deserializer, Serialize};

/// The pause unless set: a folder or a table bears it, and people hardly wait.
pub const DEFAULT_EVERY: Duration = Duration::from_secs(1);
/// The shortest pause.
pub const MIN_EVERY: Duration = Duration::from_millis(10);
/// Longer ones are a mistake in the unit, or a matter for cron.
pub const MAX_EVERY: Duration = Duration::from_secs(24 * 3600);
/// After errors the pause doubles up to this: what was repaired is noticed within a minute.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// When is polled. In a file: `{ every = "1s" }`, `{ cron = { at = "0 */5 * * * *", zone = "Europe/London" } }` or
/// `{ adaptive = { fast = "50ms", slow = "10s" } }`.
///
/// A poll that says there is more is followed by the next one without a pause, whatever the schedule. After an error the pause
/// doubles, up to a minute or the schedule's own pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Schedule {
    /// So long after the end of each poll.
    Every(#[serde(with = "duration::serde")] Duration),
    /// At these instants of the database's clock. One that passes while nobody holds the lease is not made up for: the next
    /// polls what came meanwhile.
    Cron {
        /// Second, minute, hour, day of month, month, day of week.
        at: String,
        /// The time zone; UTC unless set.
        #[serde(default = "utc", deserialize_with = "zone")]
        zone: Tz,
    },
    /// `fast` after a poll that found something; the pause doubles while nothing comes, up to `slow`.
    Adaptive {
        /// The shortest pause.
        #[serde(with = "duration::serde")]
        fast: Duration,
        /// The longest.
        #[serde(with = "duration::serde")]
        slow: Duration,
    },
}

fn utc() -> Tz {
    Tz::UTC
}

fn zone<'de, D: Deserializer<'de>>(from: D) -> Result<Tz, D::Error> {
    Ok(cron::zone(from)?.unwrap_or(Tz::UTC))
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Every(DEFAULT_EVERY)
    }
}

impl Schedule {
    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// The field, its value and the remedy.
    pub fn validate(&self) -> Result<(), String> {
        let within = |field: &str, value: Duration| {
            if (MIN_EVERY..=MAX_EVERY).contains(&value) {
                return Ok(());
            }
            Err(format!("schedule {field} {value:?} is out of range: give {MIN_EVERY:?} to {MAX_EVERY:?}"))
        };
        match self {
            Self::Every(pause) => within("every", *pause),
            Self::Cron { at, zone } => {
                Cron::parse(at, *zone).map(drop).map_err(|problem| format!("schedule {problem}"))
            }
            Self::Adaptive { fast, slow } => {
                within("adaptive fast", *fast)?;
                within("adaptive slow", *slow)?;
                if slow < fast {
                    return Err(format!(
                        "schedule adaptive slow {slow:?} is shorter than fast {fast:?}: give at least that"
                    ));
                }
                Ok(())
            }
        }
    }
}

/// What a poll brought, as far as its successor's moment depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is more.
    More,
    /// Something, and nothing more at present.
    Something,
    Nothing,
    /// An error; not before this, if the other side says so.
    Error(Option<Duration>),
}

/// Says when is polled next.
#[derive(Debug)]
pub(crate) struct Pace {
    schedule: Schedule,
    cron: Option<Cron>,
    /// Of an adaptive schedule.
    pause: Duration,
    backoff: Backoff,
}

impl Pace {
    pub(crate) fn new(schedule: &Schedule, seed: u64) -> Result<Self, String> {
        let cron = match schedule {
            Schedule::Cron { at, zone } => Some(Cron::parse(at, *zone)?),
            _ => None,
        };
        let (first, longest) = match schedule {
            Schedule::Every(pause) => (*pause, *pause),
            Schedule::Cron { .. } => (DEFAULT_EVERY, DEFAULT_EVERY),
            Schedule::Adaptive { fast, slow } => (*fast, *slow),
        };
        let backoff = Backoff::new(first.min(DEFAULT_EVERY), longest.max(MAX_BACKOFF), seed);
        Ok(Self { schedule: schedule.clone(), cron, pause: first, backoff })
    }

    /// The first poll of a run: at once, but by cron.
    pub(crate) fn first(&self, now: Instant, wall_ms: i64) -> Instant {
        if self.cron.is_some() { self.at_cron(now, wall_ms) } else { now }
    }

    /// The next poll after one that has ended `now`.
    pub(crate) fn next(&mut self, found: Found, now: Instant, wall_ms: i64) -> Instant {
        if !matches!(found, Found::Error(_)) {
            self.backoff.reset();
        }
        match (found, &self.schedule) {
            (Found::More, _) => now,
            (Found::Error(after), _) => now + self.backoff.next_pause().max(after.unwrap_or_default()),
            (_, Schedule::Every(pause)) => now + *pause,
            (_, Schedule::Cron { .. }) => self.at_cron(now, wall_ms),
            (found, Schedule::Adaptive { fast, slow }) => {
                self.pause = if found == Found::Something { *fast } else { (self.pause * 2).min(*slow) };
                now + self.pause
            }
        }
    }

    fn at_cron(&self, now: Instant, wall_ms: i64) -> Instant {
        let next = self.cron.as_ref().and_then(|cron| cron.next(wall_ms, false));
        let wait = next.and_then(|next| u64::try_from(next - wall_ms).ok());
        now + wait.map_or(MAX_EVERY, Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    fn pause(pace: &mut Pace, found: Found) -> Duration {
        pace.next(found, NOW, 0).since(NOW)
    }

    #[test]
    fn what_is_there_is_fetched_at_once_and_what_is_not_after_the_pause() {
        let mut pace = Pace::new(&Schedule::Every(Duration::from_secs(5)), 1).unwrap();
        assert_eq!(pace.first(NOW, 0), NOW);
        assert_eq!(pause(&mut pace, Found::More), Duration::ZERO);
        assert_eq!(pause(&mut pace, Found::Something), Duration::from_secs(5));
        assert_eq!(pause(&mut pace, Found::Nothing), Duration::from_secs(5));
    }

    #[test]
    fn an_adaptive_pause_doubles_while_nothing_comes_and_is_bounded() {
        let (fast, slow) = (Duration::from_millis(50), Duration::from_millis(300));
        let mut pace = Pace::new(&Schedule::Adaptive { fast, slow }, 1).unwrap();
        let pauses: Vec<_> = (0..4).map(|_| pause(&mut pace, Found::Nothing).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 300, 300]);
        assert_eq!(pause(&mut pace, Found::Something), fast);
    }

    #[test]
    fn after_errors_the_pause_grows_and_the_other_side_may_ask_for_more() {
        let mut pace = Pace::new(&Schedule::Every(Duration::from_secs(1)), 1).unwrap();
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            last = pause(&mut pace, Found::Error(None));
            assert!(last <= MAX_BACKOFF);
        }
        assert!(last >= MAX_BACKOFF * 3 / 4);
        assert_eq!(pause(&mut pace, Found::Error(Some(MAX_EVERY))), MAX_EVERY);
        pause(&mut pace, Found::Nothing);
        assert!(pause(&mut pace, Found::Error(None)) <= Duration::from_secs(1));
    }

    #[test]
    fn cron_polls_at_its_instants_and_not_at_the_start() {
        let schedule = Schedule::Cron { at: "0 * * * * *".to_owned(), zone: Tz::UTC };
        let mut pace = Pace::new(&schedule, 1).unwrap();
        assert_eq!(pace.first(NOW, 15_000).since(NOW), Duration::from_secs(45));
        assert_eq!(pace.next(Found::Nothing, NOW, 60_000).since(NOW), Duration::from_secs(60));
        assert_eq!(pause(&mut pace, Found::More), Duration::ZERO);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let problem = |schedule: Schedule| schedule.validate().unwrap_err();
        assert!(problem(Schedule::Every(Duration::ZERO)).contains("every 0ns is out of range"));
        let (fast, slow) = (Duration::from_secs(2), Duration::from_secs(1));
        assert!(problem(Schedule::Adaptive { fast, slow }).contains("shorter than fast"));
        assert!(
            problem(Schedule::Cron { at: "0 0 0 30 2 *".to_owned(), zone: Tz::UTC }).contains("never fires")
        );
    }
}
