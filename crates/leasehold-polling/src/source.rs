//! Polls, and settles what was handled: what an endpoint is to the engine.

mod marks;
mod polls;
mod positions;
mod saving;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::backoff::Backoff;
use leasehold_core::bytes::Bytes;
use leasehold_core::clock::{BootClock, Clock, Instant};
use leasehold_core::dispatch::{Action, Event, Fetched, Settlement, Source};
use leasehold_core::handler::SharedHandler;
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, Progress as Recorded};
use leasehold_core::status::Condition;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::marks::Marks;
use self::polls::joined;
use self::positions::Positions;
use self::saving::Saving;
use crate::attempts::{self, Attempts};
use crate::config::{Polling, Progress};
use crate::error::Error;
use crate::once::{CURSOR, Reached};
use crate::park::park;
use crate::poller::{Batch, Cursor, Fate, Item, Poller, Settled};
use crate::schedule::{Found, Pace};

/// So many decisions at most wait for each other.
const TOGETHER: usize = 64;
/// While payloads of this size together are here, nothing more is polled.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The checkpoint that tells how the last run ended.
const RUN: &str = "run";
const OPEN: &str = "open";
const STOPPED: &str = "stopped";
const IDLE: &str = "idle";

/// What a poller finds.
pub(crate) struct Polled {
    poller: Arc<dyn Poller>,
    polling: Polling,
    keeper: Option<SharedHandler>,
    lease: Lease,
    pace: Pace,
    /// The next poll.
    due: Instant,
    has_begun: Arc<AtomicBool>,
    under_way: Option<JoinHandle<Result<Batch, Error>>>,
    waiting: VecDeque<Item>,
    /// What the last poll found.
    found: Found,
    /// Where the next poll goes on.
    cursor: Option<Cursor>,
    marks: Marks,
    saving: Saving,
    commands: watch::Receiver<i64>,
    is_asked: bool,
    /// A command that is being taken away.
    taking: Option<JoinHandle<Result<Option<String>, leasehold_core::Error>>>,
    /// By position: what is being handled, waits for another attempt, or is to be settled.
    handed: HashMap<u64, Message, BuildHasherDefault<Positions>>,
    /// Of the payloads that were handed out and are not settled.
    bytes: usize,
    /// By position: what cannot be handled, and why.
    broken: HashMap<u64, String>,
    attempts: Attempts,
    /// After a takeover from a holder that did not stop: so many items are handed over one by one, each with its attempt
    /// written down first, because one of them may have taken that holder with it.
    suspects: usize,
    /// The attempt of the first one that waits is written down.
    is_noted: bool,
    /// What the node's status shows.
    shown: Option<Condition>,
}

impl Polled {
    pub(crate) async fn open(
        poller: Arc<dyn Poller>,
        polling: Polling,
        keeper: Option<SharedHandler>,
        lease: Lease,
    ) -> Result<Self, ArtifactError> {
        let before = lease.load(RUN).await?;
        let cursor = lease.load(CURSOR).await?.map(Cursor::new);
        let attempts = Attempts::read(lease.load(attempts::KEY).await?.as_deref());
        lease.save(RUN, OPEN).await?;
        let pace = Pace::new(&polling.schedule, Backoff::seed()).map_err(ArtifactError::message)?;
        let now = BootClock.now();
        // Work that was under way does not wait for the next instant of a cron expression.
        let is_under_way = before.as_deref().is_some_and(|before| before != IDLE);
        let due = if is_under_way { now } else { pace.first(now, wall(&lease)) };
        let suspects = if before.as_deref() == Some(OPEN) { polling.capacity() } else { 0 };
        let commands = lease.commands();
        let is_asked = *commands.borrow() > 0;
        Ok(Self {
            marks: Marks::new(polling.capacity()),
            saving: Saving::new(lease.clone()),
            poller,
            polling,
            keeper,
            lease,
            pace,
            due,
            has_begun: Arc::default(),
            under_way: None,
            waiting: VecDeque::new(),
            found: Found::Nothing,
            cursor,
            commands,
            is_asked,
            taking: None,
            handed: HashMap::default(),
            bytes: 0,
            broken: HashMap::new(),
            attempts,
            suspects,
            is_noted: false,
            shown: None,
        })
    }

