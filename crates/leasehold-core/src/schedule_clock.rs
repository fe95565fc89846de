//! The database's wall clock, carried on the node's monotonic clock. For schedules; never for safety.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::{Clock, Instant};

/// A node whose wall clock is further off than this is warned about.
pub const TOLERATED_SKEW: Duration = Duration::from_secs(1);

/// Tells the time of schedules: the database's, sampled at renewals and carried on the monotonic clock in between, so
/// that all nodes agree and a wall clock that is set on a node changes nothing.
#[derive(Clone, Debug)]
pub struct ScheduleClock {
    clock: Arc<dyn Clock>,
    /// Database milliseconds since 1970 minus node milliseconds since the zero of its monotonic clock.
    offset_ms: Arc<AtomicI64>,
}

impl ScheduleClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, offset_ms: Arc::new(AtomicI64::new(0)) }
    }

    /// Takes a sample that was read by a call sent and answered at these moments.
    pub(crate) fn sample(&self, wall_ms: i64, sent: Instant, received: Instant) {
        let middle = sent + received.since(sent) / 2;
        self.offset_ms.store(wall_ms - millis(middle), Ordering::Relaxed);
    }

    /// Now, by the database's wall clock.
    pub fn now(&self) -> DateTime<Utc> {
        let now = millis(self.clock.now()) + self.offset_ms.load(Ordering::Relaxed);
        DateTime::from_timestamp_millis(now).unwrap_or_default()
    }
}

fn millis(at: Instant) -> i64 {
    i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
