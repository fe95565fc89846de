//! One firing: its attempts, the pauses between them, and what is recorded of each.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use leasehold_core::Error;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::lease::Lease;
use leasehold_core::telemetry;
use tracing::Instrument;

use crate::claim::{Claim, Key, Record, Unfinished};
use crate::config::TaskConfig;
use crate::firing::{Firing, Outcome};
use crate::retry::{until_revoked, while_valid};

/// Executes firings of one run.
pub(crate) struct Executor<'a, H> {
    pub(crate) config: &'a TaskConfig,
    pub(crate) handler: &'a H,
    pub(crate) lease: &'a Lease,
    pub(crate) record: &'a Record,
}

/// How a firing begins here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// It is claimed for this attempt.
    Claimed(Key, u32),
    /// An earlier holder left it.
    Unfinished(Unfinished),
}

/// How a firing ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) key: Key,
    /// When; none if the run was asked to end before the next attempt, which is the next holder's.
    pub(crate) completed: Option<i64>,
}

impl<H, F> Executor<'_, H>
where
    H: Fn(Firing) -> F + Sync,
    F: Future<Output = Result<(), ArtifactError>> + Send,
{
    /// Now, by the database's wall clock, in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.lease.schedule_clock().now().timestamp_millis()
    }

    /// Makes an attempt that was claimed, or goes on with what an earlier holder left unfinished; and further attempts.
    pub(crate) async fn go(&self, begin: Begin) -> Result<Ended, Error> {
        let Unfinished { key, due } = match begin {
            Begin::Claimed(key, attempt) => return self.execute(key, attempt).await,
            Begin::Unfinished(left) => left,
        };
        if let Some(due) = due
            && !self.sleep_until(due).await
        {
            return Ok(Ended { key, completed: None });
        }
        let Claim::Taken(attempt) = until_revoked(self.lease, || self.record.claim(key, 0)).await? else {
            return Ok(Ended { key, completed: Some(self.now()) });
        };
        if due.is_none() && attempt > self.config.interruption.attempts(self.config.retry.attempts) {
            return self.give_up(key, attempt).await;
        }
        self.execute(key, attempt).await
    }

    /// Completes a firing that was claimed for attempt `attempt`, without making it.
    async fn give_up(&self, key: Key, attempt: u32) -> Result<Ended, Error> {
        let (artifact, slot) = (&self.config.name, self.instant(key.slot)?);
        let interrupted = attempt.saturating_sub(1);
        let outcome =
            Outcome::Interrupted(format!("attempt {interrupted} was interrupted; it does not fire again"));
        let now = self.now();
        while_valid(self.lease, || self.record.complete(key, now, &outcome)).await?;
        self.tell(slot, interrupted, &outcome, None);
        self.lease
            .record("gave-up", format!("slot {slot} of {artifact} after interrupted attempt {interrupted}"))
            .await;
        Ok(Ended { key, completed: Some(now) })
    }

    /// Calls the handler for a claimed firing, until it succeeds or has failed often enough, and records how it ended.
    /// Revocation does not stop it; only another attempt is not begun.
    async fn execute(&self, key: Key, mut attempt: u32) -> Result<Ended, Error> {
        let at = self.instant(key.slot)?;
        loop {
            // The claim may have waited. Unfinished, the firing is the next holder's.
            self.lease.check()?;
            if attempt == 1 && key.command == 0 {
                let late = u64::try_from(self.now().saturating_sub(key.slot)).unwrap_or(0);
                telemetry::lateness(self.lease, Duration::from_millis(late));
            }
            let firing = Firing::new(at, key.command, attempt, self.lease.clone());
            let artifact = &self.config.name;
            let span = tracing::info_span!("leasehold.firing", %artifact, slot = %at, attempt);
            let outcome = self.handle(firing).instrument(span).await;
            telemetry::firing(self.lease, outcome.name());
            let now = self.now();
            let again = self.config.retry.pause(attempt).filter(|_| outcome != Outcome::Succeeded);
            self.tell(at, attempt, &outcome, again);
            let Some(pause) = again else {
                while_valid(self.lease, || self.record.complete(key, now, &outcome)).await?;
                return Ok(Ended { key, completed: Some(now) });
            };
            let due = now.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
            while_valid(self.lease, || self.record.retry(key, due, &outcome)).await?;
            if !self.sleep_until(due).await {
                return Ok(Ended { key, completed: None });
            }
            let Claim::Taken(next) = until_revoked(self.lease, || self.record.claim(key, 0)).await? else {
                return Ok(Ended { key, completed: Some(self.now()) });
            };
            attempt = next;
        }
    }

    /// False if the run was asked to end before.
    async fn sleep_until(&self, due: i64) -> bool {
        let left = u64::try_from(due.saturating_sub(self.now())).unwrap_or(0);
        self.lease.unless_revoked(tokio::time::sleep(Duration::from_millis(left))).await.is_ok()
    }

    fn tell(&self, slot: DateTime<Utc>, attempt: u32, outcome: &Outcome, again: Option<Duration>) {
        let artifact = &self.config.name;
        match (outcome.error(), again) {
            (None, _) => tracing::debug!(%artifact, %slot, attempt, "firing {}", outcome.name()),
            (Some(error), None) => {
                tracing::warn!(%artifact, %slot, attempt, error, "firing {}", outcome.name());
            }
            (Some(error), Some(pause)) => {
                tracing::warn!(%artifact, %slot, attempt, error, ?pause, "firing {}; again", outcome.name());
            }
        }
    }

    async fn handle(&self, firing: Firing) -> Outcome {
        // The call is inside: it may panic before it returns a future.
        let handling = AssertUnwindSafe(async { (self.handler)(firing).await }).catch_unwind();
        let ended = match self.config.timeout {
            None => Ok(handling.await),
            Some(timeout) => tokio::time::timeout(timeout, handling).await.map_err(|_| timeout),
        };
        match ended {
            Ok(Ok(Ok(()))) => Outcome::Succeeded,
            Ok(Ok(Err(error))) => Outcome::Failed(error.to_string()),
            Ok(Err(panic)) => Outcome::Failed(leasehold_core::panic::text(panic.as_ref())),
            Err(timeout) => Outcome::TimedOut(format!("not done within {timeout:?}")),
        }
    }

    fn instant(&self, slot: i64) -> Result<DateTime<Utc>, Error> {
        DateTime::from_timestamp_millis(slot).ok_or_else(|| {
            let problem =
                format!("slot {slot} ms is out of the calendar; correct its checkpoint \"schedule\"");
            Error::artifact(self.config.name.as_str(), problem)
        })
    }
}
