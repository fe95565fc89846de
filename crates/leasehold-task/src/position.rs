//! What a task remembers across holders besides its firings: kept as a checkpoint of its lease.

use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::lease::Lease;
use serde::{Deserialize, Serialize};

/// The name of the checkpoint.
const KEY: &str = "schedule";

/// Unknown fields are those of newer programs, and ignored.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Stored {
    /// The first slot, milliseconds since 1970.
    anchor: i64,
}

/// The task's first slot: `initial_delay` after the moment at which the task first ran in the cluster, which is now if
/// nothing is stored.
///
/// # Errors
/// A checkpoint that cannot be read, errors of the database.
pub(crate) async fn anchor(lease: &Lease, initial_delay: Duration) -> Result<i64, Error> {
    let problem = |what: String| Error::artifact(lease.artifact().as_str(), what);
    if let Some(text) = lease.load(KEY).await? {
        let stored: Stored = serde_json::from_str(&text).map_err(|error| {
            problem(format!(
                "its checkpoint {KEY:?} cannot be read ({error}): {text}; correct it, or delete it to begin anew"
            ))
        })?;
        return Ok(stored.anchor);
    }
    let delay = i64::try_from(initial_delay.as_millis()).unwrap_or(i64::MAX);
    let anchor = lease.schedule_clock().now().timestamp_millis().saturating_add(delay);
    let text = serde_json::to_string(&Stored { anchor }).map_err(|error| problem(error.to_string()))?;
    lease.save(KEY, text).await?;
    Ok(anchor)
}
