//! How long it took after each fault until things went on.

use std::collections::BTreeMap;

use crate::record::{Record, Told};

/// By kind of fault, if anything moved: how long it took until somebody else held what the hurt node had held; of a broker's
/// fault, until a message was delivered that was published after it.
pub(super) fn all(records: &[Record]) -> Vec<(String, Option<u64>)> {
    let faults = records.iter().filter_map(|record| match &record.told {
        Told::Fault { kind, node, artifact } => Some((record.got, kind, node, artifact)),
        _ => None,
    });
    let of = |(at, kind, node, artifact): (u64, &String, &Option<String>, &Option<String>)| {
        let recovery = match artifact {
            Some(artifact) => delivered(records, at, artifact),
            None => moved(records, at, node.as_deref()),
        };
        (kind.clone(), recovery)
    };
    faults.map(of).collect()
}

fn moved(records: &[Record], at: u64, node: Option<&str>) -> Option<u64> {
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for Record { by, told, .. } in records {
        let Told::Valid { artifact, token, at: seen, until } = told else { continue };
        let is_hurt = node.is_none_or(|node| node == by);
        if *seen <= at && *until > at && is_hurt {
            held.insert(artifact, *token);
        } else if *seen > at && held.get(artifact.as_str()).is_some_and(|before| before < token) {
            let first = next.entry(artifact).or_insert(*seen);
            *first = (*first).min(*seen);
        }
    }
    next.into_values().max().map(|seen| seen - at)
}

fn delivered(records: &[Record], at: u64, of: &str) -> Option<u64> {
    // Each has a number of its own.
    let published = records.iter().filter_map(|record| match &record.told {
        Told::Appended { artifact, number, from, .. } if artifact == of && *from > at => Some(*number),
        _ => None,
    });
    let first = published.min()?;
    let taken = records.iter().find(|record| {
        matches!(&record.told, Told::Delivered { artifact, number, accepted: true, .. } if artifact == of && *number >= first)
    });
    taken.map(|record| record.got - at)
}
