//! Clocks that are not quite right, through the seam for clocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leasehold_core::clock::{BootClock, Clock, Instant};
use serde::{Deserialize, Serialize};

/// How a node's clock goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pace {
    /// As the machine's.
    #[default]
    True,
    /// So many thousandths of it: within what the protocol allows for.
    PerMille(u64),
    /// As a wall clock that somebody sets ahead again and again, by so many milliseconds every 100 ms: a mistake.
    Wall(u64),
}

impl Pace {
    pub(crate) fn clock(self) -> Arc<dyn Clock> {
        match self {
            Self::True => Arc::new(BootClock),
            Self::PerMille(rate) => Arc::new(Scaled(rate)),
            Self::Wall(step) => Arc::new(Wall { step, last: AtomicU64::new(0) }),
        }
    }

    /// How much of the machine's time so much of this clock's is, in milliseconds.
    pub(crate) fn real_ms(self, ms: u64) -> u64 {
        match self {
            Self::True => ms,
            Self::PerMille(rate) => ms * 1000 / rate,
            Self::Wall(step) => ms * 100 / (100 + step),
        }
    }
}

#[derive(Debug)]
struct Scaled(u64);

impl Clock for Scaled {
    fn now(&self) -> Instant {
        Instant::from_nanos(BootClock.now().as_nanos() / 1000 * self.0)
    }
}

#[derive(Debug)]
struct Wall {
    step: u64,
    last: AtomicU64,
}

impl Clock for Wall {
    fn now(&self) -> Instant {
        let real = BootClock.now().as_nanos();
        let steps = real / 100_000_000;
        let ahead = real + steps * self.step * 1_000_000;
        Instant::from_nanos(self.last.fetch_max(ahead, Ordering::Relaxed).max(ahead))
    }
}
