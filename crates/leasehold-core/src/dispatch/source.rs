//! Where messages come from, as the driver sees it.

use async_trait::async_trait;
use bytes::Bytes;

use super::engine::LaneId;
use super::settlement::Settlement;
use crate::artifact::ArtifactError;
use crate::clock::Instant;
use crate::message::Message;

/// What a source brings.
#[derive(Debug)]
pub enum Event {
    /// A message.
    Message(Fetched),
    /// A lane is lost: nothing of it can be settled any more, and what was not settled comes again.
    Lost(LaneId),
}

/// A message that was fetched. Its attempt is the one that begins when it is handed over next.
#[derive(Debug)]
pub struct Fetched {
    /// Its lane.
    pub lane: LaneId,
    /// Its place in its lane, higher than those before.
    pub position: u64,
    /// What its order goes by under [`Order::PerKey`](super::Order::PerKey).
    pub key: Option<Bytes>,
    /// It is not handed over before.
    pub due: Option<Instant>,
    /// The message.
    pub message: Message,
}

/// Where messages come from and are acknowledged: what a plugin implements for [`run`](super::run).
///
/// One task calls it, one call at a time. Dropping it ends whatever it has under way, without acknowledging anything.
#[async_trait]
pub trait Source: Send {
    /// Waits for something to bring, and appends it to `events`: at most `room` messages, and whatever else it has to
    /// tell. Outages are its own to heal, while it waits. With a `room` of 0 it waits for something else than messages, and does
    /// not return before.
    ///
    /// **Cancellation safe**: dropped, it has lost nothing that it will not bring with the next call.
    ///
    /// # Errors
    /// What cannot be healed by waiting: the run ends with it.
    async fn fetch(&mut self, room: usize, events: &mut Vec<Event>) -> Result<(), ArtifactError>;

    /// Tells the decisions, in their order, and then the watermarks. What concerns a lane that is lost is left out.
    /// Not cancelled but at the end of a run.
    ///
    /// # Errors
    /// What cannot be healed by waiting: the run ends with it. What was not told comes again.
    async fn settle(&mut self, settlement: &mut Settlement<Message>) -> Result<(), ArtifactError>;

    /// Nothing is handed over before this moment, if it tells one: a throttle, for example. Asked before every hand-over.
    fn held_until(&mut self, now: Instant) -> Option<Instant> {
        let _ = now;
        None
    }

    /// The message at this position is handed over now, unless this tells why not: then it is a dead letter.
    fn handing_over(&mut self, position: u64, message: &Message) -> Option<String> {
        let _ = (position, message);
        None
    }

    /// How many decisions may wait to be settled while more is handed over: the fewer, the less comes again after a crash;
    /// the more, the less each costs.
    fn together(&self) -> usize {
        64
    }

    /// The message at this position failed. It stays here until `due`, and is then handed over again: after so many
    /// attempts, for this reason. For sources that keep attempts.
    fn postponed(&mut self, position: u64, attempts: u32, due: Instant, reason: &str) {
        let _ = (position, attempts, due, reason);
    }

    /// Asks for no more messages; what was fetched and not settled is free for others. Settlements may follow.
    ///
    /// # Errors
    /// As [`settle`](Source::settle).
    async fn stop(&mut self) -> Result<(), ArtifactError>;

    /// Makes sure that what was settled has arrived, and leaves.
    ///
    /// # Errors
    /// As [`settle`](Source::settle).
    async fn close(&mut self) -> Result<(), ArtifactError>;
}
