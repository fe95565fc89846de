//! What holds messages up though they could be handed over: a throttle, windows, a circuit that is open. Pure.

use std::time::Duration;

use chrono_tz::Tz;
use leasehold_core::clock::Instant;
use leasehold_core::cron::Cron;
use leasehold_core::duration;
use serde::{Deserialize, Serialize};

/// More than this a second is no throttle.
pub const MAX_RATE: u32 = 1_000_000;
/// Longer intervals are a mistake in the unit.
pub const MAX_INTERVAL: Duration = Duration::from_secs(30 * 24 * 3600);
/// A window that is open for longer than this is a mistake in the unit.
pub const MAX_WINDOW: Duration = Duration::from_secs(366 * 24 * 3600);

/// So many messages per time, evenly, after a burst. In a file: `{ messages = 100, per = "1s", burst = 10 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Throttle {
    /// How many messages.
    pub messages: u32,
    /// In how much time.
    #[serde(with = "duration::serde")]
    pub per: Duration,
    /// So many at once, after a pause that would have let them through; 1 unless set.
    #[serde(default = "one")]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

impl Throttle {
    pub(crate) fn validate(&self) -> Result<(), String> {
        let Self { messages, per, burst } = *self;
        if messages == 0 || per.is_zero() || messages > MAX_RATE || per > MAX_INTERVAL {
            return Err(format!(
                "throttle of {messages} messages per {per:?} is out of range: give 1 to {MAX_RATE}, and a time"
            ));
        }
        if burst == 0 || burst > MAX_RATE {
            return Err(format!("throttle burst {burst} is out of range: give 1 to {MAX_RATE}"));
        }
        Ok(())
    }
}

/// So many messages in each interval, as soon as they are there. In a file: `{ messages = 10, every = "1m" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sampling {
    /// How many messages.
    pub messages: u32,
    /// The interval.
    #[serde(with = "duration::serde")]
    pub every: Duration,
}

impl Sampling {
    pub(crate) fn validate(&self) -> Result<(), String> {
        let Self { messages, every } = *self;
        if messages == 0 || every.is_zero() || every > MAX_INTERVAL {
            return Err(format!(
                "sampling of {messages} messages every {every:?} lets nothing through: give 1 or more, and a time"
            ));
        }
        Ok(())
    }
}

/// A time in which messages are handed over. In a file: `{ opens = "0 0 22 * * *", lasts = "8h", zone = "Europe/London" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Window {
    /// A cron expression of six fields, seconds first: when it opens.
    pub opens: String,
    /// How long it stays open.
    #[serde(with = "duration::serde")]
    pub lasts: Duration,
    /// The zone in which the expression is read; UTC unless set.
    #[serde(
        default,
        deserialize_with = "leasehold_core::cron::zone",
        skip_serializing_if = "Option::is_none"
    )]
    pub zone: Option<Tz>,
}

impl Window {
    pub(crate) fn parse(&self) -> Result<Opening, String> {
        if self.lasts.is_zero() || self.lasts > MAX_WINDOW {
            return Err(format!(
                "window lasts {:?}: give more than nothing, and at most {MAX_WINDOW:?}",
                self.lasts
            ));
        }
        let cron = Cron::parse(&self.opens, self.zone.unwrap_or(Tz::UTC))
            .map_err(|problem| format!("window opens: {problem}"))?;
        Ok(Opening { cron, lasts: i64::try_from(self.lasts.as_millis()).unwrap_or(i64::MAX) })
    }
}

/// A window that can be computed with.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    cron: Cron,
    lasts: i64,
}

impl Opening {
    /// How long until it is open, in milliseconds; zero while it is, none if it never is.
    fn closed_for(&self, wall: i64) -> Option<i64> {
        let open =
            self.cron.previous(wall, true).is_some_and(|opened| wall < opened.saturating_add(self.lasts));
        if open { Some(0) } else { self.cron.next(wall, true).map(|next| next - wall) }
    }
}

/// Everything that may hold messages up but a circuit.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    throttle: Option<Throttle>,
    sampling: Option<Sampling>,
    openings: Vec<Opening>,
    /// When the throttle would have let through all that it did, at its rate.
    through: Instant,
    /// When the present interval began, and how many of it were let through.
    interval: (Instant, u32),
}

