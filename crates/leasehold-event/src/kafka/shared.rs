//! What is known of the partitions that are assigned: pure bookkeeping, shared by the client's thread and its callbacks.

use std::collections::VecDeque;
use std::sync::Arc;

use leasehold_core::bytes::Bytes;
use leasehold_core::dispatch::LaneId;

/// The longest name of a checkpoint that a topic's name is written into as it is.
const MAX_CHECKPOINT: usize = 150;

/// An assigned partition. Each assignment is a lane of its own.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) lane: LaneId,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// For people.
    pub(super) source: Arc<str>,
    /// What its order goes by, if that is by partition.
    pub(super) key: Bytes,
    /// Where its progress is kept in the database.
    pub(super) checkpoint: Arc<str>,
    /// Offsets that were brought and of which the next holder would not know that they are done.
    open: VecDeque<u64>,
    /// The offset with which the next holder is to begin.
    handled: Option<u64>,
    /// What the broker knows of that.
    committed: Option<u64>,
    /// The last that was brought.
    last: Option<u64>,
}

/// All assigned partitions.
#[derive(Debug, Default)]
pub(super) struct Book {
    partitions: Vec<Partition>,
    lanes: LaneId,
    open: usize,
    latest: usize,
    /// How often partitions went.
    gone: u64,
}

/// What the broker is told of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    lane: LaneId,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// With which the next holder is to begin.
    pub(super) offset: u64,
}

impl Book {
    /// The partition of a topic; a new lane unless it is known.
    pub(super) fn partition(&mut self, topic: &str, partition: i32) -> &mut Partition {
        let same = |known: &Partition| known.partition == partition && *known.topic == *topic;
        if !self.partitions.get(self.latest).is_some_and(same) {
            self.latest = match self.partitions.iter().position(same) {
                Some(at) => at,
                None => {
                    self.lanes = self.lanes.wrapping_add(1);
                    self.partitions.push(Partition::new(self.lanes, topic, partition));
                    self.partitions.len() - 1
                }
            };
        }
        &mut self.partitions[self.latest]
    }

    /// A message was brought.
    pub(super) fn deliver(&mut self, topic: &str, partition: i32, offset: u64) -> &Partition {
        self.open += 1;
        let known = self.partition(topic, partition);
        known.open.push_back(offset);
        known.last = Some(offset);
        known
    }

    /// Whether this is an offset that was passed already: the topic was made anew, or truncated.
    pub(super) fn goes_back(&mut self, topic: &str, partition: i32, offset: u64) -> bool {
        self.partition(topic, partition).last.is_some_and(|last| offset <= last)
    }

    /// How often partitions went. While this stays the same, all lanes are still known.
    pub(super) fn gone(&self) -> u64 {
        self.gone
    }

    pub(super) fn has_topic(&self, topic: &str) -> bool {
        self.partitions.iter().any(|partition| *partition.topic == *topic)
    }

    pub(super) fn knows(&self, lane: LaneId) -> bool {
        self.partitions.iter().any(|partition| partition.lane == lane)
    }

    /// How many messages are here of which the next holder would not know that they are done.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// All of a lane up to `mark` is handled. `known`: and the next holder knows.
    pub(super) fn handled(&mut self, lane: LaneId, mark: u64, known: bool) {
        if let Some(partition) = self.partitions.iter_mut().find(|partition| partition.lane == lane) {
            partition.handled = Some(mark + 1);
            if known {
                self.open -= partition.close(mark + 1);
            }
        }
    }

    /// What the broker does not know yet.
    pub(super) fn to_commit(&self) -> Vec<Commit> {
        let due = |partition: &Partition| {
            let handled =
                partition.handled.filter(|handled| partition.committed.is_none_or(|known| known < *handled));
            handled.map(|offset| Commit {
                lane: partition.lane,
                topic: Arc::clone(&partition.topic),
                partition: partition.partition,
                offset,
            })
        };
        self.partitions.iter().filter_map(due).collect()
    }

    /// How many handled messages the broker does not know of yet.
    pub(super) fn uncommitted(&self) -> usize {
        let of = |partition: &Partition| {
            let handled = partition.handled?;
            Some(partition.open.partition_point(|offset| *offset < handled))
        };
        self.partitions.iter().filter_map(of).sum()
    }

    /// The broker knows. Of partitions that went meanwhile that says nothing: they are other lanes by now.
    pub(super) fn committed(&mut self, commits: &[Commit]) {
        for commit in commits {
            let same = |known: &&mut Partition| known.lane == commit.lane;
            if let Some(partition) = self.partitions.iter_mut().find(same) {
                partition.committed = partition.committed.max(Some(commit.offset));
                self.open -= partition.close(commit.offset);
            }
        }
    }

