//! The builder of a task, and the artifact that it makes.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use leasehold_core::Error;
use leasehold_core::artifact::{Artifact, ArtifactError};
use leasehold_core::lease::Lease;
use leasehold_core::name::{ArtifactKind, ArtifactName};
use leasehold_core::protocol::placement::Placement;
use uuid::Uuid;

use crate::config::TaskConfig;
use crate::firing::Firing;
use crate::run;
use crate::schedule::{Interruption, Misfire, Overlap, Retry, Schedule};

/// Describes a task; [`handler`](Task::handler) makes it an artifact. [`TaskConfig`] is the same from a file.
#[derive(Clone, Debug)]
pub struct Task {
    config: TaskConfig,
    kind: ArtifactKind,
}

impl Task {
    /// Fires each `period`, counted from the moment at which the task first ran in the cluster.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`. [`Error::Artifact`] when the period is below
    /// 10 ms, above 3650 days or not in whole milliseconds.
    pub fn fixed_rate(name: impl AsRef<str>, period: Duration) -> Result<Self, Error> {
        Self::new(name, Schedule::FixedRate(period))
    }

    /// Fires so long after the last firing was completed, whichever node completed it; the first time at once.
    ///
    /// # Errors
    /// As for [`fixed_rate`](Task::fixed_rate).
    pub fn fixed_delay(name: impl AsRef<str>, delay: Duration) -> Result<Self, Error> {
        Self::new(name, Schedule::FixedDelay(delay))
    }

    /// Fires when a cron expression of six fields says so, seconds first: `second minute hour day-of-month month
    /// day-of-week`. In UTC unless a [`zone`](Task::zone) is set. See [`Schedule::Cron`] for daylight saving.
    ///
    /// # Errors
    /// [`Error::Name`]. [`Error::Artifact`] for an expression that cannot be read or never fires.
    pub fn cron(name: impl AsRef<str>, expression: impl Into<String>) -> Result<Self, Error> {
        Self::new(name, Schedule::Cron(expression.into()))
    }

    /// Fires once, at this instant; later if no node ran then, as the misfire policy says.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn once(name: impl AsRef<str>, at: DateTime<Utc>) -> Result<Self, Error> {
        Self::new(name, Schedule::Once(at))
    }

    fn new(name: impl AsRef<str>, schedule: Schedule) -> Result<Self, Error> {
        Self::from_config(TaskConfig::new(ArtifactName::new(name)?, schedule))
    }

    /// A task that was read from a file.
    ///
    /// # Errors
    /// Those of [`TaskConfig::validate`].
    pub fn from_config(config: TaskConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self { config, kind: ArtifactKind::new("task")? })
    }

    /// The time zone in which a cron expression is read; UTC unless set.
    #[must_use]
    pub fn zone(mut self, zone: Tz) -> Self {
        self.config.zone = Some(zone);
        self
    }

    /// No slot is before this instant.
    #[must_use]
    pub fn starting(mut self, start: DateTime<Utc>) -> Self {
        self.config.start = Some(start);
        self
    }

    /// No slot is after this instant.
    #[must_use]
    pub fn ending(mut self, end: DateTime<Utc>) -> Self {
        self.config.end = Some(end);
        self
    }

    /// So many slots fire at most, whoever fires them.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.config.count = Some(count);
        self
    }

    /// Each slot fires up to so much later, always by the same amount.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.config.jitter = jitter;
        self
    }

    /// What happens to slots that come due while a firing is under way; [`Overlap::QueueOne`] unless set.
    #[must_use]
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.config.overlap = overlap;
        self
    }

    /// What happens to a firing that was interrupted; [`Interruption::Rerun`] with [`DEFAULT_RERUNS`](crate::schedule::DEFAULT_RERUNS) unless set.
    #[must_use]
    pub fn interruption(mut self, interruption: Interruption) -> Self {
        self.config.interruption = interruption;
        self
    }

    /// How often a firing is tried that fails or times out; once unless set. Attempts are counted in the database:
    /// failover does not start over.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.config.retry = retry;
        self
    }

    /// What happens to slots older than the threshold; [`Misfire::FireOnce`] unless set.
    #[must_use]
    pub fn misfire(mut self, misfire: Misfire) -> Self {
        self.config.misfire = misfire;
        self
    }

    /// How old a slot may be to be merely late, and fire; 10 s unless set. Twice the node's ttl fits.
    #[must_use]
    pub fn threshold(mut self, threshold: Duration) -> Self {
        self.config.threshold = threshold;
        self
    }

    /// How long after the task first ran in the cluster its first slot is; zero unless set. Later starts and failovers
    /// do not wait again.
    #[must_use]
    pub fn initial_delay(mut self, delay: Duration) -> Self {
        self.config.initial_delay = delay;
        self
    }

    /// How long a firing may take: then its handler is dropped at the await where it stands, and the slot is completed
    /// with the outcome `timed-out`. Without limit unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = Some(timeout);
        self
    }

    /// How long firings stay in the history after their slot; 7 days unless set. The last one always stays.
    #[must_use]
    pub fn keep(mut self, keep: Duration) -> Self {
        self.config.keep = keep;
        self
    }

    /// How the task is placed; as the node's other artifacts unless set.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.config.placement = Some(placement);
        self
    }

    /// The same as it is written in a file.
    pub fn config(&self) -> &TaskConfig {
        &self.config
    }

    /// The artifact that calls `handler` with each firing. What else was set is checked when the node starts.
    ///
    /// The handler's future is dropped at an await when the task's timeout or the drain time is over, or the trust of
    /// the session ends. An error, made by `?` from any error, or a panic is a failed attempt; the last one completes
    /// the slot with the outcome `failed`.
    #[must_use]
    pub fn handler<F, Fut>(self, handler: F) -> ScheduledTask<F>
    where
        F: Fn(Firing) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ArtifactError>> + Send + 'static,
    {
        ScheduledTask { config: self.config, kind: self.kind, handler }
    }
}

