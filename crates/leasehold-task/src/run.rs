//! A run of a task: from the grant of its lease to its end.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use leasehold_core::Error;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::control::FIRE;
use leasehold_core::lease::Lease;

use crate::attempt::{Begin, Ended, Executor};
use crate::claim::{BATCH, Claim, Key, Record};
use crate::config::TaskConfig;
use crate::firing::Firing;
use crate::position::{self, Position};
use crate::retry::{until_revoked, while_valid};
use crate::schedule::Overlap;
use crate::timetable::{Progress, Step, Timetable, millis};

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
        let record = until_revoked(lease, || Record::open(lease.clone())).await?;
        let executor = Executor { config, handler, lease, record: &record };
        let Some((position, progress)) = begin(&executor).await? else { return Ok(()) };
        Run::new(&executor, Timetable::new(config)?, progress.from(&position), None).go_on().await.map(drop)
    };
    match ran.await {
        // Whoever revoked it knows already; what is not done is the next holder's.
        Err(error) if lease.is_revoked() && (error.is_temporary() || matches!(error, Error::Lost(_))) => {
            Ok(())
        }
        done => done,
    }
}

/// Where the schedule goes on. If it was another one before, what was due under that one fires first; none, if the run
/// was asked to end meanwhile.
async fn begin<H, F>(executor: &Executor<'_, H>) -> Result<Option<(Position, Progress)>, Error>
where
    H: Fn(Firing) -> F + Sync,
    F: Future<Output = Result<(), ArtifactError>> + Send,
{
    let Executor { config, lease, record, .. } = executor;
    let stored = until_revoked(lease, || position::load(lease)).await?;
    let last = until_revoked(lease, || record.last()).await?;
    let mut progress = Progress {
        anchor: 0,
        last: last.map(|last| last.slot),
        completed: last.and_then(|last| last.completed),
        fired: last.map_or(0, |last| last.fired),
        before: 0,
    };
    let position = match stored {
        None => Position::begin(config, executor.now()),
        Some(stored) => match stored.differs(config) {
            None if stored.config.is_some() => return Ok(Some((stored, progress))),
            None => Position { config: Some(Box::new((*config).clone())), ..stored },
            Some(before) => {
                let until = executor.now();
                // What has come fires now, although jitter would have put it off: nobody waits for it later on.
                let plain = TaskConfig { jitter: Duration::ZERO, ..before.clone() };
                // What cannot be read any more was written by a newer program: nothing is known to be due.
                if let Ok(timetable) = Timetable::new(&plain) {
                    let before = progress.from(&stored);
                    let Some(done) = Run::new(executor, timetable, before, Some(until)).go_on().await? else {
                        return Ok(None);
                    };
                    progress = done;
                }
                let (from, to) = (before.describe(), config.describe());
                let position = stored.change(config, progress.last, progress.fired, until);
                while_valid(lease, || position::save(lease, &position)).await?;
                tracing::info!(artifact = %config.name, from, to, "the schedule has changed");
                lease.record("rescheduled", format!("from {from} to {to}")).await;
                return Ok(Some((position, progress)));
            }
        },
    };
    until_revoked(lease, || position::save(lease, &position)).await?;
    Ok(Some((position, progress)))
}

impl Progress {
    fn from(self, position: &Position) -> Self {
        Self { anchor: position.anchor, before: position.before, ..self }
    }
}

/// What goes on under one timetable.
struct Run<'a, 'b, H> {
    executor: &'a Executor<'b, H>,
    timetable: Timetable,
    progress: Progress,
    /// Only what was due then fires.
    until: Option<i64>,
    /// What was due then is no overlap: nothing was under way.
    backlog: i64,
    /// When the next slot is due, for this progress.
    ahead: Option<(Progress, i64)>,
    trim_at: i64,
}

impl<'a, 'b, H, F> Run<'a, 'b, H>
where
    H: Fn(Firing) -> F + Sync,
    F: Future<Output = Result<(), ArtifactError>> + Send,
{
    fn new(
        executor: &'a Executor<'b, H>,
        timetable: Timetable,
        progress: Progress,
        until: Option<i64>,
    ) -> Self {
        let now = executor.now();
        let (backlog, trim_at) = (now, now.saturating_add(TRIM_AFTER));
        Self { executor, timetable, progress, until, backlog, ahead: None, trim_at }
    }

    fn now(&self) -> i64 {
        let now = self.executor.now();
        self.until.map_or(now, |until| now.min(until))
    }

    /// What to do at `now`. When a thousand tasks wake in one millisecond, the last of them waits for all searches of a
    /// calendar: what was found before the pause is not searched for again.
    fn step(&self, now: i64) -> Step {
        let (misfire, threshold) = (self.executor.config.misfire, self.executor.config.threshold);
        let ahead = self.ahead.filter(|(progress, due)| {
            *progress == self.progress && (0..millis(threshold)).contains(&(now - due))
        });
        match ahead.and_then(|(_, due)| self.timetable.slot_of(due)) {
            Some(slot) => Step::Claim(slot),
            None => self.timetable.step(self.progress, misfire, threshold, now),
        }
    }

    fn capacity(&self) -> usize {
        match self.executor.config.overlap {
            Overlap::Allow { limit } if !self.timetable.waits_for_completion() => {
                usize::try_from(limit).unwrap_or(usize::MAX)
            }
            _ => 1,
        }
    }

    /// Until the lease is revoked, which brings none, or until all that was to fire has fired.
    async fn go_on(mut self) -> Result<Option<Progress>, Error> {
        let executor = self.executor;
        let lease = executor.lease;
        let mut commands = lease.commands();
        let mut asked = *commands.borrow_and_update() > 0;
        let mut under_way = FuturesUnordered::new();
        let mut left = VecDeque::from(until_revoked(lease, || executor.record.unfinished()).await?);
        while !lease.is_revoked() {
            lease.check()?;
            let mut wait = LONGEST_SLEEP;
            if under_way.len() < self.capacity() {
                // What earlier holders left comes first, oldest first.
                if let Some(unfinished) = left.pop_front() {
                    under_way.push(executor.go(Begin::Unfinished(unfinished)));
                    continue;
                }
                if asked && self.until.is_none() {
                    match self.take_command().await? {
                        Some((key, attempt)) => under_way.push(executor.go(Begin::Claimed(key, attempt))),
                        None => asked = false,
                    }
                    continue;
                }
                let now = self.now();
                match self.step(now) {
                    Step::Claim(slot) => {
                        if under_way.is_empty() && slot > self.backlog {
                            self.backlog = now;
                        }
                        if let Some((key, attempt)) = self.claim(slot).await? {
                            under_way.push(executor.go(Begin::Claimed(key, attempt)));
                        }
                        continue;
                    }
                    Step::Wait(_) | Step::Over if self.until.is_some() && under_way.is_empty() => {
                        return Ok(Some(self.progress));
                    }
                    Step::Wait(due) => {
                        self.ahead = Some((self.progress, due));
                        let left = u64::try_from(due.saturating_sub(now)).unwrap_or(0);
                        wait = wait.min(Duration::from_millis(left));
                    }
                    Step::Over => {}
                }
            }
            tokio::select! {
                biased;
                Some(ended) = under_way.next() => {
                    let was_full = under_way.len() + 1 >= self.capacity();
                    self.ended(ended?, was_full).await?;
                }
                changed = commands.changed() => {
                    // The sender lives as long as the lease.
                    let _ = changed;
                    asked = *commands.borrow_and_update() > 0;
                }
                _ = lease.revoked() => {}
                () = tokio::time::sleep(wait) => {}
            }
            self.trim().await;
        }
        // Revocation does not stop what is under way: the drain time does.
        while let Some(ended) = under_way.next().await {
            ended?;
        }
        Ok(None)
    }

    async fn claim(&mut self, slot: i64) -> Result<Option<(Key, u32)>, Error> {
        let Executor { lease, record, .. } = self.executor;
        let (key, ordinal) = (Key { slot, command: 0 }, self.progress.fired + 1);
        let claim = until_revoked(lease, || record.claim(key, ordinal)).await?;
        self.progress.last = self.progress.last.max(Some(slot));
        let Claim::Taken(attempt) = claim else { return Ok(None) };
        self.progress.fired = ordinal;
        Ok(Some((key, attempt)))
    }

    /// The oldest command, claimed; none when no further one waits.
    async fn take_command(&self) -> Result<Option<(Key, u32)>, Error> {
        let Executor { lease, record, config, .. } = self.executor;
        loop {
            let Some((command, verb)) = until_revoked(lease, || record.command()).await? else {
                return Ok(None);
            };
            if verb != FIRE {
                tracing::warn!(artifact = %config.name, command, verb, "a task knows no such command; it is dropped");
                until_revoked(lease, || record.refuse(command)).await?;
                lease.record("refused", format!("command {command}: a task knows no verb {verb:?}")).await;
                continue;
            }
            let key = Key { slot: self.executor.now(), command };
            if let Claim::Taken(attempt) = until_revoked(lease, || record.claim(key, 0)).await? {
                return Ok(Some((key, attempt)));
            }
        }
    }

    /// Takes in the end of a firing, and applies the overlap policy to what came due meanwhile.
    async fn ended(&mut self, ended: Ended, was_full: bool) -> Result<(), Error> {
        let Some(completed) = ended.completed else { return Ok(()) };
        if ended.key.command == 0 && Some(ended.key.slot) == self.progress.last {
            self.progress.completed = Some(completed);
        }
        // What came due while there was room is about to be claimed.
        if !was_full {
            return Ok(());
        }
        let Some(latest) = self.timetable.latest(self.progress, self.now()) else { return Ok(()) };
        let first = self.timetable.next(self.progress).unwrap_or(latest);
        // What waited before the firing began goes first.
        if first <= self.backlog || self.timetable.waits_for_completion() {
            return Ok(());
        }
        match self.executor.config.overlap {
            Overlap::Queue => {}
            Overlap::QueueOne => self.progress.last = Some(latest - 1),
            Overlap::Skip | Overlap::Allow { .. } => {
                let Executor { lease, record, .. } = self.executor;
                let fired = self.progress.fired;
                while_valid(lease, || record.skip(latest, fired)).await?;
                self.progress.last = Some(latest);
            }
        }
        Ok(())
    }

    /// Deletes old firings now and then. What fails is tried again an hour later: history is not worth a run.
    async fn trim(&mut self) {
        let Executor { lease, record, config, .. } = self.executor;
        let now = self.executor.now();
        if now < self.trim_at || lease.is_revoked() {
            return;
        }
        let gone = record.trim(now.saturating_sub(millis(config.keep))).await;
        if let Err(error) = &gone {
            tracing::warn!(artifact = %config.name, %error, "old firings could not be deleted");
        }
        if gone.is_ok_and(|gone| gone == BATCH) {
            return;
        }
        self.trim_at = now.saturating_add(TRIM_EVERY);
    }
}