    /// It is ours no more; the lane that is lost.
    pub(super) fn revoke(&mut self, topic: &str, partition: i32) -> Option<LaneId> {
        let same = |known: &Partition| known.partition == partition && *known.topic == *topic;
        let gone = self.partitions.swap_remove(self.partitions.iter().position(same)?);
        self.open -= gone.open.len();
        self.latest = 0;
        self.gone += 1;
        Some(gone.lane)
    }

    /// Nothing is ours any more; the lanes that are lost.
    pub(super) fn revoke_all(&mut self) -> Vec<LaneId> {
        (self.open, self.latest) = (0, 0);
        self.gone += 1;
        self.partitions.drain(..).map(|gone| gone.lane).collect()
    }
}

impl Partition {
    fn new(lane: LaneId, topic: &str, partition: i32) -> Self {
        let source: Arc<str> = format!("{topic}/{partition}").into();
        let (key, checkpoint) =
            (Bytes::copy_from_slice(source.as_bytes()), checkpoint(topic, partition).into());
        let (open, handled, committed, last) = (VecDeque::new(), None, None, None);
        Self { lane, topic: topic.into(), partition, source, key, checkpoint, open, handled, committed, last }
    }

    /// How many are done with this.
    fn close(&mut self, next: u64) -> usize {
        let done = self.open.partition_point(|offset| *offset < next);
        self.open.drain(..done).count()
    }
}

/// The name of the checkpoint of a partition.
pub(super) fn checkpoint(topic: &str, partition: i32) -> String {
    if topic.len() <= MAX_CHECKPOINT {
        return format!("kafka/{topic}/{partition}");
    }
    let digest = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, topic.as_bytes());
    format!("kafka/{digest}/{partition}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(commits: &[Commit]) -> Vec<(&str, i32, u64)> {
        commits.iter().map(|commit| (&*commit.topic, commit.partition, commit.offset)).collect()
    }

    #[test]
    fn what_was_committed_says_nothing_of_a_later_life_of_the_partition() {
        let mut book = Book::default();
        let lane = book.deliver("a", 0, 5).lane;
        book.handled(lane, 5, false);
        let commits = book.to_commit();
        book.revoke("a", 0);
        let again = book.deliver("a", 0, 0).lane;
        book.committed(&commits);
        assert_eq!(book.open(), 1, "the topic was made anew");
        book.handled(again, 0, false);
        assert_eq!(told(&book.to_commit()), [("a", 0, 1)]);
    }

    #[test]
    fn a_message_is_open_until_the_next_holder_knows_that_it_is_done() {
        let mut book = Book::default();
        let lane = book.deliver("a", 0, 5).lane;
        book.deliver("a", 0, 7);
        book.deliver("b", 1, 0);
        assert_eq!((book.open(), book.uncommitted()), (3, 0));
        book.handled(lane, 5, false);
        assert_eq!((book.open(), book.uncommitted()), (3, 1));
        let commits = book.to_commit();
        assert_eq!(told(&commits), [("a", 0, 6)]);
        book.committed(&commits);
        assert_eq!((book.open(), book.to_commit().len()), (2, 0));
        book.handled(lane, 7, true);
        assert_eq!(book.open(), 1);
        assert_eq!(book.revoke("b", 1), Some(2));
        assert_eq!(book.open(), 0);
        let again = book.deliver("b", 1, 0).lane;
        assert_eq!(again, 3, "another assignment is another lane");
        assert_eq!(book.revoke_all().len(), 2);
    }
    #[test]
    fn an_offset_that_goes_back_is_noticed_until_the_partition_is_a_lane_of_its_own_again() {
        let mut book = Book::default();
        assert!(!book.goes_back("a", 0, 5));
        let lane = book.deliver("a", 0, 5).lane;
        assert!(!book.goes_back("a", 0, 6));
        assert!(book.goes_back("a", 0, 5) && book.goes_back("a", 0, 0));
        assert_eq!((book.revoke("a", 0), book.gone()), (Some(lane), 1));
        assert!(!book.goes_back("a", 0, 0));
        let again = book.deliver("a", 0, 0).lane;
        assert!(book.knows(again) && !book.knows(lane));
        book.handled(again, 0, false);
        assert_eq!(told(&book.to_commit()), [("a", 0, 1)], "and is committed, though it is lower");
    }
}
