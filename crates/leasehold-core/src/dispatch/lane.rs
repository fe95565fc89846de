//! The lowest gap of a lane: up to where everything is done.

use std::collections::VecDeque;

/// A stream of positions that only grow, such as a partition. They need not be neighbours: sources leave some out.
///
/// What it takes grows with the gaps, not with what is done behind them: a message may be tried again for days.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// From the lowest gap on. No two neighbours are done.
    runs: VecDeque<Run>,
    /// The ticket of the next position.
    next: u64,
}

/// One position that is open, or neighbours that are done.
#[derive(Debug)]
struct Run {
    /// The ticket of the last.
    ticket: u64,
    /// The last position.
    position: u64,
    done: bool,
}

impl Lane {
    /// Takes the next position; its ticket is for [`done`](Lane::done).
    pub(super) fn open(&mut self, position: u64) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.runs.push_back(Run { ticket, position, done: false });
        ticket
    }

    /// Notes that a position is done. The new watermark, if it has moved.
    pub(super) fn done(&mut self, ticket: u64) -> Option<u64> {
        let index = self.runs.partition_point(|run| run.ticket < ticket);
        let run = self.runs.get_mut(index).filter(|run| run.ticket == ticket && !run.done)?;
        run.done = true;
        let is_done = |run: Option<&Run>| run.is_some_and(|run| run.done);
        if is_done(self.runs.get(index + 1)) {
            // That one ends later, and stands for both.
            self.runs.remove(index);
        }
        if index > 0 {
            if is_done(self.runs.get(index - 1)) {
                self.runs.remove(index - 1);
            }
            return None;
        }
        self.runs.pop_front().map(|passed| passed.position)
    }

    /// How many gaps there are, and runs between them.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.runs.len()
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

    #[test]
    fn what_is_done_behind_a_gap_takes_no_more_the_more_it_is() {
        let mut lane = Lane::default();
        let stuck = lane.open(0);
        for position in 1..1_000 {
            let ticket = lane.open(position);
            assert_eq!(lane.done(ticket), None);
            assert_eq!(lane.len(), 2);
        }
        assert_eq!(lane.done(stuck), Some(999));
        assert_eq!(lane.len(), 0);
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
