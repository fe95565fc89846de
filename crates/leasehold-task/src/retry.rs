//! Patience with a database that is away for a moment.

use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::lease::Lease;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Calls `attempt` until it succeeds, fails for good, or the lease is not valid any more. Cancellation safe if the
/// future of `attempt` is.
///
/// # Errors
/// [`Error::Lost`], or the first error that time does not heal.
pub(crate) async fn while_valid<T, F>(lease: &Lease, attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    repeat(lease, attempt, || false).await
}

/// The same, for what is not worth the time of a drain: once the lease is revoked nothing is tried again.
///
/// # Errors
/// Those of [`while_valid`], and the last one that time would heal.
pub(crate) async fn until_revoked<T, F>(lease: &Lease, attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    repeat(lease, attempt, || lease.is_revoked()).await
}

async fn repeat<T, F>(
    lease: &Lease,
    mut attempt: impl FnMut() -> F,
    enough: impl Fn() -> bool,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        lease.check()?;
        match attempt().await {
            Err(error) if error.is_temporary() && !enough() => {
                tracing::warn!(artifact = %lease.artifact(), %error, "a call of a task failed; trying again in {pause:?}");
            }
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
