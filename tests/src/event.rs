//! What a replica says about itself: a line of JSON each.

use leasehold_core::clock::{BootClock, Clock};
use serde::{Deserialize, Serialize};

/// Milliseconds of the machine's monotonic clock, which all processes share.
pub fn now_ms() -> u64 {
    BootClock.now().as_nanos() / 1_000_000
}

/// What a replica says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It has a session.
    Joined {
        /// The session.
        session: String,
    },
    /// It could not start.
    Refused {
        /// What it was told.
        error: String,
    },
    /// A lease is valid at `at`, and stays so until `until` if nothing more happens.
    Valid {
        /// The artifact.
        artifact: String,
        /// The lease's token.
        token: i64,
        /// When it was looked at.
        at: u64,
        /// Until when it is trusted.
        until: u64,
    },
    /// A lease is not valid any more.
    Ended {
        /// The artifact.
        artifact: String,
        /// The lease's token.
        token: i64,
        /// When.
        at: u64,
    },
    /// A fenced write has committed.
    Effect {
        /// The artifact.
        artifact: String,
        /// The lease's token.
        token: i64,
        /// Before it was begun.
        from: u64,
        /// After it was acknowledged.
        until: u64,
    },
}
