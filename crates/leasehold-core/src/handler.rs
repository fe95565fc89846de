//! What is done with a message.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Chain;
use crate::lease::Lease;
use crate::message::Message;

/// Handles messages, one call each. Async functions `Fn(Message, Lease)` are handlers.
///
/// A message is acknowledged after `Ok`, and not before. The future is dropped at an await when the drain time is over or
/// the trust of the session ends; the message then comes again, to whoever holds the lease. A panic is a failure like
/// [`HandlerError::retry`].
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles a message under a lease: check the lease right before an effect, or fence it by
    /// [`Lease::transaction`].
    ///
    /// # Errors
    /// What became of it: see [`HandlerError`].
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError>;
}

/// A handler that any thread may call.
pub type SharedHandler = Arc<dyn Handler>;

#[async_trait]
impl<F, Fut> Handler for F
where
    F: Fn(Message, Lease) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        self(message, lease).await
    }
}

/// What handlers are composed with.
pub trait HandlerExt: Handler + Sized {
    /// This handler, and after its success `next` with the same message. A retry begins with the first again.
    fn then<H: Handler>(self, next: H) -> Then<Self, H> {
        Then { first: self, next }
    }
}

impl<H: Handler> HandlerExt for H {}

/// One handler after the other. See [`HandlerExt::then`].
#[derive(Clone, Copy, Debug)]
pub struct Then<A, B> {
    first: A,
    next: B,
}

#[async_trait]
impl<A: Handler, B: Handler> Handler for Then<A, B> {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        self.first.handle(message.clone(), lease.clone()).await?;
        lease.check()?;
        self.next.handle(message, lease).await
    }
}

/// Logs that a message came, at level `info`: id, source, attempt and size, nothing of what it holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

#[async_trait]
impl Handler for Log {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        tracing::info!(
            artifact = %lease.artifact(),
            token = %lease.token(),
            id = %message.id(),
            source = message.source(),
            attempt = message.attempt(),
            bytes = message.body().map_or(0, bytes::Bytes::len),
            "message"
        );
        Ok(())
    }
}

/// What shall become of a message that could not be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Another attempt, as the endpoint's policy says; not before this delay, if one is given.
    Retry(Option<Duration>),
    /// Another attempt, not before this delay, and this one does not count: nothing can be handled at present, and that is
    /// not this message's fault.
    Unavailable(Option<Duration>),
    /// No further attempt can help: it goes where the policy puts what has failed for good.
    Reject,
    /// Nothing can be handled any more: the endpoint is paused until somebody resumes it, and the message stays where it is.
    Fatal,
}

/// Why a message could not be handled, and what shall become of it. Made by `?` from any error, which asks for a retry;
/// so it is not itself an [`std::error::Error`].
pub struct HandlerError {
    failure: Failure,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl HandlerError {
    /// Asks for another attempt, as `?` does.
    pub fn retry(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { failure: Failure::Retry(None), error: error.into() }
    }

    /// Asks for another attempt, not before `delay`: what another system told us, for example.
    pub fn retry_after(delay: Duration, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { failure: Failure::Retry(Some(delay)), error: error.into() }
    }

    /// Nothing can be handled at present, whichever message it is: this attempt does not count.
    pub fn unavailable(delay: Duration, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { failure: Failure::Unavailable(Some(delay)), error: error.into() }
    }

    /// No further attempt can help.
    pub fn reject(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { failure: Failure::Reject, error: error.into() }
    }

    /// Nothing can be handled any more.
    pub fn fatal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { failure: Failure::Fatal, error: error.into() }
    }

    /// What shall become of the message.
    pub fn failure(&self) -> Failure {
        self.failure
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Chain(&*self.error), f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError").field("failure", &self.failure).field("error", &self.error).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_asks_for_a_retry() {
        let failed = || -> Result<(), HandlerError> { Ok(Err(std::fmt::Error)?) };
        assert_eq!(failed().unwrap_err().failure(), Failure::Retry(None));
        let later = HandlerError::retry_after(Duration::from_secs(1), "busy");
        assert_eq!(later.failure(), Failure::Retry(Some(Duration::from_secs(1))));
        assert_eq!(HandlerError::reject("no JSON").to_string(), "no JSON");
    }
}
