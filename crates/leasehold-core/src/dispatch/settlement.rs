//! What a source is told of messages that were handled.

use std::time::Duration;

use super::engine::LaneId;

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was handled.
    Acknowledge,
    /// It is to come again after a delay.
    Requeue {
        /// How long it is to stay away.
        delay: Duration,
        /// How often it was handed over.
        attempts: u32,
        /// What the handler said.
        reason: String,
    },
    /// It is to go to the dead-letter destination, and to be acknowledged when it is there.
    DeadLetter {
        /// How often it was handed over.
        attempts: u32,
        /// What the handler said.
        reason: String,
    },
    /// It is to be acknowledged though it was not handled.
    Discard {
        /// How often it was handed over.
        attempts: u32,
        /// What the handler said.
        reason: String,
    },
}

/// What becomes of one message.
#[derive(Clone, Debug)]
pub struct Decision<T> {
    /// Its lane.
    pub lane: LaneId,
    /// Its place there.
    pub position: u64,
    /// The message.
    pub item: T,
    /// What becomes of it.
    pub action: Action,
}

/// Decisions that are to be told to the source together: first each of them, in this order, then the watermarks.
#[derive(Clone, Debug)]
pub struct Settlement<T> {
    /// What becomes of each message that was decided on.
    pub decisions: Vec<Decision<T>>,
    /// Of lanes where it has moved: the highest position with which and below which everything is decided.
    pub watermarks: Vec<(LaneId, u64)>,
}

impl<T> Default for Settlement<T> {
    fn default() -> Self {
        Self { decisions: Vec::new(), watermarks: Vec::new() }
    }
}

impl<T> Settlement<T> {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.decisions.clear();
        self.watermarks.clear();
    }

    pub(super) fn advance(&mut self, lane: LaneId, mark: u64) {
        match self.watermarks.iter_mut().find(|(known, _)| *known == lane) {
            Some((_, known)) => *known = mark,
            None => self.watermarks.push((lane, mark)),
        }
    }

    pub(super) fn forget(&mut self, lane: LaneId) {
        self.decisions.retain(|decision| decision.lane != lane);
        self.watermarks.retain(|(known, _)| *known != lane);
    }
}
