//! Durations as people write them in a file: a whole number and a unit, as in `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`.

use std::time::Duration;

/// The units, longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads one.
///
/// # Errors
/// What is wrong with the text, with an example, when it is not a whole number and a unit or is too large.
pub fn parse(text: &str) -> Result<Duration, String> {
    let problem = || {
        format!(
            "{text:?} is no duration: give a whole number and a unit (ms, s, m, h or d), for example \"30s\""
        )
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(problem)?;
    let (number, unit) = text.split_at(unit_at);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(problem)?;
    let number: u64 = number.parse().map_err(|_| problem())?;
    Ok(Duration::from_millis(number.checked_mul(*millis).ok_or_else(problem)?))
}

/// In the longest unit that is exact; below a millisecond nothing is kept.
pub fn format(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let exact = |(_, unit): &&(&str, u64)| millis > 0 && millis.is_multiple_of(*unit);
    match UNITS.iter().find(exact) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// In its largest unit, rounded down: for people who want to know about how long.
pub fn about(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, unit): &&(&str, u64)| millis >= *unit;
    UNITS
        .iter()
        .find(fits)
        .map_or_else(|| "0ms".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

/// For `#[serde(with = "…")]`.
pub mod serde {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// As [`format`](super::format) writes it.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::format(*duration))
    }

    /// As [`parse`](super::parse) reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        super::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// The same for a duration that may be missing.
pub mod optional {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// As [`format`](super::format) writes it, or none.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serde::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    /// As [`parse`](super::parse) reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        super::serde::deserialize(from).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["0ms", "1ms", "1500ms", "30s", "5m", "90m", "1h", "36h", "7d"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(parse("60s").unwrap(), parse("1 m").unwrap());
    }

    #[test]
    fn about_how_long() {
        let told = |millis| about(Duration::from_millis(millis));
        assert_eq!([told(0), told(999), told(61_000), told(7_300_000)], ["0ms", "999ms", "1m", "2h"]);
    }

    #[test]
    fn refuses_what_is_not_a_number_and_a_unit() {
        for text in
            ["", "5", "s", "-1s", "1.5s", "5 weeks", "1h30m", "99999999999999999999d", "999999999999999d"]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains("for example \"30s\""), "{text}: {error}");
        }
    }
}
