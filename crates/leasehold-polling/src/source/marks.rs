//! Up to where everything is done: pure.

use std::collections::VecDeque;

use crate::poller::Cursor;

#[derive(Debug)]
struct Mark {
    position: u64,
    cursor: Cursor,
    /// A handler has written it in a transaction of its own.
    recorded: bool,
}

/// What is to be written down of a cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum To {
    /// This.
    Write(Cursor),
    /// Nothing: the handler has, and nothing older is to follow.
    Written,
}

/// The positions of items that were handed out, and the cursors that go with them.
#[derive(Debug)]
pub(super) struct Marks {
    capacity: u64,
    /// The last one handed out.
    last: u64,
    /// Up to which all are done.
    passed: u64,
    /// Of those that are not passed.
    open: VecDeque<Mark>,
    /// The lowest that must not be passed any more.
    kept: Option<u64>,
    /// Whether items have cursors: without, none waits for the others.
    has_cursors: bool,
}

impl Marks {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity as u64,
            last: 0,
            passed: 0,
            open: VecDeque::new(),
            kept: None,
            has_cursors: false,
        }
    }

    /// How many more may be handed out, so that no more come again after a crash than the capacity.
    pub(super) fn room(&self) -> usize {
        let gap = if self.has_cursors { self.last - self.passed } else { 0 };
        usize::try_from(self.capacity.saturating_sub(gap)).unwrap_or(usize::MAX)
    }

    /// Whether all that were handed out are done.
    pub(super) fn is_done(&self) -> bool {
        self.last == self.passed
    }

    /// The next position.
    pub(super) fn open(&mut self, cursor: Option<Cursor>) -> u64 {
        self.last += 1;
        if let Some(cursor) = cursor {
            self.has_cursors = true;
            self.open.push_back(Mark { position: self.last, cursor, recorded: false });
        }
        self.last
    }

    /// The cursor goes on without an item: what is to be written of it now.
    pub(super) fn pass_to(&mut self, cursor: Option<Cursor>) -> Option<To> {
        let cursor = cursor?;
        if self.is_done() {
            return Some(To::Write(cursor));
        }
        self.open.push_back(Mark { position: self.last, cursor, recorded: false });
        None
    }

    /// The item at this position must not be passed: it is nowhere else.
    pub(super) fn keep(&mut self, position: u64) {
        self.kept = Some(self.kept.map_or(position, |kept| kept.min(position)));
    }

    /// What became of the cursor of this position.
    pub(super) fn recorded(&mut self, position: u64, recorded: bool) {
        if let Ok(at) = self.open.binary_search_by_key(&position, |mark| mark.position)
            && let Some(mark) = self.open.get_mut(at)
        {
            mark.recorded = recorded;
        }
    }

    /// All up to this position are done: what is to be written of it.
    pub(super) fn pass(&mut self, position: u64) -> Option<To> {
        let position = self.kept.map_or(position, |kept| position.min(kept.saturating_sub(1)));
        self.passed = self.passed.max(position);
        let mut reached = None;
        while let Some(mark) = self.open.front()
            && mark.position <= position
        {
            reached = self.open.pop_front();
        }
        reached.map(|mark| if mark.recorded { To::Written } else { To::Write(mark.cursor) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(n: u64) -> Cursor {
        Cursor::new(n.to_string())
    }

    fn write(n: u64) -> Option<To> {
        Some(To::Write(cursor(n)))
    }

    #[test]
    fn the_newest_cursor_below_the_gap_is_written() {
        let mut marks = Marks::new(4);
        for n in 1..=4 {
            assert_eq!(marks.open(Some(cursor(n))), n);
        }
        assert_eq!(marks.room(), 0);
        assert_eq!(marks.pass(2), write(2));
        assert_eq!(marks.room(), 2);
        marks.recorded(3, true);
        assert_eq!(marks.pass(3), Some(To::Written));
        assert_eq!(marks.pass_to(Some(cursor(9))), None);
        assert_eq!(marks.pass(4), write(9));
        assert!(marks.is_done());
        assert_eq!(marks.pass_to(Some(cursor(10))), write(10));
    }

    #[test]
    fn what_is_nowhere_else_is_never_passed() {
        let mut marks = Marks::new(4);
        for n in 1..=3 {
            marks.open(Some(cursor(n)));
        }
        marks.keep(2);
        assert_eq!(marks.pass(3), write(1));
        assert!(!marks.is_done());
        assert_eq!(marks.pass(3), None);
    }

    #[test]
    fn items_without_cursors_do_not_wait_for_each_other() {
        let mut marks = Marks::new(2);
        for _ in 0..5 {
            marks.open(None);
        }
        assert_eq!(marks.room(), 2);
        assert_eq!(marks.pass(5), None);
    }
}
