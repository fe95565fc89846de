//! Handlers that are under way.

use std::any::Any;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::Poll;
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
/// How many messages later it is tried again.
const SLOW_FOR: u32 = 256;

/// Runs handlers. One that is done at once costs no task; each other one has a task, so that they run in parallel.
/// Dropped, it aborts them all.
pub(super) struct Tasks {
    handler: SharedHandler,
    lease: Lease,
    under_way: JoinSet<Result<(), HandlerError>>,
    tickets: HashMap<Id, Ticket>,
    slow: u32,
}

impl Tasks {
    pub(super) fn new(handler: SharedHandler, lease: Lease) -> Self {
        Self { handler, lease, under_way: JoinSet::new(), tickets: HashMap::new(), slow: 0 }
    }

    /// Begins to handle a message; its outcome, if that is known at once.
    pub(super) async fn start(&mut self, ticket: Ticket, message: Message) -> Option<Outcome> {
        let (handler, lease) = (std::sync::Arc::clone(&self.handler), self.lease.clone());
        let (id, attempt) = (message.id(), message.attempt());
        let span = tracing::debug_span!("leasehold.message", artifact = %lease.artifact(), %id, attempt);
        if self.slow > 0 {
            self.slow -= 1;
            let handling = async move { handler.handle(message, lease).await }.instrument(span);
            self.spawn(ticket, Box::pin(handling));
            return None;
        }
        let began = BootClock.now();
        let handling = async move { handler.handle(message, lease).await };
        let mut handling: Handling = Box::pin(handling.instrument(span));
        let first = poll_fn(|cx| {
            let polled = std::panic::catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx)));
            Poll::Ready(polled)
        });
        let outcome = match first.await {
            Ok(Poll::Ready(done)) => Some(outcome(done)),
            Ok(Poll::Pending) => {
                self.spawn(ticket, handling);
                None
            }
            Err(panic) => Some(panicked(panic.as_ref())),
        };
        if BootClock.now().since(began) > QUICK {
            self.slow = SLOW_FOR;
        }
        outcome
    }

    fn spawn(&mut self, ticket: Ticket, handling: Handling) {
        let id = self.under_way.spawn(handling).id();
        self.tickets.insert(id, ticket);
    }

    /// The next outcome; pends for ever while nothing is under way. Cancellation safe.
    pub(super) async fn next(&mut self) -> (Ticket, Outcome) {
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
