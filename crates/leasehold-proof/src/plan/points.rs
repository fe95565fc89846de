//! Which replica is hurt in the middle of what: drawn beside the rest, too.

use fastrand::Rng;
use leasehold_core::failpoint::Point;

use super::{Act, Plan};
use crate::database::Abilities;
use crate::failpoint::Failpoint;
use crate::round::Setting;

/// Sets it apart from the other draws.
const OWN: u64 = 0x7061_7573;

impl Plan {
    /// Adds a failpoint, most of the time.
    pub(crate) fn with_failpoint(mut self, seed: u64, setting: &Setting, can: Abilities) -> Self {
        let mut random = Rng::with_seed(seed ^ OWN);
        if random.u64(..3) == 0 {
            return self;
        }
        let (node, ttl) = (random.usize(..setting.nodes), setting.ttl_ms);
        let at = Point::ALL[random.usize(..Point::ALL.len())];
        let (from_ms, stops) = (ttl * 2 + random.u64(..ttl * 3), random.bool());
        let pause_ms = stops.then(|| ttl * [50, 100, 200][random.usize(..3)] / 100);
        // Who stops with the one lock of a file would stop everybody.
        let pause_ms = pause_ms.filter(|_| can.network);
        self.failpoint = Some((node, Failpoint { at, from_ms, within_ms: ttl, pause_ms }));
        // Until then it is not over.
        self.then(from_ms + ttl + pause_ms.unwrap_or(0), Act::Again);
        self.ordered()
    }
}
