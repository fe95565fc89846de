//! Whether the user's runtime still answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::{BootClock, Clock, Instant};

/// Sends a trivial task to the user's runtime from time to time, and tells when one is not run for `stall`.
pub(super) struct Pulse {
    runtime: Handle,
    stall: Duration,
    yields: bool,
    sent: Instant,
    answered: Arc<AtomicBool>,
    stalled: bool,
}

impl Pulse {
    pub(super) fn new(runtime: Handle, stall: Duration, yields: bool) -> Self {
        let answered = Arc::new(AtomicBool::new(true));
        Self { runtime, stall, yields, sent: BootClock.now(), answered, stalled: false }
    }

    /// Whether a stalled runtime is to give its leases up.
    pub(super) fn yields(&self) -> bool {
        self.yields
    }

    /// How long until the next look.
    pub(super) fn next(&self) -> Duration {
        (self.sent + self.stall / 4).since(BootClock.now()).max(Duration::from_millis(100)).min(self.stall)
    }

    /// Takes a look; the new state, if it has changed.
    pub(super) fn beat(&mut self) -> Option<bool> {
        let now = BootClock.now();
        let quiet = now.since(self.sent);
        if self.answered.load(Ordering::Acquire) {
            if quiet >= self.stall / 4 {
                self.answered.store(false, Ordering::Release);
                self.sent = now;
                let answered = Arc::clone(&self.answered);
                self.runtime.spawn(async move { answered.store(true, Ordering::Release) });
            }
            return std::mem::take(&mut self.stalled).then_some(false);
        }
        if quiet >= self.stall && !self.stalled {
            self.stalled = true;
            tracing::error!(?quiet, "the runtime does not run tasks: is a handler blocking its threads?");
            return Some(true);
        }
        None
    }
}