/// A task with its handler: an artifact of kind `task`.
pub struct ScheduledTask<F> {
    config: TaskConfig,
    kind: ArtifactKind,
    handler: F,
}

#[async_trait]
impl<F, Fut> Artifact for ScheduledTask<F>
where
    F: Fn(Firing) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), ArtifactError>> + Send + 'static,
{
    fn name(&self) -> &ArtifactName {
        &self.config.name
    }

    fn kind(&self) -> ArtifactKind {
        self.kind.clone()
    }

    fn placement(&self) -> Option<&Placement> {
        self.config.placement.as_ref()
    }

    fn fingerprint(&self) -> Uuid {
        self.config.fingerprint()
    }

    fn validate(&self) -> Result<(), Error> {
        self.config.validate()
    }

    async fn run(&self, lease: Lease) -> Result<(), ArtifactError> {
        Ok(run::run(&self.config, &self.handler, &lease).await?)
    }
}

impl<F> fmt::Debug for ScheduledTask<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScheduledTask").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_periods_are_checked_at_once_and_the_rest_at_start() {
        let minute = Duration::from_secs(60);
        assert!(matches!(Task::fixed_rate("Not a name", minute), Err(Error::Name(_))));
        assert!(matches!(Task::fixed_delay("a", Duration::ZERO), Err(Error::Artifact { .. })));
        let task =
            Task::fixed_rate("a", minute).unwrap().threshold(Duration::ZERO).handler(|_| async { Ok(()) });
        assert!(task.validate().unwrap_err().to_string().contains("threshold"));
        assert_eq!(task.kind().as_str(), "task");
    }

    #[test]
    fn builder_and_file_are_two_doors_to_one_thing() {
        let built = Task::fixed_delay("a", Duration::from_secs(60)).unwrap();
        let built =
            built.misfire(Misfire::Skip).timeout(Duration::from_secs(5)).placement(Placement::round_robin());
        let text = "name = 'a'\nschedule = { fixed-delay = '1m' }\nmisfire = 'skip'\ntimeout = '5s'\nplacement = { resolver = 'round-robin' }";
        let read: TaskConfig = toml::from_str(text).unwrap();
        assert_eq!(built.config(), &read);
        let (built, read) = (
            built.handler(|_| async { Ok(()) }),
            Task::from_config(read).unwrap().handler(|_| async { Ok(()) }),
        );
        assert_eq!(built.fingerprint(), read.fingerprint());
        assert_eq!(read.placement(), Some(&Placement::round_robin()));
    }
}
