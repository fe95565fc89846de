//! What the recorder writes down: a line of JSON each.

use serde::{Deserialize, Serialize};

/// Milliseconds of the machine's monotonic clock, which all processes share and which no wall clock moves.
pub(crate) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When the recorder got it.
    pub(crate) got: u64,
    /// Who told it.
    pub(crate) by: String,
    pub(crate) told: Told,
}

/// What is told, or seen by the recorder itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub(crate) enum Told {
    /// At `at` it believed to hold the artifact until `until`.
    Valid { artifact: String, token: i64, at: u64, until: u64 },
    /// It does not believe so any more.
    Ended { artifact: String, token: i64, at: u64 },
    /// A fenced transaction that wrote `value` was not committed yet at `from`, and was at `until`.
    Effect { artifact: String, token: i64, value: i64, from: u64, until: u64 },
    /// A checkpoint was written.
    Saved { artifact: String, token: i64, value: i64 },
    /// Seen: a store outside that looks at tokens took an effect, or refused it.
    Outside { artifact: String, token: i64, accepted: bool },
    /// A task fired.
    Fired { slot: i64, attempt: u32, token: i64 },
    /// A message for an artifact was committed, or confirmed: not yet at `from`, and at `at` that was known.
    Appended { artifact: String, key: String, number: u64, from: u64, at: u64 },
    /// A handler of messages began after `from`, looked whether its lease was valid, and had looked at `until`.
    Begun { artifact: String, token: i64, valid: bool, from: u64, until: u64 },
    /// Seen: a message arrived at the endpoint, which looks at tokens and took it, or refused it.
    Delivered { artifact: String, key: String, number: u64, token: i64, accepted: bool },
    /// The queue, or the topic, of an artifact was deleted, with what was begun to be published before `until`.
    Emptied { artifact: String, until: u64 },
    /// Somebody was hurt: a replica, the way to what an artifact consumes, or all.
    Fault { kind: String, node: Option<String>, artifact: Option<String> },
    /// The database is down, and its data is that of an older copy from now on.
    Replaced,
    /// Everything is well again; nobody is hurt from now on.
    Healed,
    /// Statements that were executed with a mistake.
    Mutated { statements: u64 },
}

/// What is posted to `/tell`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Telling {
    pub(crate) by: String,
    pub(crate) told: Vec<Told>,
}

/// What is posted to `/outside`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outside {
    pub(crate) by: String,
    pub(crate) artifact: String,
    pub(crate) token: i64,
}

/// A message, which is posted to `/deliver/ARTIFACT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    pub(crate) key: String,
    pub(crate) number: u64,
}

/// How the endpoint behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mood {
    #[default]
    Well,
    /// It answers 503.
    Fails,
    /// It takes what comes, and answers nothing.
    Hangs,
    /// It takes a tenth of a second for each.
    Slow,
}
