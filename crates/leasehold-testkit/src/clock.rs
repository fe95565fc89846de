//! A clock that a test stops and sets ahead.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leasehold_core::clock::{BootClock, Clock, Instant};

/// Goes as the machine's clock does, until it is frozen; and can be set ahead. Clones are the same clock.
#[derive(Clone, Default)]
pub struct ManualClock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    ahead: Duration,
    frozen_at: Option<Instant>,
}

impl ManualClock {
    /// Stands still: what waits for a moment on it waits on.
    pub fn freeze(&self) {
        let mut state = self.state();
        state.frozen_at = Some(state.now());
    }

    /// Goes on, from where it would be had it not stood still.
    pub fn thaw(&self) {
        self.state().frozen_at = None;
    }

    /// Is set ahead by so much, as after a sleep of the machine.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.ahead += by;
        state.frozen_at = state.frozen_at.map(|at| at + by);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> Instant {
        self.frozen_at.unwrap_or_else(|| BootClock.now() + self.ahead)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.state().now()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManualClock({:?})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_still_and_then_is_where_it_would_be() {
        let clock = ManualClock::default();
        clock.freeze();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), before + Duration::from_secs(5));
        clock.thaw();
        assert!(clock.now() >= before + Duration::from_secs(5));
    }
}
