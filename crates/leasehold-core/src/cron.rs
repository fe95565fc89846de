//! Cron expressions of six fields, in a time zone: when is the next instant, when was the last.

use chrono::{DateTime, Offset, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

/// A time zone as it is written in a file; for `#[serde(default, deserialize_with = "…")]`.
///
/// # Errors
/// A name that is not IANA's, with an example.
pub fn zone<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Tz>, D::Error> {
    let Some(name) = <Option<String> as serde::Deserialize>::deserialize(from)? else { return Ok(None) };
    let unknown = |_| {
        serde::de::Error::custom(format!(
            "zone {name:?} is unknown: give a name of the IANA time zone database, for example \"Europe/London\""
        ))
    };
    name.parse().map(Some).map_err(unknown)
}

/// A cron expression that can be computed with. Instants are milliseconds since 1970, and whole seconds.
#[derive(Clone, Debug)]
pub struct Cron {
    cron: Box<croner::Cron>,
    /// The same with one time of the day each, if it lists several: see [`fixed`]. Asked only where the clock changes, because
    /// each costs a search.
    fixed: Vec<croner::Cron>,
    zone: Tz,
}

impl Cron {
    /// Six fields, seconds first: `second minute hour day-of-month month day-of-week`, read in this zone.
    ///
    /// # Errors
    /// What cannot be read, or never fires, with an example.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        // As in Vixie cron a day has to be in both fields if one of them begins with a star, be it a step: else in either.
        let star = |field: Option<&str>| field.is_some_and(|field| field.starts_with(['*', '?']));
        let fields = || text.split_whitespace();
        let both = star(fields().nth(3)) || star(fields().nth(5));
        let parser =
            CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).dom_and_dow(both).build();
        let read = |text: &str| {
            parser.parse(text).map_err(|error| {
            format!(
                "cron {text:?} cannot be read: {error}; give second, minute, hour, day of month, month and day of week, for \
                 example \"0 30 2 * * *\" for 02:30 every day"
            )
        })
        };
        let cron = read(text)?;
        match cron.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, true) {
            Ok(_) => {
                let fixed = fixed(text)
                    .unwrap_or_default()
                    .iter()
                    .map(|text| read(text))
                    .collect::<Result<_, _>>()?;
                Ok(Self { cron: Box::new(cron), fixed, zone })
            }
            Err(_) => Err(format!(
                "cron {text:?} never fires: no date has its day in its month; give a day that exists, for example \"0 0 0 28 2 *\""
            )),
        }
    }

    /// The first instant after `at`, or from it on if `inclusive`; none beyond the calendar.
    pub fn next(&self, at: i64, inclusive: bool) -> Option<i64> {
        // The search drops what is below a second, so it begins at a whole one, in or out as the rest says.
        let whole = at.rem_euclid(1000) == 0;
        let from = self.from(at)?;
        let next = |cron: &croner::Cron| {
            let found = cron.find_next_occurrence(&from, inclusive && whole).ok()?;
            Some(found.timestamp_millis())
        };
        let found = next(&self.cron);
        if self.fixed.is_empty() || found.is_some_and(|found| self.is_calm(at, found)) {
            return found;
        }
        self.fixed.iter().filter_map(next).min()
    }

    /// The last instant before `at`, or up to it if `inclusive`.
    pub fn previous(&self, at: i64, inclusive: bool) -> Option<i64> {
        let whole = at.rem_euclid(1000) == 0;
        let from = self.from(at)?;
        let previous = |cron: &croner::Cron| {
            let found = cron.find_previous_occurrence(&from, inclusive || !whole).ok()?;
            Some(found.timestamp_millis())
        };
        let found = previous(&self.cron);
        if self.fixed.is_empty() || found.is_some_and(|found| self.is_calm(found, at)) {
            return found;
        }
        self.fixed.iter().filter_map(previous).max()
    }

    /// Whether these are near each other, and the clock does not change around them.
    fn is_calm(&self, first: i64, last: i64) -> bool {
        let offset = |at: i64| self.from(at).map(|at| at.offset().fix());
        let (before, after) = (offset(first.saturating_sub(DAY)), offset(last.saturating_add(DAY)));
        // No zone changes its clock, and changes it back, within three days.
        last.saturating_sub(first) <= DAY && before.is_some() && before == after
    }

    fn from(&self, at: i64) -> Option<DateTime<Tz>> {
        Some(DateTime::from_timestamp(at.div_euclid(1000), 0)?.with_timezone(&self.zone))
    }
}

/// More times of a day than this, one by one, are a rhythm: every five minutes.
const MOST_FIXED: usize = 288;
/// In milliseconds.
const DAY: i64 = 86_400_000;

/// The expression with one time of the day each, where it lists several: `0 30 1,13 * * *` are two fixed times, and where the
/// clock changes each fires once, as if it stood alone. What has a star or a step is a rhythm, which follows the hours that
/// there are.
fn fixed(text: &str) -> Option<Vec<String>> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (times, days) = fields.split_at_checked(3)?;
    if !times.iter().any(|field| field.contains([',', '-'])) {
        return None;
    }
    let lists = times.iter().map(|field| values(field)).collect::<Option<Vec<_>>>()?;
    if lists.iter().map(Vec::len).product::<usize>() > MOST_FIXED {
        return None;
    }
    let days = days.join(" ");
    let mut texts = Vec::new();
    for hour in &lists[2] {
        for minute in &lists[1] {
            texts.extend(lists[0].iter().map(|second| format!("{second} {minute} {hour} {days}")));
        }
    }
    Some(texts)
}

/// Of a field without stars and steps; none for what is not that, which the parser judges.
fn values(field: &str) -> Option<Vec<u32>> {
    let mut values = Vec::new();
    for part in field.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        values.extend(first..=last.min(59));
    }
    values.sort_unstable();
    values.dedup();
    (!values.is_empty()).then_some(values)
}
