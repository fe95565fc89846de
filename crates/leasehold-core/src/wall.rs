//! This machine's wall clock: for what people read, and for the ids of sessions. Which moment it tells decides nothing.

use uuid::Uuid;

/// Milliseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "for a warning to people")]
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis() + off_ms()
}

/// An id that nobody else has, whatever the clock tells: 74 bits of it are random. Later ones are higher as long as clocks agree.
pub(crate) fn id() -> Uuid {
    #[cfg(feature = "failpoints")]
    if off_ms() != 0 {
        let now = now_ms().unsigned_abs();
        let nanos = u32::try_from(now % 1000 * 1_000_000).unwrap_or_default();
        return Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, now / 1000, nanos));
    }
    Uuid::now_v7()
}

#[cfg(feature = "failpoints")]
static OFF_MS: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// From now on the wall clock of this process is so much ahead of the machine's, or behind it: for the proof.
#[cfg(feature = "failpoints")]
pub fn set_ahead(ms: i64) {
    OFF_MS.store(ms, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(feature = "failpoints")]
fn off_ms() -> i64 {
    OFF_MS.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(not(feature = "failpoints"))]
fn off_ms() -> i64 {
    0
}
