//! What was handled, against what was published.

use std::collections::BTreeMap;

use super::member::Handled;

/// Everything that was handled, in the order of its ends.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    handled: Vec<Handled>,
}

/// What a ledger shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) lost: u64,
    pub(super) duplicates: usize,
    /// Messages that were handled before an earlier one of their key.
    pub(super) early: usize,
}

impl Ledger {
    pub(super) fn note(&mut self, handled: Handled) {
        self.handled.push(handled);
    }

    pub(super) fn len(&self) -> usize {
        self.handled.len()
    }

    pub(super) fn since(&self, from: usize) -> &[Handled] {
        &self.handled[from.min(self.handled.len())..]
    }

    /// How many different messages there are.
    pub(super) fn different(&self) -> usize {
        let mut all: Vec<_> = self.handled.iter().map(|handled| (handled.key, handled.number)).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    /// `published`: how many of each key, numbered from 0.
    pub(super) fn judge(&self, published: &BTreeMap<u32, u64>) -> Verdict {
        let mut ordered: Vec<&Handled> = self.handled.iter().collect();
        ordered.sort_by_key(|handled| handled.until);
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        let mut verdict = Verdict::default();
        for handled in ordered {
            let expected = next.entry(handled.key).or_default();
            match handled.number.cmp(expected) {
                std::cmp::Ordering::Less => verdict.duplicates += 1,
                std::cmp::Ordering::Equal => *expected += 1,
                std::cmp::Ordering::Greater => {
                    verdict.early += 1;
                    *expected = handled.number + 1;
                }
            }
        }
        let different = self.different() as u64;
        verdict.lost = published.values().sum::<u64>().saturating_sub(different);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_can_convict() {
        let mut ledger = Ledger::default();
        for (at, number) in [0, 1, 1, 3, 2].into_iter().enumerate() {
            ledger.note(Handled { key: 1, number, token: 1, from: 0, until: at as u64 });
        }
        let published = BTreeMap::from([(1, 5)]);
        assert_eq!(ledger.judge(&published), Verdict { lost: 1, duplicates: 2, early: 1 });
    }
}
