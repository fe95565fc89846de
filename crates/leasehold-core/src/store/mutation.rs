//! Statements with a mistake, for the proof: a condition that makes them safe is replaced in every text of this process.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static REPLACED: OnceLock<(String, String)> = OnceLock::new();
static APPLIED: AtomicU64 = AtomicU64::new(0);

/// From now on `by` stands wherever a statement of PostgreSQL's had `what`. Once for a process; later calls change nothing.
pub fn replace(what: impl Into<String>, by: impl Into<String>) {
    let _ = REPLACED.set((what.into(), by.into()));
}

/// How many statements were executed with the mistake: a mutation that meets no text proves nothing.
pub fn applied() -> u64 {
    APPLIED.load(Ordering::Relaxed)
}

pub(super) fn mutated(text: &str) -> Cow<'_, str> {
    match REPLACED.get() {
        Some((what, by)) if text.contains(what.as_str()) => {
            APPLIED.fetch_add(1, Ordering::Relaxed);
            Cow::Owned(text.replace(what.as_str(), by))
        }
        _ => Cow::Borrowed(text),
    }
}