    /// Hands out what waits, at most `room`; whether there was something.
    async fn hand_out(&mut self, room: usize, events: &mut Vec<Event>) -> Result<bool, ArtifactError> {
        let mut room = room.min(self.marks.room());
        if room == 0 || self.waiting.is_empty() {
            return Ok(false);
        }
        if self.suspects > 0 {
            if !self.marks.is_done() || !self.handed.is_empty() {
                return Ok(false);
            }
            self.note_first().await?;
            self.suspects -= 1;
            room = 1;
        }
        for item in self.waiting.drain(..room.min(self.waiting.len())) {
            let Item { mut parts, cursor, broken } = item;
            if self.polling.progress == Progress::InHandler
                && parts.progress.is_none()
                && let Some(cursor) = &cursor
            {
                parts.progress = Some(Recorded::by(Reached(cursor.clone())));
            }
            let position = self.marks.open(cursor);
            self.broken.extend(broken.map(|broken| (position, broken)));
            self.bytes += parts.body.as_ref().map_or(0, Bytes::len);
            let key = parts.key.clone();
            let mut message = Message::new(parts, 1);
            if !self.attempts.is_empty() {
                let before = self.attempts.of(&message.id());
                // Of a suspect, the attempt that begins is written down already.
                let attempt = if self.is_noted { before } else { before + 1 };
                message = message.at_attempt(attempt.max(1));
            }
            events.push(Event::Message(Fetched { lane: 0, position, key, due: None, message }));
        }
        self.is_noted = false;
        // While handlers work.
        if self.may_poll() && self.due <= BootClock.now() {
            self.begin_poll();
            // It begins now, and not when the first of these handlers waits for something.
            tokio::task::yield_now().await;
        }
        Ok(true)
    }

    /// Writes down that the first one that waits is handed over. Cancellation safe: repeated, it counts once.
    async fn note_first(&mut self) -> Result<(), ArtifactError> {
        let Some(first) = self.waiting.front() else { return Ok(()) };
        if !self.is_noted {
            let id = id(first);
            self.attempts.note(&id, self.attempts.of(&id) + 1);
            self.is_noted = true;
        }
        self.saving.attempts(&mut self.attempts).await?;
        Ok(())
    }
}