impl Gate {
    pub(crate) fn new(
        throttle: Option<Throttle>,
        sampling: Option<Sampling>,
        openings: Vec<Opening>,
    ) -> Self {
        Self { throttle, sampling, openings, through: Instant::ZERO, interval: (Instant::ZERO, 0) }
    }

    /// Nothing goes through before this moment; `wall` is the database's clock.
    pub(crate) fn held_until(&self, now: Instant, wall: impl FnOnce() -> i64) -> Option<Instant> {
        let mut until = None;
        let mut hold = |moment: Instant| until = until.max(Some(moment).filter(|moment| *moment > now));
        if let Some(Throttle { messages, per, burst }) = self.throttle {
            // With a burst of b, b may go ahead of the rate.
            hold(self.through - per / messages * (burst - 1));
        }
        if let Some(Sampling { messages, every }) = self.sampling
            && self.interval.1 >= messages
        {
            hold(self.interval.0 + every);
        }
        if !self.openings.is_empty() {
            let wall = wall();
            let closed = self.openings.iter().filter_map(|opening| opening.closed_for(wall)).min();
            hold(now + Duration::from_millis(closed.map_or(u64::MAX / 2_000_000, i64::unsigned_abs)));
        }
        until
    }

    /// A message goes through.
    pub(crate) fn pass(&mut self, now: Instant) {
        if let Some(Throttle { messages, per, .. }) = self.throttle {
            self.through = self.through.max(now) + per / messages;
        }
        if let Some(Sampling { every, .. }) = self.sampling {
            if now.since(self.interval.0) >= every {
                self.interval = (now, 0);
            }
            self.interval.1 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The moments, in milliseconds, at which as many as possible go through.
    fn passes(gate: &mut Gate, count: usize) -> Vec<u64> {
        let mut now = Instant::ZERO + SECOND * 1000;
        let mut all = Vec::new();
        while all.len() < count {
            match gate.held_until(now, || 0) {
                Some(until) => now = until,
                None => {
                    gate.pass(now);
                    all.push(u64::try_from(now.since(Instant::ZERO + SECOND * 1000).as_millis()).unwrap());
                }
            }
        }
        all
    }

    #[test]
    fn a_throttle_lets_a_burst_through_and_then_its_rate() {
        let throttle = Throttle { messages: 10, per: SECOND, burst: 3 };
        assert_eq!(passes(&mut Gate::new(Some(throttle), None, Vec::new()), 6), [0, 0, 0, 100, 200, 300]);
        let even = Throttle { burst: 1, ..throttle };
        assert_eq!(passes(&mut Gate::new(Some(even), None, Vec::new()), 3), [0, 100, 200]);
    }

    #[test]
    fn a_sample_is_so_many_of_each_interval() {
        let sampling = Sampling { messages: 2, every: SECOND };
        assert_eq!(passes(&mut Gate::new(None, Some(sampling), Vec::new()), 5), [0, 0, 1000, 1000, 2000]);
    }

    #[test]
    fn nothing_goes_through_outside_of_the_windows() {
        let night =
            Window { opens: "0 0 22 * * *".into(), lasts: SECOND * 3600 * 8, zone: Some(Tz::Europe__London) };
        let gate = Gate::new(None, None, vec![night.parse().unwrap()]);
        let now = Instant::ZERO + SECOND;
        let held = |text: &str| {
            let wall = chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
            gate.held_until(now, || wall).map(|until| until.since(now))
        };
        assert_eq!(held("2026-07-01T21:00:00Z"), None, "22:00 in London, in summer");
        assert_eq!(held("2026-07-02T04:59:59Z"), None);
        assert_eq!(held("2026-07-02T05:00:00Z"), Some(SECOND * 3600 * 16));
        assert_eq!(held("2026-12-01T21:00:00Z"), Some(SECOND * 3600));
    }

    #[test]
    fn what_would_let_nothing_through_is_refused() {
        assert!(
            Throttle { messages: 0, per: SECOND, burst: 1 }.validate().unwrap_err().contains("0 messages")
        );
        assert!(Throttle { messages: 1, per: SECOND, burst: 0 }.validate().unwrap_err().contains("burst 0"));
        assert!(Sampling { messages: 1, every: Duration::ZERO }.validate().is_err());
        let window =
            |opens: &str, lasts| Window { opens: opens.into(), lasts, zone: None }.parse().unwrap_err();
        assert!(window("0 0 0 30 2 *", SECOND).contains("never fires"));
        assert!(window("* * * * * *", Duration::ZERO).contains("lasts"));
    }
}
