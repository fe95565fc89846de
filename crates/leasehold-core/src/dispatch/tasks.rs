//! Handlers that are under way.

use std::any::Any;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument;

use super::engine::{Outcome, Ticket};
use crate::clock::{BootClock, Clock};
use crate::handler::{HandlerError, SharedHandler};
use crate::lease::Lease;
use crate::message::Message;

type Handling = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// A handler that computes for longer than this before its first await gets a task of its own from the start.
const QUICK: Duration = Duration::from_micros(50);
/// Where no other handler is to run beside it, only the driver waits for it. It is no hurry for that long, and on a machine
/// with much to do whoever is not slow at all takes more than [`QUICK`] now and then.
const QUICK_ALONE: Duration = Duration::from_millis(1);
/// How many messages later it is tried again.
const SLOW_FOR: u32 = 256;

/// Runs handlers. One that is done at once costs no task, nor does one that waits while no other is to run beside it: to wake
/// a task for each message costs as much as to post it. Each other one has a task, so that they run in parallel. Dropped,
/// it aborts them all.
pub(super) struct Tasks {
    handler: SharedHandler,
    lease: Lease,
    /// One handler runs at a time.
    single: bool,
    /// The handler without a task, which runs while the driver waits, for whatever that is.
    alone: Option<(Ticket, Handling)>,
    /// What became of it.
    ended: Option<(Ticket, Outcome)>,
    under_way: JoinSet<Result<(), HandlerError>>,
    tickets: HashMap<Id, Ticket>,
    slow: u32,
    /// The last poll of a handler without a task took longer than [`QUICK`].
    was_long: bool,
}

impl Tasks {
    pub(super) fn new(handler: SharedHandler, lease: Lease, at_once: usize) -> Self {
        Self {
            handler,
            lease,
            single: at_once == 1,
            alone: None,
            ended: None,
            under_way: JoinSet::new(),
            tickets: HashMap::new(),
            slow: 0,
            was_long: false,
        }
    }

    /// Begins to handle a message; its outcome, if that is known at once.
    pub(super) async fn start(&mut self, ticket: Ticket, message: Message) -> Option<Outcome> {
        let (handler, lease) = (std::sync::Arc::clone(&self.handler), self.lease.clone());
        #[cfg(feature = "failpoints")]
        crate::failpoint::reached(crate::failpoint::Point::HandlerStarted);
        let (id, attempt) = (message.id(), message.attempt());
        let span = tracing::debug_span!("leasehold.message", artifact = %lease.artifact(), %id, attempt);
        if self.slow > 0 {
            self.slow -= 1;
            let handling = async move { handler.handle(message, lease).await }.instrument(span);
            self.spawn(ticket, Box::pin(handling));
            return None;
        }
        let handling = async move { handler.handle(message, lease).await };
        let mut handling: Handling = Box::pin(handling.instrument(span));
        match poll_fn(|cx| Poll::Ready(self.poll(&mut handling, cx))).await {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending if self.single && self.slow == 0 => {
                self.alone = Some((ticket, handling));
                None
            }
            Poll::Pending => {
                self.spawn(ticket, handling);
                None
            }
        }
    }

    /// Polls a handler that has no task, and notes whether it should have one.
    fn poll(&mut self, handling: &mut Handling, cx: &mut Context<'_>) -> Poll<Outcome> {
        let began = BootClock.now();
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx)));
        let took = BootClock.now().since(began);
        self.was_long = took > QUICK;
        if took > if self.single { QUICK_ALONE } else { QUICK } {
            self.slow = SLOW_FOR;
        }
        match polled {
            Ok(polled) => polled.map(outcome),
            Err(panic) => Poll::Ready(panicked(panic.as_ref())),
        }
    }

    /// Whether a handler without a task has just kept the runtime for long.
    pub(super) fn was_long(&self) -> bool {
        self.was_long
    }

    /// Lets the handler that has no task go on.
    fn poll_alone(&mut self, cx: &mut Context<'_>) {
        let Some((ticket, mut handling)) = self.alone.take() else { return };
        match self.poll(&mut handling, cx) {
            Poll::Ready(outcome) => self.ended = Some((ticket, outcome)),
            // It computes for long: the driver has more to do than that.
            Poll::Pending if self.slow > 0 => self.spawn(ticket, handling),
            Poll::Pending => self.alone = Some((ticket, handling)),
        }
    }

    /// Does something, and the handler that has no task goes on meanwhile: it may hold what this waits for.
    pub(super) async fn beside<T>(&mut self, doing: impl Future<Output = T>) -> T {
        let mut doing = std::pin::pin!(doing);
        poll_fn(|cx| {
            self.poll_alone(cx);
            doing.as_mut().poll(cx)
        })
        .await
    }

    fn spawn(&mut self, ticket: Ticket, handling: Handling) {
        let id = self.under_way.spawn(handling).id();
        self.tickets.insert(id, ticket);
    }

    /// The next outcome; pends for ever while nothing is under way. Cancellation safe.
    pub(super) async fn next(&mut self) -> (Ticket, Outcome) {
        let alone = poll_fn(|cx| {
            self.poll_alone(cx);
            match self.ended.take() {
                Some(ended) => Poll::Ready(Some(ended)),
                None if self.alone.is_some() => Poll::Pending,
                None => Poll::Ready(None),
            }
        });
        if let Some(ended) = alone.await {
            return ended;
        }
        loop {
            match self.under_way.join_next_with_id().await {
                Some(ended) => {
                    if let Some(told) = self.told(ended) {
                        return told;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// An outcome that is known by now.
    pub(super) fn try_next(&mut self) -> Option<(Ticket, Outcome)> {
        loop {
            let ended = self.under_way.try_join_next_with_id()?;
            if let Some(told) = self.told(ended) {
                return Some(told);
            }
        }
    }

    fn told(
        &mut self,
        ended: Result<(Id, Result<(), HandlerError>), JoinError>,
    ) -> Option<(Ticket, Outcome)> {
        match ended {
            Ok((id, done)) => Some((self.tickets.remove(&id)?, outcome(done))),
            Err(error) => {
                let ticket = self.tickets.remove(&error.id())?;
                let text = match error.try_into_panic() {
                    Ok(panic) => panicked(panic.as_ref()),
                    // The runtime shuts down.
                    Err(error) => Outcome::Failed(crate::handler::Failure::Retry(None), error.to_string()),
                };
                Some((ticket, text))
            }
        }
    }
}

fn outcome(done: Result<(), HandlerError>) -> Outcome {
    match done {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(error.failure(), error.to_string()),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    Outcome::Failed(crate::handler::Failure::Retry(None), crate::panic::text(panic))
}
