//! What a replica tells the program that started it, one JSON object a line.

use leasehold::clock::{BootClock, Clock};
use serde::{Deserialize, Serialize};

/// Moments are nanoseconds of the machine's boot clock, which all processes share.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// A session was renewed for the first time.
    Session { id: String },
    /// Whether this node plans.
    Leads { leads: bool },
    /// A run was entered.
    Run { artifact: String, token: i64, at: u64 },
    /// A run was asked to end.
    Revoked { artifact: String, token: i64, at: u64 },
    /// A run is about to return; `valid` unless its lease was seen invalid before.
    Ended { artifact: String, token: i64, at: u64, valid: bool },
    /// So many runs were entered, the last one now.
    Total { runs: usize, at: u64 },
}

/// The moment on the clock that all processes of the machine share.
pub(crate) fn now() -> u64 {
    BootClock.now().as_nanos()
}