#[async_trait]
impl Source for Polled {
    async fn fetch(&mut self, room: usize, events: &mut Vec<Event>) -> Result<(), ArtifactError> {
        loop {
            if self.hand_out(room, events).await? {
                return Ok(());
            }
            if self.is_asked && self.taking.is_none() {
                self.is_asked = false;
                self.take_command();
            }
            self.saving.attempts(&mut self.attempts).await?;
            // A handler that records progress by itself is not to be overtaken by what is written here.
            let may_save = self.polling.progress == Progress::AfterHandler || self.handed.is_empty();
            let save_at = self.saving.due(self.polling.lag).filter(|_| may_save);
            let now = BootClock.now();
            if save_at.is_some_and(|at| at <= now) {
                self.saving.cursor().await?;
            }
            if self.may_poll() && self.due <= now {
                self.begin_poll();
            }
            let poll_at = self.may_poll().then_some(self.due);
            let wake = [save_at, poll_at].into_iter().flatten().min();
            let pause = wake.map_or(LONGEST_SLEEP, |at| at.since(now).min(LONGEST_SLEEP));
            tokio::select! {
                biased;
                polled = joined(&mut self.under_way) => {
                    self.under_way = None;
                    self.take(polled?)?;
                }
                taken = joined(&mut self.taking) => {
                    self.taking = None;
                    self.obey(taken??);
                }
                // Its sender lives as long as the lease.
                Ok(()) = self.commands.changed() => self.is_asked = true,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn settle(&mut self, settlement: &mut Settlement<Message>) -> Result<(), ArtifactError> {
        let mut settled = Vec::with_capacity(settlement.decisions.len());
        for decision in settlement.decisions.drain(..) {
            let (position, message) = (decision.position, decision.item);
            self.handed.remove(&position);
            self.broken.remove(&position);
            self.bytes = self.bytes.saturating_sub(message.body().map_or(0, Bytes::len));
            if !self.attempts.is_empty() {
                self.attempts.forget(&message.id());
            }
            let fate = match decision.action {
                Action::Acknowledge => Fate::Handled,
                // The policy keeps what is tried again in place.
                Action::Requeue { .. } | Action::Discard { .. } => Fate::Dropped,
                Action::DeadLetter { attempts, reason } => match &self.keeper {
                    None => Fate::Failed { attempts, reason },
                    Some(keeper) => {
                        if !park(keeper, &self.lease, &message, attempts, &reason).await? {
                            self.marks.keep(position);
                            continue;
                        }
                        Fate::Parked
                    }
                },
            };
            if self.polling.progress == Progress::InHandler {
                let recorded = fate == Fate::Handled
                    && message.parts().progress.as_ref().is_some_and(|progress| progress.is_recorded());
                self.marks.recorded(position, recorded);
            }
            settled.push(Settled { message, fate });
        }
        self.lease.check()?;
        match self.poller.settle(settled, &self.lease).await {
            Ok(()) => {}
            Err(error) if error.is_lost() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(artifact = %self.lease.artifact(), %error, "what follows items could not be done");
                self.show(Condition::Impaired(error.to_string().into()));
            }
        }
        for (_, mark) in settlement.watermarks.drain(..) {
            if let Some(reached) = self.marks.pass(mark) {
                self.saving.reached(reached);
            }
        }
        self.saving.attempts(&mut self.attempts).await?;
        let at_once = self.polling.progress == Progress::InHandler || self.polling.lag.is_zero();
        if at_once || self.saving.due(self.polling.lag).is_some_and(|at| at <= BootClock.now()) {
            self.saving.cursor().await?;
        }
        Ok(())
    }

    fn together(&self) -> usize {
        // What is written here is never written beside the next handler's own, and cannot set that back.
        if self.polling.progress == Progress::InHandler { 1 } else { TOGETHER }
    }

    fn handing_over(&mut self, position: u64, message: &Message) -> Option<String> {
        if let Some(progress) = &message.parts().progress {
            progress.begin();
        }
        if let Some(reason) = self.broken.get(&position) {
            return Some(reason.clone());
        }
        let attempts = self.polling.retry.attempts;
        if message.attempt() > attempts {
            return Some(format!("its holder did not survive {attempts} attempts"));
        }
        self.handed.insert(position, message.clone());
        None
    }

    fn postponed(&mut self, position: u64, attempts: u32, _due: Instant, _reason: &str) {
        if let Some(message) = self.handed.get(&position) {
            self.attempts.note(&message.id(), attempts);
        }
    }

    async fn stop(&mut self) -> Result<(), ArtifactError> {
        if let Some(under_way) = self.under_way.take() {
            under_way.abort();
            self.found = Found::More;
        }
        if !self.waiting.is_empty() {
            self.waiting.clear();
            self.found = Found::More;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ArtifactError> {
        let is_idle = self.is_idle();
        self.saving.attempts(&mut self.attempts).await?;
        self.saving.cursor().await?;
        self.lease.save(RUN, if is_idle { IDLE } else { STOPPED }).await?;
        Ok(())
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        if let Some(under_way) = &self.under_way {
            under_way.abort();
        }
    }
}

/// A longer pause is waited for in parts: timers stand still while the machine is suspended.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_secs(10);

fn wall(lease: &Lease) -> i64 {
    lease.schedule_clock().now().timestamp_millis()
}

fn id(item: &Item) -> String {
    use leasehold_core::message::MessageId;
    match &item.parts.id {
        MessageId::Text(id) => id.to_string(),
        MessageId::Position(at) => format!("{}/{at}", item.parts.source),
        MessageId::Unknown => String::new(),
    }
}
