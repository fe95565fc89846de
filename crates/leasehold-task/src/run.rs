//! A run of a task: from the grant of its lease to its end.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use leasehold_core::Error;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::lease::Lease;

use crate::claim::{BATCH, Claim, Record};
use crate::config::TaskConfig;
use crate::firing::{Firing, Outcome};
use crate::position;
use crate::retry::{until_revoked, while_valid};
use crate::schedule::{Progress, Step, millis};

/// However far the next slot is: the database's clock may be set, and a suspended machine's timers stand still.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Time between the deletions of old firings, in milliseconds.
const TRIM_EVERY: i64 = 3_600_000;
/// The first deletion of a run, in milliseconds after its start: taking over comes first.
const TRIM_AFTER: i64 = 60_000;

/// Fires what is due until the lease is revoked.
///
/// # Errors
/// The lease is lost, or the database fails for good.
pub(crate) async fn run<H, F>(config: &TaskConfig, handler: &H, lease: &Lease) -> Result<(), Error>
where
    H: Fn(Firing) -> F + Sync,
    F: Future<Output = Result<(), ArtifactError>> + Send,
{
    let ran = async {
        let mut run = Run::begin(config, handler, lease).await?;
        run.take_over().await?;
        run.go_on().await
    };
    match ran.await {
        // Whoever revoked it knows already; what is not done is the next holder's.
        Err(error) if lease.is_revoked() && (error.is_temporary() || matches!(error, Error::Lost(_))) => {
            Ok(())
        }
        done => done,
    }
}

struct Run<'a, H> {
    config: &'a TaskConfig,
    handler: &'a H,
    lease: &'a Lease,
    record: Record,
    progress: Progress,
    trim_at: i64,
}

impl<'a, H, F> Run<'a, H>
where
    H: Fn(Firing) -> F + Sync,
    F: Future<Output = Result<(), ArtifactError>> + Send,
{
    async fn begin(config: &'a TaskConfig, handler: &'a H, lease: &'a Lease) -> Result<Self, Error> {
        let record = until_revoked(lease, || Record::open(lease.clone())).await?;
        let anchor = until_revoked(lease, || position::anchor(lease, config.initial_delay)).await?;
        let last = until_revoked(lease, || record.last()).await?;
        let (last, completed) = last.map_or((None, None), |(slot, completed)| (Some(slot), completed));
        let progress = Progress { anchor, last, completed };
        let trim_at = now(lease).saturating_add(TRIM_AFTER);
        Ok(Self { config, handler, lease, record, progress, trim_at })
    }

    /// Fires again what earlier holders left unfinished, oldest first.
    async fn take_over(&mut self) -> Result<(), Error> {
        loop {
            let slots = until_revoked(self.lease, || self.record.unfinished()).await?;
            if slots.is_empty() {
                return Ok(());
            }
            for slot in slots {
                if self.lease.is_revoked() {
                    return Ok(());
                }
                self.fire(slot).await?;
            }
        }
    }

    async fn go_on(&mut self) -> Result<(), Error> {
        while !self.lease.is_revoked() {
            self.lease.check()?;
            let now = now(self.lease);
            match self.config.schedule.step(self.progress, self.config.misfire, self.config.threshold, now) {
                Step::Claim(slot) => self.fire(slot).await?,
                Step::Wait(slot) => {
                    let wait = Duration::from_millis(u64::try_from(slot.saturating_sub(now)).unwrap_or(0));
                    let sleep = tokio::time::sleep(wait.min(LONGEST_SLEEP));
                    if self.lease.unless_revoked(sleep).await.is_err() {
                        return Ok(());
                    }
                }
            }
            self.trim().await;
        }
        Ok(())
    }

    /// Claims a slot, calls the handler, records how it ended. Revocation does not stop it: the drain time does.
    async fn fire(&mut self, slot: i64) -> Result<(), Error> {
        let claim = until_revoked(self.lease, || self.record.claim(slot)).await?;
        self.progress.last = self.progress.last.max(Some(slot));
        let Claim::Taken(attempt) = claim else { return Ok(()) };
        // The claim may have waited. Unfinished, the slot is the next holder's.
        self.lease.check()?;
        let at = instant(self.lease, slot)?;
        let outcome = self.handle(Firing::new(at, attempt, self.lease.clone())).await;
        let completed = now(self.lease);
        match &outcome {
            Outcome::Succeeded => {
                tracing::debug!(artifact = %self.config.name, slot = %at, attempt, "firing succeeded")
            }
            Outcome::Failed(error) | Outcome::TimedOut(error) => {
                tracing::warn!(artifact = %self.config.name, slot = %at, attempt, error, "firing {}", outcome.name());
            }
        }
        while_valid(self.lease, || self.record.complete(slot, completed, &outcome)).await?;
        self.progress.completed = Some(completed);
        Ok(())
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
            Ok(Err(panic)) => Outcome::Failed(panic_text(panic.as_ref())),
            Err(timeout) => Outcome::TimedOut(format!("not done within {timeout:?}")),
        }
    }

    /// Deletes old firings now and then. What fails is tried again an hour later: history is not worth a run.
    async fn trim(&mut self) {
        let now = now(self.lease);
        if now < self.trim_at || self.lease.is_revoked() {
            return;
        }
        let gone = self.record.trim(now.saturating_sub(millis(self.config.keep))).await;
        if let Err(error) = &gone {
            tracing::warn!(artifact = %self.config.name, %error, "old firings could not be deleted");
        }
        if gone.is_ok_and(|gone| gone == BATCH) {
            return;
        }
        self.trim_at = now.saturating_add(TRIM_EVERY);
    }
}

fn now(lease: &Lease) -> i64 {
    lease.schedule_clock().now().timestamp_millis()
}

fn instant(lease: &Lease, slot: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_millis(slot).ok_or_else(|| {
        let problem = format!("slot {slot} ms is out of the calendar; correct its checkpoint \"schedule\"");
        Error::artifact(lease.artifact().as_str(), problem)
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with a value that is not text"))
}
