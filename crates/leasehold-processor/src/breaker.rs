//! A circuit breaker: when the endpoint fails as a whole, its messages wait for it. Pure.

use std::collections::HashSet;
use std::time::Duration;

use leasehold_core::clock::Instant;
use leasehold_core::duration;
use serde::{Deserialize, Serialize};

/// More failures in a row than chance explains.
pub const DEFAULT_FAILURES: u32 = 5;
/// The first pause: most outages are restarts.
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause: what was repaired is noticed within a minute.
pub const DEFAULT_MAX_PAUSE: Duration = Duration::from_secs(60);
/// Longer pauses are a mistake in the unit.
pub const MAX_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// When a circuit opens, and for how long. In a file: `{ failures = 5, pause = "5s", max-pause = "60s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Breaker {
    /// It opens when so many different messages have failed without a success between them, or an endpoint that could not
    /// be reached has failed so often.
    pub failures: u32,
    /// How long nothing is handed over then; doubled each time the probe that follows fails.
    #[serde(with = "duration::serde")]
    pub pause: Duration,
    /// The longest pause.
    #[serde(with = "duration::serde")]
    pub max_pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: DEFAULT_FAILURES, pause: DEFAULT_PAUSE, max_pause: DEFAULT_MAX_PAUSE }
    }
}

impl Breaker {
    pub(crate) fn validate(&self) -> Result<(), String> {
        let Self { failures, pause, max_pause } = *self;
        if failures == 0 {
            return Err("breaker failures 0 would open before anything failed: give 1 or more".to_owned());
        }
        if pause.is_zero() || max_pause < pause || max_pause > MAX_PAUSE {
            return Err(format!(
                "breaker pause {pause:?} and max-pause {max_pause:?} do not fit: give more than nothing, at least as much, and \
                 at most {MAX_PAUSE:?}"
            ));
        }
        Ok(())
    }
}

/// How an attempt ended, as far as the endpoint is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended<'a> {
    /// It answered as it should, or said that this message is wrong.
    Works,
    /// It failed for the message of this id.
    Failed(&'a str),
    /// It could not be reached, or said that it does not work at present.
    Unreachable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failed: HashSet<String>,
        unreachable: u32,
    },
    /// Nothing is handed over before.
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One message is under way, to see whether it works again.
    Probing {
        pause: Duration,
    },
}

/// A circuit.
#[derive(Clone, Debug)]
pub(crate) struct Circuit {
    breaker: Breaker,
    state: State,
}

impl Circuit {
    pub(crate) fn new(breaker: Breaker) -> Self {
        Self { breaker, state: State::Closed { failed: HashSet::new(), unreachable: 0 } }
    }

    /// As an earlier holder left it: open for so much longer, after this pause.
    pub(crate) fn opened(breaker: Breaker, now: Instant, left: Duration, pause: Duration) -> Self {
        let pause = pause.clamp(breaker.pause, breaker.max_pause);
        Self { breaker, state: State::Open { until: now + left.min(pause), pause } }
    }

    /// Nothing is handed over before this moment.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { until, .. } => Some(*until).filter(|until| *until > now),
            // Until the probe has ended; looked at again then.
            State::Probing { .. } => Some(now + Duration::from_secs(1)),
        }
    }

    /// A message is handed over: after a pause it is the probe.
    pub(crate) fn pass(&mut self) {
        if let State::Open { pause, .. } = self.state {
            self.state = State::Probing { pause };
        }
    }

    /// Takes the end of an attempt in; whether the circuit has opened or closed by it.
    pub(crate) fn ended(&mut self, ended: Ended<'_>, now: Instant) -> bool {
        match (&mut self.state, ended) {
            (State::Closed { failed, unreachable }, Ended::Works) => {
                failed.clear();
                *unreachable = 0;
                false
            }
            (State::Closed { failed, unreachable }, ended) => {
                match ended {
                    Ended::Failed(message) => drop(failed.insert(message.to_owned())),
                    _ => *unreachable += 1,
                }
                let failures = u32::try_from(failed.len()).unwrap_or(u32::MAX).saturating_add(*unreachable);
                if failures < self.breaker.failures {
                    return false;
                }
                let pause = self.breaker.pause;
                self.state = State::Open { until: now + pause, pause };
                true
            }
            (State::Probing { .. }, Ended::Works) => {
                *self = Self::new(self.breaker);
                true
            }
            (State::Probing { pause }, _) => {
                let pause = (*pause * 2).min(self.breaker.max_pause);
                self.state = State::Open { until: now + pause, pause };
                true
            }
            // What was under way when it opened says nothing new, unless it works.
            (State::Open { .. }, Ended::Works) => {
                *self = Self::new(self.breaker);
                true
            }
            (State::Open { .. }, _) => false,
        }
    }

    /// For how long it is open, and the pause, if it is not closed.
    pub(crate) fn open_for(&self, now: Instant) -> Option<(Duration, Duration)> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { until, pause } => Some((until.since(now), *pause)),
            State::Probing { pause } => Some((Duration::ZERO, *pause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> Instant {
        Instant::ZERO + SECOND * seconds
    }

    #[test]
    fn it_opens_when_different_messages_fail_and_not_by_one() {
        let mut circuit = Circuit::new(Breaker { failures: 3, pause: SECOND, max_pause: SECOND * 3 });
        for _ in 0..10 {
            assert!(!circuit.ended(Ended::Failed("a"), at(1)));
        }
        assert!(!circuit.ended(Ended::Failed("b"), at(1)));
        assert!(!circuit.ended(Ended::Works, at(1)));
        assert!(!circuit.ended(Ended::Failed("a"), at(1)));
        assert!(!circuit.ended(Ended::Failed("b"), at(1)));
        assert_eq!(circuit.held_until(at(1)), None);
        assert!(circuit.ended(Ended::Failed("c"), at(1)));
        assert_eq!(circuit.held_until(at(1)), Some(at(2)));
    }

    #[test]
    fn one_probe_goes_through_and_pauses_grow_until_it_works() {
        let mut circuit = Circuit::new(Breaker { failures: 1, pause: SECOND, max_pause: SECOND * 3 });
        assert!(circuit.ended(Ended::Unreachable, at(0)));
        for (open, pause) in [(1, 2), (10, 3), (20, 3)] {
            assert_eq!(circuit.held_until(at(open)), None);
            circuit.pass();
            assert!(circuit.held_until(at(open)).is_some(), "only one probes");
            assert!(circuit.ended(Ended::Unreachable, at(open)));
            assert_eq!(circuit.held_until(at(open)), Some(at(open + pause)));
        }
        circuit.pass();
        assert!(circuit.ended(Ended::Works, at(30)));
        assert_eq!(circuit.held_until(at(30)), None);
    }

    #[test]
    fn the_next_holder_goes_on_with_it() {
        let breaker = Breaker { failures: 1, pause: SECOND, max_pause: SECOND * 8 };
        let mut circuit = Circuit::new(breaker);
        circuit.ended(Ended::Unreachable, at(0));
        let (left, pause) = circuit.open_for(at(0)).unwrap();
        let next = Circuit::opened(breaker, at(100), left, pause);
        assert_eq!(next.held_until(at(100)), Some(at(101)));
    }
}
