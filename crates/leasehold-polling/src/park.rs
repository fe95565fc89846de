//! Where items go that could not be handled: to a handler that keeps them.

use std::time::Duration;

use leasehold_core::LeaseLost;
use leasehold_core::backoff::Backoff;
use leasehold_core::bytes::Bytes;
use leasehold_core::handler::SharedHandler;
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, MessageId, Parts};
use leasehold_core::status::Condition;

/// What the handler said, in the headers of what is parked.
pub const REASON: &str = "x-leasehold-reason";
/// How often it was handed over.
pub const ATTEMPTS: &str = "x-leasehold-attempts";
/// Where it was found.
pub const SOURCE: &str = "x-leasehold-source";
/// The artifact that found it.
pub const ARTIFACT: &str = "x-leasehold-artifact";

/// The longest reason that is sent along, in bytes: a header is no place for a stack trace.
const MAX_REASON: usize = 2_000;
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
    let header = |name: &str, value: String| (name.into(), Bytes::from(value));
    let mut headers = parts.headers.clone();
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    headers.extend([
        header(REASON, reason.to_owned()),
        header(ATTEMPTS, attempts.to_string()),
        header(SOURCE, message.source().to_owned()),
        header(ARTIFACT, lease.artifact().to_string()),
    ]);
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
