//! Carries out what the engine decides, for as long as the lease is held.

use super::engine::{Engine, Entry, HandOver, Outcome, Ticket, Verdict};
use super::order::Order;
use super::policy::RetryPolicy;
use super::settlement::{Action, Settlement};
use super::source::{Event, Fetched, Source};
use super::tasks::Tasks;
use crate::artifact::ArtifactError;
use crate::backoff::Backoff;
use crate::clock::{BootClock, Clock, Instant};
use crate::handler::SharedHandler;
use crate::lease::Lease;
use crate::message::Message;
use crate::telemetry::MessageMeters;

/// A longer pause is waited for in parts: timers stand still while the machine is suspended.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_secs(10);

/// How messages are dispatched.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many at once, and in which order.
    pub order: Order,
    /// What becomes of what could not be handled.
    pub policy: RetryPolicy,
    /// How many messages are kept here at most, in flight and waiting.
    pub capacity: usize,
}

/// Brings messages from `source` to `handler` until the lease is revoked, and settles them.
///
/// The lease is checked before every fetch, hand-over and settlement. Once it is revoked nothing is fetched or handed over
/// any more; handlers in flight finish and are settled. Dropped, it drops all handlers at once and settles nothing: so
/// it is to be called from [`Artifact::run`](crate::artifact::Artifact::run), which is dropped when the drain time or
/// the trust is over.
///
/// # Errors
/// The lease is lost; the source has failed for good; a message stopped the endpoint, because its handler or the policy
/// asked for that: then the artifact is paused in the whole cluster, until somebody resumes it.
pub async fn run(
    source: &mut dyn Source,
    handler: SharedHandler,
    lease: &Lease,
    settings: Settings,
) -> Result<(), ArtifactError> {
    let Some(why) = run_until_stopped(source, handler, lease, settings).await? else { return Ok(()) };
    let why = format!(
        "stopped by a message that was not handled: {why}; it stays where it is, and the endpoint is paused: mend what it needs, \
         or give the endpoint a dead-letter destination, and resume it"
    );
    // Another node, or this one a moment later, would stop at the same message.
    if let Err(error) = lease.pause_artifact(why.as_str()).await {
        tracing::warn!(artifact = %lease.artifact(), %error, "could not be paused");
    }
    Err(ArtifactError::message(why))
}

/// The same, for those who do something about it when a message stops the endpoint: then it tells why.
///
/// # Errors
/// As [`run`], but for that.
pub async fn run_until_stopped(
    source: &mut dyn Source,
    handler: SharedHandler,
    lease: &Lease,
    settings: Settings,
) -> Result<Option<String>, ArtifactError> {
    let Settings { order, policy, capacity } = settings;
    let driver = Driver {
        engine: Engine::new(order, policy, capacity, Backoff::seed()),
        tasks: Tasks::new(handler, lease.clone(), order.at_once()),
        meters: MessageMeters::new(lease),
        lease,
        source,
        events: Vec::new(),
        held_until: None,
        stopped: None,
    };
    driver.run().await
}

struct Driver<'a> {
    source: &'a mut dyn Source,
    lease: &'a Lease,
    engine: Engine<Message>,
    tasks: Tasks,
    meters: MessageMeters,
    events: Vec<Event>,
    /// Until when the source lets nothing be handed over.
    held_until: Option<Instant>,
    /// Why the endpoint is to stop.
    stopped: Option<String>,
}

