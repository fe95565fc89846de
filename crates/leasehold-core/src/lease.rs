//! The right of one session to run one artifact, as the user's code sees it.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, QueryResult, Statement};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Instant};
use crate::common::Common;
use crate::control::Control;
use crate::error::{Error, LeaseLost};
use crate::keeper::Reporter;
use crate::name::ArtifactName;
use crate::protocol::Token;
use crate::protocol::action::Revocation;
use crate::schedule_clock::ScheduleClock;
use crate::status::Condition;
use crate::store::audit::{self, AuditEvent};
use crate::store::{LeaseKey, StoreError, Target, checkpoint, commands, fence};
use crate::transaction;

/// That a run is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Why.
    pub why: Revocation,
    /// How long the run may go on finishing its work. The lease stays valid meanwhile; then the run is dropped.
    pub grace: Duration,
}

#[derive(Debug)]
struct Shared {
    key: LeaseKey,
    common: Arc<Common>,
    clock: Arc<dyn Clock>,
    schedule: ScheduleClock,
    work: DatabaseConnection,
    ended: AtomicBool,
    revoked: CancellationToken,
    revocation: OnceLock<(Revocation, Instant)>,
    command: watch::Sender<i64>,
    reporter: Reporter,
    ttl: Duration,
}

/// The right of one session to run one artifact. Clones are the same lease.
///
/// A lease is valid while its session is trusted and its run has not ended. At any instant at most one lease on an
/// artifact is valid in the whole cluster (promise G1), and no fenced write of a lease commits after a higher token
/// was granted (promise G2). Check [`is_valid`](Lease::is_valid) right before every effect, after every await that
/// precedes it; and fence what must never happen twice with [`transaction`](Lease::transaction).
#[derive(Clone)]
pub struct Lease(Arc<Shared>);

