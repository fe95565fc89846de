//! Cron expressions of six fields, in a time zone: when is the next instant, when was the last.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};

/// A cron expression that can be computed with. Instants are milliseconds since 1970, and whole seconds.
#[derive(Clone, Debug)]
pub struct Cron {
    cron: Box<croner::Cron>,
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
        let cron = parser.parse(text).map_err(|error| {
            format!(
                "cron {text:?} cannot be read: {error}; give second, minute, hour, day of month, month and day of week, for \
                 example \"0 30 2 * * *\" for 02:30 every day"
            )
        })?;
        match cron.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, true) {
            Ok(_) => Ok(Self { cron: Box::new(cron), zone }),
            Err(_) => Err(format!(
                "cron {text:?} never fires: no date has its day in its month; give a day that exists, for example \"0 0 0 28 2 *\""
            )),
        }
    }

    /// The first instant after `at`, or from it on if `inclusive`; none beyond the calendar.
    pub fn next(&self, at: i64, inclusive: bool) -> Option<i64> {
        // The search drops what is below a second, so it begins at a whole one, in or out as the rest says.
        let whole = at.rem_euclid(1000) == 0;
        let found = self.cron.find_next_occurrence(&self.from(at)?, inclusive && whole).ok()?;
        Some(found.timestamp_millis())
    }

    /// The last instant before `at`, or up to it if `inclusive`.
    pub fn previous(&self, at: i64, inclusive: bool) -> Option<i64> {
        let whole = at.rem_euclid(1000) == 0;
        let found = self.cron.find_previous_occurrence(&self.from(at)?, inclusive || !whole).ok()?;
        Some(found.timestamp_millis())
    }

    fn from(&self, at: i64) -> Option<DateTime<Tz>> {
        Some(DateTime::from_timestamp(at.div_euclid(1000), 0)?.with_timezone(&self.zone))
    }
}