impl Driver<'_> {
    async fn run(mut self) -> Result<Option<String>, ArtifactError> {
        while !self.lease.is_revoked() && self.stopped.is_none() {
            self.hand_over().await?;
            self.settle().await?;
            if self.lease.is_revoked() || self.stopped.is_some() {
                break;
            }
            self.wait().await?;
        }
        self.drain().await?;
        Ok(self.stopped)
    }

    /// Hands over what may be.
    async fn hand_over(&mut self) -> Result<(), ArtifactError> {
        loop {
            if self.engine.unsettled() >= self.source.together() {
                self.settle().await?;
                // A handler that never waits must not keep the runtime for itself.
                tokio::task::yield_now().await;
            }
            let now = BootClock.now();
            self.held_until = self.source.held_until(now).filter(|until| *until > now);
            if self.held_until.is_some() {
                break;
            }
            let Some(HandOver { ticket, item, attempt }) = self.engine.next(now) else { break };
            // Between two of them: whatever came before may have taken long.
            self.lease.check()?;
            let message = if item.attempt() == attempt { item.clone() } else { item.at_attempt(attempt) };
            let position = self.engine.place(ticket).map_or(0, |(position, _)| position);
            if let Some(reason) = self.source.handing_over(position, &message) {
                self.engine.refuse(ticket, reason);
                continue;
            }
            if let Some(outcome) = self.tasks.start(ticket, message).await {
                self.finish(ticket, outcome);
                if self.tasks.was_long() {
                    tokio::task::yield_now().await;
                }
            }
            if self.lease.is_revoked() || self.stopped.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self) -> Result<(), ArtifactError> {
        let room = self.engine.room();
        // What is due while the source holds everything up is looked at when it lets go.
        let wake = self.held_until.or_else(|| self.engine.next_wake());
        let pause = wake.map(|at| at.since(BootClock.now()).min(LONGEST_SLEEP));
        self.lease.check()?;
        let ended = tokio::select! {
            biased;
            _ = self.lease.revoked() => None,
            ended = self.tasks.next() => Some(ended),
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => None,
            // Without room, too: a lane that is lost is not to wait until a handler ends.
            fetched = self.source.fetch(room, &mut self.events) => {
                fetched?;
                None
            }
        };
        self.take_events();
        if let Some((ticket, outcome)) = ended {
            self.finish(ticket, outcome);
            while let Some((ticket, outcome)) = self.tasks.try_next() {
                self.finish(ticket, outcome);
            }
        }
        Ok(())
    }

    fn take_events(&mut self) {
        for event in self.events.drain(..) {
            match event {
                Event::Lost(lane) => self.engine.lose(lane),
                Event::Message(Fetched { lane, position, key, due, message }) => {
                    let attempts = message.attempt() - 1;
                    self.engine.admit(Entry { lane, position, key, attempts, due }, message);
                }
            }
        }
    }

    fn finish(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Outcome::Failed(failure, error) = &outcome {
            tracing::warn!(artifact = %self.lease.artifact(), ?failure, %error, "a message was not handled");
        }
        let reason = match &outcome {
            Outcome::Failed(_, error) => error.clone(),
            Outcome::Done => String::new(),
        };
        let verdict = self.engine.finish(ticket, outcome, BootClock.now());
        if let (Verdict::RetryAt(due), Some((position, attempts))) = (&verdict, self.engine.place(ticket)) {
            self.source.postponed(position, attempts, *due, &reason);
            self.meters.retried.increment(1);
        }
        if let Verdict::Stop(why) = verdict {
            self.stopped.get_or_insert(why);
        }
    }

    async fn settle(&mut self) -> Result<(), ArtifactError> {
        if self.engine.unsettled() == 0 {
            return Ok(());
        }
        self.lease.check()?;
        let mut settlement = self.engine.take_settlement();
        let counts = Counts::of(&settlement);
        self.tasks.beside(self.source.settle(&mut settlement)).await?;
        counts.tell(&self.meters);
        self.told(&settlement);
        self.engine.give_back(settlement);
        Ok(())
    }

    fn told(&self, settlement: &Settlement<Message>) {
        for decision in &settlement.decisions {
            let (what, attempts, reason) = match &decision.action {
                Action::Acknowledge => continue,
                Action::Requeue { attempts, reason, .. } => ("requeued", attempts, reason),
                Action::DeadLetter { attempts, reason } => ("dead-lettered", attempts, reason),
                Action::Discard { attempts, reason } => ("discarded", attempts, reason),
            };
            tracing::warn!(
                artifact = %self.lease.artifact(), id = %decision.item.id(), what, attempts, %reason,
                "a message was settled unhandled"
            );
        }
    }

    /// Lets handlers in flight finish. How long they may is up to whoever drops this.
    async fn drain(&mut self) -> Result<(), ArtifactError> {
        self.engine.drain();
        self.lease.check()?;
        self.tasks.beside(self.source.stop()).await?;
        self.settle().await?;
        while self.engine.in_flight() > 0 {
            let (ticket, outcome) = self.tasks.next().await;
            self.finish(ticket, outcome);
            self.settle().await?;
        }
        self.lease.check()?;
        self.source.close().await
    }
}

/// What becomes of the messages of a settlement, which its source takes out.
#[derive(Default)]
struct Counts {
    delivered: u64,
    retried: u64,
    parked: u64,
    discarded: u64,
}

impl Counts {
    fn of(settlement: &Settlement<Message>) -> Self {
        let mut counts = Self::default();
        for decision in &settlement.decisions {
            match decision.action {
                Action::Acknowledge => counts.delivered += 1,
                Action::Requeue { .. } => counts.retried += 1,
                Action::DeadLetter { .. } => counts.parked += 1,
                Action::Discard { .. } => counts.discarded += 1,
            }
        }
        counts
    }

    fn tell(&self, meters: &MessageMeters) {
        let all = [
            (&meters.delivered, self.delivered),
            (&meters.retried, self.retried),
            (&meters.parked, self.parked),
            (&meters.discarded, self.discarded),
        ];
        for (meter, count) in all {
            if count > 0 {
                meter.increment(count);
            }
        }
    }
}
