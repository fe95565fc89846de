//! The judge: knows nothing of leasehold but what the replicas said.

use std::collections::BTreeMap;

use crate::event::Event;

/// What was found to be broken; empty when the promises were kept.
pub fn violations(said: &[(String, Event)]) -> Vec<String> {
    let mut found = overlaps(said);
    found.extend(stale_effects(said));
    found
}

/// G1: no two leases on one artifact are valid at the same instant. A lease whose replica could not say when it ended
/// counts for as long as it was trusted.
fn overlaps(said: &[(String, Event)]) -> Vec<String> {
    let mut spans: BTreeMap<(&str, i64), (u64, u64, &str)> = BTreeMap::new();
    for (node, event) in said {
        match event {
            Event::Valid { artifact, token, at, until } => {
                let span = spans.entry((artifact, *token)).or_insert((*at, *until, node));
                span.1 = span.1.max(*until);
            }
            Event::Ended { artifact, token, at } => {
                if let Some(span) = spans.get_mut(&(artifact.as_str(), *token)) {
                    span.1 = span.1.min(*at);
                }
            }
            _ => {}
        }
    }
    let spans: Vec<_> = spans.into_iter().collect();
    let pairs = spans.windows(2).filter(|pair| pair[0].0.0 == pair[1].0.0 && pair[0].1.1 > pair[1].1.0);
    pairs.map(|pair| format!("two valid leases: {:?} and {:?}", pair[0], pair[1])).collect()
}

/// G2: no fenced write begins after one with a higher token was acknowledged, and commits.
fn stale_effects(said: &[(String, Event)]) -> Vec<String> {
    let mut found = Vec::new();
    let effects = said.iter().filter_map(|(node, event)| match event {
        Event::Effect { artifact, token, from, until } => Some((node, artifact, *token, *from, *until)),
        _ => None,
    });
    let effects: Vec<_> = effects.collect();
    for late in &effects {
        let newer = effects.iter().find(|first| first.1 == late.1 && first.2 > late.2 && first.4 < late.3);
        if let Some(newer) = newer {
            found.push(format!("a stale write passed: {late:?} after {newer:?}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(token: i64, at: u64, until: u64) -> (String, Event) {
        ("a".to_owned(), Event::Valid { artifact: "import".to_owned(), token, at, until })
    }

    fn effect(token: i64, from: u64, until: u64) -> (String, Event) {
        ("a".to_owned(), Event::Effect { artifact: "import".to_owned(), token, from, until })
    }

    #[test]
    fn the_judge_can_convict() {
        assert!(
            violations(&[valid(1, 0, 10), valid(2, 10, 20), effect(1, 0, 1), effect(2, 11, 12)]).is_empty()
        );
        assert_eq!(violations(&[valid(1, 0, 11), valid(2, 10, 20)]).len(), 1);
        assert_eq!(violations(&[effect(2, 0, 1), effect(1, 2, 3)]).len(), 1);
        let ended = ("a".to_owned(), Event::Ended { artifact: "import".to_owned(), token: 1, at: 9 });
        assert!(violations(&[valid(1, 0, 11), ended, valid(2, 10, 20)]).is_empty());
    }
}
