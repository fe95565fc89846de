//! The lowest gap of a lane: up to where everything is done.

use std::collections::VecDeque;

/// A stream of positions that only grow, such as a partition. They need not be neighbours: sources leave some out.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Position, and whether it is done, of all from the lowest gap on.
    open: VecDeque<(u64, bool)>,
    /// How many positions were open and are done, all lower than those of `open`.
    passed: u64,
}

impl Lane {
    /// Takes the next position; its ticket is for [`done`](Lane::done).
    pub(super) fn open(&mut self, position: u64) -> u64 {
        self.open.push_back((position, false));
        self.passed + self.open.len() as u64 - 1
    }

    /// Notes that a position is done. The new watermark, if it has moved.
    pub(super) fn done(&mut self, ticket: u64) -> Option<u64> {
        let index = usize::try_from(ticket.checked_sub(self.passed)?).ok()?;
        self.open.get_mut(index)?.1 = true;
        let mut moved = None;
        while let Some(&(position, true)) = self.open.front() {
            self.open.pop_front();
            self.passed += 1;
            moved = Some(position);
        }
        moved
    }

    /// How many positions are at or above the lowest gap.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_watermark_stops_at_the_lowest_gap() {
        let mut lane = Lane::default();
        let tickets: Vec<u64> = [10, 11, 15, 20].map(|position| lane.open(position)).to_vec();
        assert_eq!(lane.done(tickets[1]), None);
        assert_eq!(lane.done(tickets[0]), Some(11));
        assert_eq!(lane.done(tickets[3]), None);
        assert_eq!(lane.done(tickets[2]), Some(20));
        assert_eq!(lane.len(), 0);
        assert_eq!(lane.done(tickets[2]), None, "done twice is done");
    }

    proptest! {
        #[test]
        fn in_any_order_the_watermark_is_below_the_lowest_open(steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..200)) {
            let (mut lane, mut open, mut next, mut mark) = (Lane::default(), Vec::new(), 0_u64, None);
            for (opens, which) in steps {
                if opens || open.is_empty() {
                    next += 1 + which.index(3) as u64;
                    open.push((next, lane.open(next)));
                } else {
                    let (_, ticket) = open.remove(which.index(open.len()));
                    mark = lane.done(ticket).or(mark);
                }
                let lowest = open.iter().map(|(position, _)| *position).min();
                match lowest {
                    Some(lowest) => prop_assert!(mark.is_none_or(|mark| mark < lowest)),
                    None => prop_assert_eq!(mark, Some(next)),
                }
            }
        }
    }
}
