//! What an endpoint answered, and what that means.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::DateTime;
use leasehold_core::bytes::Bytes;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::{Deserialize, Serialize};

/// An answer of an endpoint.
#[derive(Clone)]
#[non_exhaustive]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as it was read: see `max-answer`.
    pub body: Bytes,
    /// There was more of it.
    pub is_cut: bool,
}

impl Answer {
    /// The body as text; what is none is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// How long the endpoint asks to be left alone, up to `most`.
    pub(super) fn retry_after(&self, most: Duration) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let after = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            // By the endpoint's own clock, not by ours.
            Err(_) => {
                let date = |text: &str| DateTime::parse_from_rfc2822(text).ok();
                let now = date(self.headers.get(DATE)?.to_str().ok()?)?;
                (date(text)? - now).to_std().ok()?
            }
        };
        Some(after.min(most))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// How an attempt ended.
pub(super) enum Outcome {
    Answered(Answer),
    /// No connection was made, so nothing was delivered.
    Unreachable(String),
    /// The connection was made and no whole answer came: it may have been delivered.
    Broken(String),
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The message is delivered.
    Success,
    /// It is sent again, as the policy says.
    Retry,
    /// The endpoint does not work at present, whichever message it gets: all of them wait.
    Unavailable,
    /// It is wrong, and would be wrong again: it is parked, dropped or stops the processor, as the policy says.
    Reject,
}

/// What statuses mean, as lists of numbers and ranges. The first class that has a status counts; one that none has is
/// rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Classes {
    /// Delivered; `["200-299"]` unless set.
    pub success: Vec<String>,
    /// The endpoint does not work at present; `["502-504"]` unless set.
    pub unavailable: Vec<String>,
    /// Sent again; `["408", "425", "429", "500-599"]` unless set.
    pub retry: Vec<String>,
}

impl Default for Classes {
    fn default() -> Self {
        let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        Self {
            success: list(&["200-299"]),
            unavailable: list(&["502-504"]),
            retry: list(&["408", "425", "429", "500-599"]),
        }
    }
}

impl Classes {
    pub(super) fn parse(&self) -> Result<Ranges, String> {
        let mut all = Vec::new();
        for (name, class, texts) in [
            ("success", Class::Success, &self.success),
            ("unavailable", Class::Unavailable, &self.unavailable),
            ("retry", Class::Retry, &self.retry),
        ] {
            for text in texts {
                let range = range(text).ok_or_else(|| {
                    format!("class {name} has {text:?}, which is no status: give a number from 100 to 599, or two as in \"500-599\"")
                })?;
                all.push((range, class));
            }
        }
        if self.success.is_empty() {
            return Err(
                "class success is empty: nothing would ever be delivered; give for example [\"200-299\"]"
                    .to_owned(),
            );
        }
        Ok(Ranges(all))
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}

/// Classes that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Ranges(Vec<(RangeInclusive<u16>, Class)>);

impl Ranges {
    pub(super) fn of(&self, status: u16) -> Class {
        let found = self.0.iter().find(|(range, _)| range.contains(&status));
        found.map_or(Class::Reject, |(_, class)| *class)
    }
}
