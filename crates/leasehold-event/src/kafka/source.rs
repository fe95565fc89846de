//! Brings messages of topics, and settles them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::backoff::Backoff;
use leasehold_core::dispatch::{Action, Decision, Event, LaneId, Settlement, Source};
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, Progress};
use leasehold_core::status::Condition;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{mpsc, oneshot};

use super::client::Access;
use super::config::{KafkaConfig, Offsets};
use super::convert;
use super::producer::Producer;
use super::state::Shared;
use super::worker::{self, Command};
use crate::dead;
use crate::error::{Error, ErrorKind};

/// So many acknowledgements at most wait for each other where the broker keeps the offsets.
const TOGETHER: usize = 64;

/// The pauses between attempts to get rid of a dead letter.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The messages of a consumer, which lives on a thread of its own.
pub(super) struct Topics {
    config: Arc<KafkaConfig>,
    lease: Lease,
    commands: Sender<Command>,
    events: UnboundedReceiver<Vec<Event>>,
    waiting: VecDeque<Event>,
    dead_letters: Option<Producer>,
    /// By lane: the lowest position of a message that could not be buried before the run ended. The next holder begins there.
    kept: Vec<(LaneId, u64)>,
}

impl Topics {
    /// Starts the thread.
    pub(super) fn new(config: Arc<KafkaConfig>, lease: Lease) -> Result<Self, Error> {
        let (tell, events) = mpsc::unbounded_channel();
        let (commands, receiver) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared::new(Arc::clone(&config), lease.clone(), tell));
        let sender = commands.clone();
        std::thread::Builder::new()
            .name(format!("leasehold-{}", config.name))
            .spawn(move || worker::run(&shared, &sender, &receiver))
            .map_err(|error| Error::new(ErrorKind::Other, "start the client's thread", error.to_string()))?;
        let text = format!("waits for partitions of {} of {}", config.topics.join(", "), config.brokers);
        lease.report(Condition::Impaired(text.into()));
        let (waiting, dead_letters, kept) = (VecDeque::new(), None, Vec::new());
        Ok(Self { config, lease, commands, events, waiting, dead_letters, kept })
    }

    fn command(&self, command: Command) {
        // The thread ends only when it is told to.
        let _ = self.commands.send(command);
    }

    fn dead_letters(&mut self) -> Result<&Producer, Error> {
        if self.dead_letters.as_ref().is_none_or(Producer::is_broken) {
            let name = format!("leasehold-{}-{}-dead", self.lease.artifact(), self.lease.token());
            self.dead_letters = Some(Producer::new(Access::from(&*self.config), &name)?);
        }
        self.dead_letters.as_ref().ok_or_else(|| Error::new(ErrorKind::Other, "produce", "no producer"))
    }

    /// Until it is there: an offset cannot move past a message that is nowhere else. False: the run is to end first.
    async fn bury(
        &mut self,
        decision: &Decision<Message>,
        attempts: u32,
        reason: &str,
    ) -> Result<bool, ArtifactError> {
        let Some(topic) = self.config.dead_letter.clone() else { return Ok(true) };
        let source = format!("{}/{}", decision.item.source(), decision.position);
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1, Backoff::seed());
        loop {
            self.lease.check()?;
            let why = dead::Why { lease: &self.lease, attempts, reason, source: &source };
            let headers = convert::headers(&decision.item, dead::headers(&why));
            let sent = match self.dead_letters() {
                Ok(producer) => producer.send(&topic, &decision.item, headers).await,
                Err(error) => Err(error),
            };
            let Err(error) = sent else {
                if backoff.failures() > 0 {
                    self.lease
                        .report(Condition::Working(format!("dead letters go to {topic:?} again").into()));
                }
                return Ok(true);
            };
            self.lease
                .report(Condition::Impaired(format!("a dead letter cannot go to its topic: {error}").into()));
            let pause = tokio::time::sleep(backoff.next_pause());
            if self.lease.unless_revoked(pause).await.is_err() {
                tracing::warn!(artifact = %self.lease.artifact(), %error, source, "a dead letter is left to the next holder");
                return Ok(false);
            }
        }
    }

    /// Writes progress that handlers have not written in transactions of their own.
    async fn save(
        &mut self,
        settlement: &Settlement<Message>,
        lane: LaneId,
        mark: u64,
    ) -> Result<(), ArtifactError> {
        // The mark itself, unless a message behind it was kept.
        let below = |decision: &&Decision<Message>| decision.lane == lane && decision.position <= mark;
        let last = settlement.decisions.iter().filter(below).max_by_key(|decision| decision.position);
        let Some(Decision { action, item, .. }) = last else { return Ok(()) };
        // Of a handler that failed, what it has written is not known to have stayed.
        let is_due = |progress: &&Arc<Progress>| *action != Action::Acknowledge || !progress.is_recorded();
        if let Some(progress) = item.parts().progress.as_ref().filter(is_due) {
            self.lease.save(progress.key(), progress.value()).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Source for Topics {
    async fn fetch(&mut self, room: usize, events: &mut Vec<Event>) -> Result<(), ArtifactError> {
        loop {
            while let Ok(brought) = self.events.try_recv() {
                self.waiting.extend(brought);
            }
            take(&mut self.waiting, room, events);
            if !events.is_empty() {
                return Ok(());
            }
            let brought = self.events.recv().await;
            let brought = brought.ok_or_else(|| ArtifactError::message("the client's thread has ended"))?;
            self.waiting.extend(brought);
        }
    }

    async fn settle(&mut self, settlement: &mut Settlement<Message>) -> Result<(), ArtifactError> {
        for decision in &settlement.decisions {
            if let Action::DeadLetter { attempts, reason } = &decision.action
                && !self.bury(decision, *attempts, reason).await?
            {
                self.kept.push((decision.lane, decision.position));
            }
        }
        settlement.watermarks.retain_mut(|(lane, mark)| below(&self.kept, *lane, mark));
        if settlement.watermarks.is_empty() {
            return Ok(());
        }
        if self.config.offsets == Offsets::InDatabase {
            for (lane, mark) in &settlement.watermarks {
                self.save(settlement, *lane, *mark).await?;
            }
        }
        self.lease.check()?;
        self.command(Command::Handled(settlement.watermarks.clone()));
        Ok(())
    }

    fn together(&self) -> usize {
        // Progress that is written here is never written beside the next handler's own, and cannot set that back.
        if self.config.offsets == Offsets::InDatabase { 1 } else { TOGETHER }
    }

    fn handing_over(&mut self, _: u64, message: &Message) -> Option<String> {
        if let Some(progress) = &message.parts().progress {
            progress.begin();
        }
        None
    }

    async fn stop(&mut self) -> Result<(), ArtifactError> {
        self.waiting.clear();
        self.command(Command::Stop);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ArtifactError> {
        let (done, closed) = oneshot::channel();
        self.command(Command::Close(done));
        // What is not committed by then comes again.
        if tokio::time::timeout(self.config.timeout, closed).await.is_err() {
            tracing::warn!(artifact = %self.lease.artifact(), "the broker did not answer to the last commit");
        }
        Ok(())
    }
}

/// Moves a mark below whatever of its lane was kept; whether there is anything below.
fn below(kept: &[(LaneId, u64)], lane: LaneId, mark: &mut u64) -> bool {
    let lowest = kept.iter().filter(|(of, _)| *of == lane).map(|(_, position)| *position).min();
    let Some(lowest) = lowest.filter(|lowest| *lowest <= *mark) else { return true };
    let Some(last) = lowest.checked_sub(1) else { return false };
    *mark = last;
    true
}

/// At most `room` messages, and what is between them; without room, the lanes that are lost.
fn take(waiting: &mut VecDeque<Event>, room: usize, into: &mut Vec<Event>) {
    if room == 0 {
        let lost = |event: &Event| match event {
            Event::Lost(lane) => Some(*lane),
            Event::Message(_) => None,
        };
        let gone: Vec<LaneId> = waiting.iter().filter_map(lost).collect();
        if !gone.is_empty() {
            // Nor are messages of those brought after it.
            waiting.retain(|event| matches!(event, Event::Message(message) if !gone.contains(&message.lane)));
            into.extend(gone.into_iter().map(Event::Lost));
        }
        return;
    }
    let mut left = room;
    while left > 0
        && let Some(event) = waiting.pop_front()
    {
        left -= usize::from(matches!(event, Event::Message(_)));
        into.push(event);
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        self.command(Command::Abandon);
    }
}

#[cfg(test)]
mod tests {
    use leasehold_core::dispatch::Fetched;
    use leasehold_core::message::{MessageId, Parts};

    use super::*;

    fn message(lane: LaneId, position: u64) -> Event {
        let parts = Parts {
            id: MessageId::Position(position),
            key: None,
            headers: Vec::new(),
            content_type: None,
            body: None,
            source: "t/0".into(),
            progress: None,
            native: None,
        };
        Event::Message(Fetched { lane, position, key: None, due: None, message: Message::new(parts, 1) })
    }

    #[test]
    fn a_lost_lane_is_told_without_room_and_its_messages_do_not_come_after_it() {
        let mut waiting: VecDeque<Event> = [message(1, 7), message(2, 0), Event::Lost(1)].into();
        let mut events = Vec::new();
        take(&mut waiting, 0, &mut events);
        assert!(matches!(events[..], [Event::Lost(1)]));
        take(&mut waiting, 0, &mut events);
        assert_eq!(events.len(), 1);
        take(&mut waiting, 5, &mut events);
        assert!(matches!(&events[1], Event::Message(message) if message.lane == 2));
        assert_eq!((events.len(), waiting.len()), (2, 0));
    }
    #[test]
    fn no_mark_passes_a_message_that_was_kept() {
        let kept = [(1, 7), (1, 5), (2, 0)];
        let at = |lane, mut mark| below(&kept, lane, &mut mark).then_some(mark);
        assert_eq!((at(1, 4), at(1, 5), at(1, 9)), (Some(4), Some(4), Some(4)));
        assert_eq!((at(2, 3), at(3, 3)), (None, Some(3)));
    }
}
