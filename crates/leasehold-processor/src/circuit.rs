//! The handler behind a circuit breaker, whose state outlives its holder.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use leasehold_core::clock::{BootClock, Clock};
use leasehold_core::handler::{Failure, Handler, HandlerError, SharedHandler};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use serde::{Deserialize, Serialize};

use crate::breaker::{Breaker, Circuit, Ended};
use crate::processor::Processor;

/// The checkpoint of a circuit that is open.
const CIRCUIT: &str = "circuit";

pub(crate) type SharedCircuit = Arc<Mutex<Circuit>>;

pub(crate) fn lock(circuit: &SharedCircuit) -> MutexGuard<'_, Circuit> {
    // Each step of a circuit is complete when the lock is let go.
    circuit.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A circuit that is open, for the next holder: times are milliseconds of the database's clock.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    until: i64,
    pause: u64,
}

/// As the last holder left it.
pub(crate) async fn load(breaker: Breaker, lease: &Lease) -> Result<Circuit, leasehold_core::Error> {
    let stored = lease.load(CIRCUIT).await?;
    let Some(Stored { until, pause }) = stored.and_then(|text| serde_json::from_str(&text).ok()) else {
        return Ok(Circuit::new(breaker));
    };
    let left = until - lease.schedule_clock().now().timestamp_millis();
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
    Ok(Circuit::opened(breaker, BootClock.now(), left, Duration::from_millis(pause)))
}

/// A handler, and what its outcomes say of the endpoint.
pub(crate) struct Guarded {
    handler: SharedHandler,
    fault: Option<SharedHandler>,
    circuit: Option<SharedCircuit>,
    attempts: u32,
}

impl Guarded {
    pub(crate) fn new(processor: &Processor, circuit: Option<SharedCircuit>) -> Self {
        let attempts = processor.config().retry.attempts;
        Self { handler: processor.handler(), fault: processor.fault(), circuit, attempts }
    }

    /// Tells the circuit how an attempt ended, and the next holder how the circuit is.
    async fn tell(&self, lease: &Lease, ended: Ended<'_>) {
        let Some(circuit) = &self.circuit else { return };
        let now = BootClock.now();
        let open = {
            let mut circuit = lock(circuit);
            if !circuit.ended(ended, now) {
                return;
            }
            circuit.open_for(now)
        };
        let stored = match open {
            Some((left, pause)) => {
                lease.report(Condition::Impaired(
                    format!("the endpoint fails; the next try in {left:?}").into(),
                ));
                let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
                let until = lease.schedule_clock().now().timestamp_millis().saturating_add(left);
                Some(Stored { until, pause: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) })
            }
            None => {
                lease.report(Condition::Working("the endpoint answers again".into()));
                None
            }
        };
        let stored = serde_json::to_string(&stored).unwrap_or_default();
        if let Err(error) = lease.save(CIRCUIT, stored).await {
            // The next holder begins with a closed circuit, and finds out by itself.
            tracing::warn!(artifact = %lease.artifact(), %error, "the state of the circuit was not kept");
        }
    }

    /// Whether this attempt was the last.
    fn is_last(&self, message: &Message, failure: Failure) -> bool {
        match failure {
            Failure::Retry(_) => message.attempt() >= self.attempts,
            Failure::Unavailable(_) => false,
            _ => true,
        }
    }
}

#[async_trait]
impl Handler for Guarded {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        // A panic is an outcome, too: a circuit that waits for its probe would wait for ever.
        let handling = AssertUnwindSafe(async { self.handler.handle(message.clone(), lease.clone()).await });
        let ended = handling.catch_unwind().await;
        let ended = ended
            .unwrap_or_else(|panic| Err(HandlerError::retry(leasehold_core::panic::text(panic.as_ref()))));
        let Err(error) = ended else {
            self.tell(&lease, Ended::Works).await;
            return Ok(());
        };
        let error = match (error.failure(), &self.circuit) {
            // Without a circuit nobody waits for an endpoint that cannot be reached.
            (Failure::Unavailable(after), None) => match after {
                Some(after) => HandlerError::retry_after(after, error.to_string()),
                None => HandlerError::retry(error.to_string()),
            },
            _ => error,
        };
        match error.failure() {
            Failure::Unavailable(_) => self.tell(&lease, Ended::Unreachable).await,
            Failure::Retry(_) => {
                let id = message.id();
                self.tell(&lease, Ended::Failed(&id)).await;
            }
            // The endpoint works: it said what it thinks of the message.
            _ => self.tell(&lease, Ended::Works).await,
        }
        if let Some(fault) = &self.fault
            && self.is_last(&message, error.failure())
        {
            lease.check()?;
            if let Err(failed) = fault.handle(message, lease.clone()).await {
                tracing::warn!(artifact = %lease.artifact(), error = %failed, "the fault handler failed");
            }
        }
        Err(error)
    }
}
