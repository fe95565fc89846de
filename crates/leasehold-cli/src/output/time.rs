//! Instants and durations, for people. All are the database's.

use chrono::{DateTime, Utc};
use leasehold_core::duration;

/// A moment of the database's wall clock, in UTC.
pub(crate) fn clock(ms: i64) -> String {
    let at: DateTime<Utc> = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// With milliseconds, where what follows each other is told apart by them.
pub(crate) fn precise(ms: i64) -> String {
    let at: DateTime<Utc> = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
}

/// How long something has lasted, in its largest unit.
pub(crate) fn age(ms: i64) -> String {
    match u64::try_from(ms / 1000) {
        Ok(0) | Err(_) => "0s".to_owned(),
        Ok(seconds) => duration::about(std::time::Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        assert_eq!(
            [age(-5), age(999), age(61_000), age(7_300_000), age(90_000_000)],
            ["0s", "0s", "1m", "2h", "1d"]
        );
    }
}
