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
    let seconds = ms.max(0) / 1000;
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let (name, unit) = units.into_iter().find(|(_, unit)| seconds >= *unit).unwrap_or(("s", 1));
    let whole = u64::try_from(seconds / unit * unit).unwrap_or(0);
    if whole == 0 {
        return format!("0{name}");
    }
    duration::format(std::time::Duration::from_secs(whole))
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