impl Lease {
    pub(crate) fn new(
        key: LeaseKey,
        common: Arc<Common>,
        clock: Arc<dyn Clock>,
        schedule: ScheduleClock,
        work: DatabaseConnection,
        reporter: Reporter,
        ttl: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            key,
            common,
            clock,
            schedule,
            work,
            ended: AtomicBool::new(false),
            revoked: CancellationToken::new(),
            revocation: OnceLock::new(),
            command: watch::Sender::new(0),
            reporter,
            ttl,
        }))
    }

    /// The artifact.
    pub fn artifact(&self) -> &ArtifactName {
        &self.0.key.artifact
    }

    /// The fencing token: higher than that of every lease on this artifact before. Send it along with effects on
    /// systems that can refuse an older one.
    pub fn token(&self) -> Token {
        self.0.key.token
    }

    /// What identifies the lease in the database, for fences of one's own.
    pub fn key(&self) -> &LeaseKey {
        &self.0.key
    }

    /// Whether the lease may be used now. Computed from the clock at each call.
    pub fn is_valid(&self) -> bool {
        !self.0.ended.load(Ordering::Acquire) && self.0.clock.now() < self.0.common.trust.until()
    }

    /// The same as an error, for `?`.
    ///
    /// # Errors
    /// [`LeaseLost`] when the lease is not valid.
    pub fn check(&self) -> Result<(), LeaseLost> {
        if self.is_valid() { Ok(()) } else { Err(self.lost()) }
    }

    fn lost(&self) -> LeaseLost {
        let why = self.0.revocation.get().map(|(why, _)| *why);
        let lapsed = (!self.0.ended.load(Ordering::Acquire)).then_some(Revocation::TrustLapsed);
        LeaseLost { artifact: self.artifact().clone(), why: why.or(lapsed) }
    }

    /// How long the lease stays valid if the session is never renewed again.
    pub fn remaining(&self) -> Duration {
        if self.0.ended.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        self.0.common.trust.until().since(self.0.clock.now())
    }

    /// How long the session lives in the eyes of others after a renewal: what takes about as long as a failover.
    pub fn ttl(&self) -> Duration {
        self.0.ttl
    }

    /// Resolves when the run is asked to end. Cancellation safe.
    pub async fn revoked(&self) -> Revoked {
        self.0.revoked.cancelled().await;
        let (why, deadline) =
            self.0.revocation.get().copied().unwrap_or((Revocation::SessionOver, Instant::ZERO));
        Revoked { why, grace: deadline.since(self.0.clock.now()) }
    }

    /// Whether the run was asked to end.
    pub fn is_revoked(&self) -> bool {
        self.0.revoked.is_cancelled()
    }

    /// Runs `future` until it is done, or until the run is asked to end.
    ///
    /// # Errors
    /// [`LeaseLost`] when the run was asked to end first; `future` is then dropped.
    pub async fn unless_revoked<T>(&self, future: impl Future<Output = T>) -> Result<T, LeaseLost> {
        tokio::select! {
            biased;
            () = self.0.revoked.cancelled() => Err(self.lost()),
            done = future => Ok(done),
        }
    }

    /// Runs `body` in a transaction that commits only while this lease is held: nobody gets a newer token before
    /// that commit. On SQLite the transaction is IMMEDIATE.
    ///
    /// Begin and commit each run on a task of their own, so that dropping this future leaves no connection of the
    /// pool in the middle of something; dropped before the commit began, nothing is committed, dropped later, the
    /// outcome is unknown.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost, before or after `body` ran; the transaction is rolled back. A
    /// [`StoreError`] of kind `Elsewhere` when `db` does not hold leasehold's tables.
    /// Errors of `body` and of the database.
    pub async fn transaction<T, E>(
        &self,
        db: &DatabaseConnection,
        body: impl AsyncFnOnce(&DatabaseTransaction) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.check().map_err(Error::from)?;
        let open = transaction::Open::begin(db).await?;
        // Begin may have waited: for the pool, for a lock.
        self.check().map_err(Error::from)?;
        let value = body(open.transaction()).await?;
        self.check().map_err(Error::from)?;
        open.commit_fenced(self.clone()).await?;
        Ok(value)
    }

    /// The fence alone, for transactions of one's own: the last statement before the commit. The transaction must
    /// have been begun on a connection that holds leasehold's tables; on SQLite IMMEDIATE.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost: roll back. Errors of the database.
    pub async fn fence(&self, txn: &DatabaseTransaction) -> Result<(), Error> {
        self.check()?;
        fence(txn, &self.0.key, self.remaining()).await.map_err(|error| self.explain(error))
    }

    /// Writes progress in a transaction: under `key`, fenced, committed with it or not at all. From here on the lease cannot
    /// move on until the transaction ends, so write it late: PostgreSQL ends a transaction that is silent for 10 s after it.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost. Errors of the database.
    pub async fn checkpoint(
        &self,
        txn: &DatabaseTransaction,
        key: &str,
        value: impl fmt::Display + Send,
    ) -> Result<(), Error> {
        self.check()?;
        checkpoint::put(txn, &self.0.key, key, &value.to_string()).await.map_err(|error| self.explain(error))
    }

    /// Writes progress by itself, in one fenced statement.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost. Errors of the database.
    pub async fn save(&self, key: &str, value: impl fmt::Display + Send) -> Result<(), Error> {
        self.check()?;
        let (work, lease, name) = (self.0.work.clone(), self.0.key.clone(), key.to_owned());
        let value = value.to_string();
        // On a task of its own: a statement that is dropped half-way would cost the pool a connection.
        let put = tokio::spawn(async move { checkpoint::put(&work, &lease, &name, &value).await });
        transaction::answered("save a checkpoint", put).await?.map_err(|error| self.explain(error))
    }

    /// Reads the progress that the last holder wrote under `key`.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn load(&self, key: &str) -> Result<Option<String>, Error> {
        let (work, lease, name) = (self.0.work.clone(), self.0.key.clone(), key.to_owned());
        let get =
            tokio::spawn(async move { checkpoint::get(&work, &lease.cluster, &lease.artifact, &name).await });
        Ok(transaction::answered("load a checkpoint", get).await??.map(|found| found.value))
    }

    /// Brings the id of the last command that waits for this artifact's holder, 0 while none does: a hint to look for
    /// them in the database.
    pub fn commands(&self) -> watch::Receiver<i64> {
        self.0.command.subscribe()
    }

    /// Takes the oldest command that waits for this artifact's holder away, fenced: its verb. What ends the run right after that
    /// has taken the command with it, so this is for what a new holder does anyhow, as polling at once.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost. Errors of the database.
    pub async fn take_command(&self) -> Result<Option<String>, Error> {
        let work = self.0.work.clone();
        let key = self.0.key.clone();
        self.transaction(&work, async |txn| Ok(commands::take(txn, &key).await?)).await
    }

    /// The clock of schedules: the database's wall clock, carried on the node's monotonic one.
    pub fn schedule_clock(&self) -> &ScheduleClock {
        &self.0.schedule
    }

    /// The node's own connection pool, for the tables of plugins.
    pub fn database(&self) -> &DatabaseConnection {
        &self.0.work
    }

    /// Runs one statement of a plugin on the node's own pool, and returns its rows. Whether it is fenced is up to its
    /// text: see [`key`](Lease::key).
    ///
    /// It runs on a task of its own: dropping this future costs the pool no connection, and the statement goes on by
    /// itself with an unknown outcome.
    ///
    /// # Errors
    /// [`Error::Store`], with `operation` in its text. When there is no answer within 60 s, with an unknown outcome.
    pub async fn query(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, Error> {
        let work = self.0.work.clone();
        let backend = work.get_database_backend();
        let query = tokio::spawn(async move { work.query_all_raw(statement).await });
        let rows = transaction::answered(operation, query).await?;
        rows.map_err(|error| StoreError::database(backend, operation, error).into())
    }

    /// The one value of this type that all leases of this session share; its default when it is first asked for. For
    /// what a plugin does for all of a node's artifacts together, such as writing their rows in one statement.
    pub fn session_wide<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.0.common.value()
    }

    /// Adds an entry to the audit trail. Losing one is allowed: what fails is logged.
    pub async fn record(&self, kind: &'static str, detail: impl Into<String>) {
        let key = self.0.key.clone();
        let work = self.0.work.clone();
        let event = AuditEvent {
            kind: kind.to_owned(),
            node: None,
            artifact: Some(key.artifact),
            token: Some(key.token),
            detail: detail.into(),
        };
        // On a task of its own: a statement that is dropped half-way would cost the pool a connection.
        let write = tokio::spawn(async move {
            if let Err(error) = audit::record(&work, &key.cluster, &[event]).await {
                tracing::warn!(%error, kind, "an audit event was lost");
            }
        });
        // The runtime shuts down.
        let _ = write.await;
    }

    /// Asks the cluster to pause this artifact, as [`Control::pause`] does: for what no other node can do better. Somebody
    /// resumes it. The run is revoked soon after.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost. Errors of the database.
    pub async fn pause_artifact(&self, reason: impl Into<String>) -> Result<(), Error> {
        self.check()?;
        let (work, key, reason) = (self.0.work.clone(), self.0.key.clone(), reason.into());
        // On a task of its own: what is half-way when this is dropped costs no connection.
        let pause = tokio::spawn(async move {
            let target = Target::from_connection(&work).await?;
            let control =
                Control::new(target, key.cluster).by(format!("{} itself", key.artifact)).reason(reason);
            control.pause(&key.artifact).await
        });
        transaction::answered("pause", pause).await?
    }

    /// Says how what this run works with is doing, for [`Node::status`](crate::node::Node::status). It is shown until it
    /// is replaced or the run has ended.
    pub fn report(&self, condition: Condition) {
        self.0.reporter.report(self.artifact(), self.token(), condition);
    }

    /// What a failed fence means for the user.
    pub(crate) fn explain(&self, error: StoreError) -> Error {
        match error.kind() {
            crate::store::ErrorKind::Lost => {
                LeaseLost { artifact: self.artifact().clone(), why: Some(Revocation::Lost) }.into()
            }
            _ => error.into(),
        }
    }

    pub(crate) fn command(&self, command: i64) {
        self.0.command.send_replace(command);
    }

    pub(crate) fn revoke(&self, why: Revocation, deadline: Instant) {
        // The first reason counts: a later one only ends what is ending already.
        let _ = self.0.revocation.set((why, deadline));
        self.0.revoked.cancel();
    }

    /// The run has ended; from now on the lease is not valid.
    pub(crate) fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.revoked.cancel();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("artifact", self.artifact())
            .field("token", &self.token())
            .field("valid", &self.is_valid())
            .finish_non_exhaustive()
    }
}
