//! The judge: knows nothing of leasehold but its promises, and nothing of the cluster but what the recorder got.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Record, Told};

mod messages;

pub(crate) use messages::undelivered;

/// A promise that was broken, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) promise: &'static str,
    pub(crate) what: String,
    /// When, as far as that is known.
    pub(crate) at: u64,
}

/// All that the records convict of.
pub(crate) fn violations(records: &[Record]) -> Vec<Violation> {
    let mut found = overlaps(records);
    found.extend(stale_effects(records));
    found.extend(stale_outside(records));
    found.extend(messages::stale(records));
    found.extend(going_back(records));
    found.extend(slots(records));
    found.extend(messages::order(records));
    found.extend(messages::lost(records));
    found.sort_by_key(|violation| violation.at);
    found
}

/// A time during which somebody believed to hold an artifact.
struct Span<'a> {
    token: i64,
    from: u64,
    until: u64,
    by: &'a str,
}

/// Tokens rise, and no two believe to hold an artifact at the same instant. Who could not say when it ended believed so for
/// as long as it was trusted.
fn overlaps(records: &[Record]) -> Vec<Violation> {
    let mut spans: BTreeMap<&str, BTreeMap<(i64, &str), Span<'_>>> = BTreeMap::new();
    let mut ends: BTreeMap<(&str, i64, &str), u64> = BTreeMap::new();
    for Record { by, told, .. } in records {
        match told {
            Told::Valid { artifact, token, at, until } => {
                let new = || Span { token: *token, from: *at, until: *until, by };
                let span = spans.entry(artifact).or_default().entry((*token, by)).or_insert_with(new);
                (span.from, span.until) = (span.from.min(*at), span.until.max(*until));
            }
            Told::Ended { artifact, token, at } => {
                ends.insert((artifact, *token, by), *at);
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (artifact, mut of) in spans {
        for span in of.values_mut() {
            if let Some(end) = ends.get(&(artifact, span.token, span.by)) {
                span.until = span.until.min(*end);
            }
        }
        let mut of: Vec<_> = of.into_values().collect();
        of.sort_by_key(|span| (span.from, span.token));
        for pair in of.windows(2) {
            let [first, second] = pair else { continue };
            let words = || {
                format!(
                    "{artifact}: {} with token {} from {} to {}, and {} with token {} from {}",
                    first.by, first.token, first.from, first.until, second.by, second.token, second.from
                )
            };
            if first.until > second.from {
                found.push(Violation { promise: "one holder", what: words(), at: second.from });
            }
            if first.token >= second.token {
                found.push(Violation { promise: "tokens rise", what: words(), at: second.from });
            }
        }
    }
    found
}

/// Something that was done under a token: not yet at `from`, and for sure at `until`.
struct Done<'a> {
    artifact: &'a str,
    token: i64,
    from: u64,
    until: u64,
    /// Who, and what.
    words: String,
}

/// What was done under a lower token after something under a higher one was done already.
fn overtaken(promise: &'static str, all: &[Done<'_>]) -> Vec<Violation> {
    let mut newest: BTreeMap<&str, Vec<(u64, i64)>> = BTreeMap::new();
    for done in all {
        newest.entry(done.artifact).or_default().push((done.until, done.token));
    }
    for known in newest.values_mut() {
        known.sort_unstable();
        let mut highest = i64::MIN;
        known.iter_mut().for_each(|(_, token)| {
            highest = highest.max(*token);
            *token = highest;
        });
    }
    let mut found = Vec::new();
    for Done { artifact, token, from, until, words } in all {
        let known = &newest[artifact];
        let before = known.partition_point(|(done, _)| done < from);
        let last = before.checked_sub(1).map(|at| known[at]);
        if let Some((done, newer)) = last.filter(|(_, newer)| newer > token) {
            let what = format!(
                "{artifact}: {words} with token {token} between {from} and {until}, after token {newer} at {done}"
            );
            found.push(Violation { promise, what, at: *until });
        }
    }
    found
}

/// Once a transaction with a higher token has committed, no fenced one with a lower token does.
fn stale_effects(records: &[Record]) -> Vec<Violation> {
    let effects = records.iter().filter_map(|Record { by, told, .. }| {
        let Told::Effect { artifact, token, value, from, until } = told else { return None };
        let words = format!("{by} committed {value}");
        Some(Done { artifact, token: *token, from: *from, until: *until, words })
    });
    overtaken("no effect of an older token", &effects.collect::<Vec<_>>())
}

/// A store, and an endpoint, that look at tokens take none that is lower than one they have seen.
fn stale_outside(records: &[Record]) -> Vec<Violation> {
    let mut highest: BTreeMap<&str, i64> = BTreeMap::new();
    let mut found = Vec::new();
    for Record { got, by, told } in records {
        let (Told::Outside { artifact, token, accepted: true }
        | Told::Delivered { artifact, token, accepted: true, .. }) = told
        else {
            continue;
        };
        let known = highest.entry(artifact).or_insert(*token);
        if token < known {
            let what = format!("{artifact}: {by} with token {token}, after {known}");
            found.push(Violation { promise: "no effect of an older token outside", what, at: *got });
        }
        *known = (*known).max(*token);
    }
    found
}

/// Token, value and when.
type Written = (i64, i64, u64);

/// What a holder writes follows what the one before it wrote: nothing that had committed is forgotten or overwritten.
fn going_back(records: &[Record]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut of: BTreeMap<(&str, &'static str), Vec<Written>> = BTreeMap::new();
    let replaced = replaced_at(records).is_some();
    for Record { got, told, .. } in records {
        match told {
            Told::Effect { artifact, token, value, until, .. } => {
                of.entry((artifact, "effects")).or_default().push((*token, *value, *until));
            }
            Told::Saved { artifact, token, value } => {
                of.entry((artifact, "checkpoints")).or_default().push((*token, *value, *got));
            }
            _ => {}
        }
    }
    for ((artifact, what), mut written) in of {
        written.sort_unstable();
        for pair in written.windows(2).filter(|pair| pair[0].1 >= pair[1].1 && !replaced) {
            found.push(Violation {
                promise: "progress never goes back",
                what: format!("{what} of {artifact}: (token, value, when) {:?}, then {:?}", pair[0], pair[1]),
                at: pair[1].2,
            });
        }
    }
    found
}

/// No attempt of a slot begins twice, and no slot is left out.
fn slots(records: &[Record]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut attempts: BTreeMap<i64, BTreeSet<u32>> = BTreeMap::new();
    let replaced = replaced_at(records).is_some();
    for Record { got, by, told } in records {
        let Told::Fired { slot, attempt, .. } = told else { continue };
        if !attempts.entry(*slot).or_default().insert(*attempt) && !replaced {
            let what = format!("slot {slot}: attempt {attempt} again, by {by}");
            found.push(Violation { promise: "a slot fires once", what, at: *got });
        }
    }
    let period = i64::try_from(crate::node::PERIOD.as_millis()).unwrap_or(i64::MAX);
    let slots: Vec<i64> = attempts.into_keys().collect();
    for pair in slots.windows(2).filter(|pair| pair[1] - pair[0] > period && !replaced) {
        let what = format!("after slot {} came {}", pair[0], pair[1]);
        found.push(Violation { promise: "no slot is left out", what, at: u64::MAX });
    }
    found
}

/// When the database was replaced by an older copy, which has forgotten what was committed before that: the schedule, the
/// progress and the messages. Who may hold what is promised all the same.
fn replaced_at(records: &[Record]) -> Option<u64> {
    let replaced = records.iter().rev().find(|record| record.told == Told::Replaced);
    replaced.map(|record| record.got)
}

#[cfg(test)]
mod tests;
