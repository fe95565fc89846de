//! What is promised of messages: of a store, of a queue, and of a topic.

use std::collections::{BTreeMap, BTreeSet};

use super::{Done, Violation, overtaken, replaced_at};
use crate::node::{AT_ONCE, PUSH};
use crate::record::{Record, Told};

/// A message: artifact, key and number.
type Id<'a> = (&'a str, &'a str, u64);

/// When messages that are known to be committed, or confirmed, were begun to be written; and when that was known.
fn appended(records: &[Record]) -> BTreeMap<Id<'_>, (u64, u64)> {
    let all = records.iter().filter_map(|record| match &record.told {
        Told::Appended { artifact, key, number, from, at } => {
            Some(((artifact.as_str(), key.as_str(), *number), (*from, *at)))
        }
        _ => None,
    });
    all.collect()
}

/// Messages of an artifact that were begun before this had been in a queue that was deleted, or in a database that was replaced.
fn forgotten(records: &[Record]) -> Vec<(&str, u64)> {
    let deleted = records.iter().filter_map(|record| match &record.told {
        Told::Emptied { artifact, until } => Some((artifact.as_str(), *until)),
        _ => None,
    });
    deleted.chain(replaced_at(records).map(|at| (PUSH, at))).collect()
}

/// What the endpoint took, in its order.
fn accepted(records: &[Record]) -> impl Iterator<Item = (u64, Id<'_>)> {
    records.iter().filter_map(|record| match &record.told {
        Told::Delivered { artifact, key, number, accepted: true, .. } => {
            Some((record.got, (artifact.as_str(), key.as_str(), *number)))
        }
        _ => None,
    })
}

/// Messages of a key are taken for the first time in their order. Of those whose outcome nobody was told there is no order, and
/// none between those of a queue that was deleted and those of the next one.
pub(super) fn order(records: &[Record]) -> Vec<Violation> {
    let (appended, forgotten) = (appended(records), forgotten(records));
    let mut found = Vec::new();
    let mut taken = BTreeSet::new();
    let mut last: BTreeMap<(&str, &str, usize), u64> = BTreeMap::new();
    for (got, id) in accepted(records) {
        let (artifact, key, number) = id;
        let Some((from, _)) = appended.get(&id) else { continue };
        if !taken.insert(id) {
            continue;
        }
        let life = forgotten.iter().filter(|(of, until)| *of == artifact && until < from).count();
        let before = last.insert((artifact, key, life), number);
        if let Some(before) = before.filter(|before| *before > number) {
            let what = format!("{artifact}: key {key}: {number} for the first time, after {before}");
            found.push(Violation { promise: "order of a key", what, at: got });
        }
    }
    found
}

/// What is known to be committed, or confirmed, was not forgotten since, and was taken by nobody; and when that was known.
pub(crate) fn undelivered(records: &[Record]) -> Vec<(Id<'_>, u64)> {
    let taken: BTreeSet<_> = accepted(records).map(|(_, id)| id).collect();
    let forgotten = forgotten(records);
    let is_owed =
        |artifact: &str, from: u64| forgotten.iter().all(|(of, until)| *of != artifact || from > *until);
    let all = appended(records).into_iter();
    let missing = all.filter(|(id, (from, _))| is_owed(id.0, *from) && !taken.contains(id));
    missing.map(|(id, (_, at))| (id, at)).collect()
}

/// Every message that was committed, or confirmed, is delivered at least once.
pub(super) fn lost(records: &[Record]) -> Vec<Violation> {
    let of = |((artifact, key, number), at): (Id<'_>, u64)| {
        let what = format!("{artifact}: key {key}: {number}, committed at {at}, was never delivered");
        Violation { promise: "no message is lost", what, at }
    };
    undelivered(records).into_iter().map(of).collect()
}

/// A handler begins only while its lease is valid, as was checked right before: so none begins under an older token once one
/// has begun under a newer. Who was stopped between that check and its first step begins what it has handed over too late, and no more.
pub(super) fn stale(records: &[Record]) -> Vec<Violation> {
    let mut valid = Vec::new();
    let mut late: BTreeMap<(&str, i64, &str), usize> = BTreeMap::new();
    let mut found = Vec::new();
    for Record { by, told, .. } in records {
        let Told::Begun { artifact, token, valid: is_valid, from, until } = told else { continue };
        if *is_valid {
            let words = format!("{by} began a message");
            valid.push(Done { artifact, token: *token, from: *from, until: *until, words });
            continue;
        }
        let count = late.entry((artifact, *token, by)).or_default();
        *count += 1;
        if *count == AT_ONCE + 1 {
            let what =
                format!("{artifact}: {by} with token {token} began {count} of them, the last one at {until}");
            found.push(Violation { promise: "no message is begun without the lease", what, at: *until });
        }
    }
    found.extend(overtaken("no message is begun under an older token", &valid));
    found
}
