//! Where items go that could not be handled: to a handler that keeps them.

use std::time::Duration;

use leasehold_core::LeaseLost;
use leasehold_core::backoff::Backoff;
use leasehold_core::bytes::Bytes;
use leasehold_core::dead::Why;
pub use leasehold_core::dead::{ARTIFACT, ATTEMPTS, REASON, SOURCE};
use leasehold_core::handler::SharedHandler;
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, MessageId, Parts};
use leasehold_core::status::Condition;

/// The pauses between attempts to park.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Until it is kept: progress cannot move past an item that is nowhere else. False: the run is to end first.
pub(crate) async fn park(
    keeper: &SharedHandler,
    lease: &Lease,
    message: &Message,
    attempts: u32,
    reason: &str,
) -> Result<bool, LeaseLost> {
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1, Backoff::seed());
    let told = told(message, lease, attempts, reason);
    loop {
        lease.check()?;
        let Err(error) = keeper.handle(told.clone(), lease.clone()).await else { return Ok(true) };
        lease.report(Condition::Impaired(format!("an item cannot be parked: {error}").into()));
        let pause = tokio::time::sleep(backoff.next_pause());
        if lease.unless_revoked(pause).await.is_err() {
            tracing::warn!(artifact = %lease.artifact(), id = %message.id(), %error, "an item is left to the next holder");
            return Ok(false);
        }
    }
}

fn told(message: &Message, lease: &Lease, attempts: u32, reason: &str) -> Message {
    let parts = message.parts();
    let why = Why { lease, attempts, reason, source: message.source() };
    let more = why.headers().map(|(name, value)| (name.into(), Bytes::from(value)));
    let headers = parts.headers.iter().cloned().chain(more).collect();
    let parts = Parts {
        id: MessageId::Text(message.id().into()),
        key: parts.key.clone(),
        headers,
        content_type: parts.content_type.clone(),
        body: parts.body.clone(),
        source: std::sync::Arc::clone(&parts.source),
        progress: None,
        native: None,
    };
    Message::new(parts, attempts)
}
