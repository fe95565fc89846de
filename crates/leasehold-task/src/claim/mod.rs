//! The record of firings: claimed before a handler runs, completed after it, each in one statement under the fence.

mod batch;
mod mysql;
mod postgres;
mod sqlite;

use std::sync::Arc;

use chrono::DateTime;
use leasehold_core::lease::Lease;
use leasehold_core::name::{ArtifactName, ClusterName};
use leasehold_core::protocol::action::Revocation;
use leasehold_core::store::{StoreError, statement};
use leasehold_core::{Error, LeaseLost};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, TryGetable, Value};

use self::batch::{Answer, BatchTexts, Batches, Row};
use crate::firing::Outcome;
use crate::history::Fired;

/// How many interrupted firings are read at once.
const UNFINISHED: i64 = 100;
/// How many old firings are deleted at once: short enough to hold up no claim.
pub(crate) const BATCH: usize = 500;

/// What a database understands. Parameters: 1 cluster, 2 artifact, 3 token, 4 session, then those told.
///
/// A fenced statement returns a row with `held` above 0 if it wrote. Without a row it is not known whether the lease is
/// lost or there was nothing to write: `held` tells, because a lease that is held now was held a moment ago.
struct Texts {
    /// 5 slot, 6 command, 7 ordinal, 8 node; `attempt` if claimed. An unfinished firing of an older token, or one that is
    /// to be tried again, is taken up as another attempt. One of the same token is the claim itself, whose answer was
    /// lost: sending it again is harmless. A command is taken away with its first claim.
    claim: &'static str,
    /// Where a claim returns no row: 5 slot, 6 command; `attempt`, if the claim is this token's and not completed.
    claimed: Option<&'static str>,
    /// Where a claim leaves the command: 1 cluster, 2 artifact, 3 command; takes one away whose firing there is.
    taken: Option<&'static str>,
    /// 5 slot, 6 ordinal, 7 node: notes that the slot did not fire.
    skip: &'static str,
    /// 5 slot, 6 command, 7 milliseconds since 1970, 8 error: it is tried again, not before.
    retry: &'static str,
    /// 5 slot, 6 command, 7 milliseconds since 1970, 8 outcome, 9 error.
    complete: &'static str,
    /// 5 command: takes it away without firing.
    refuse: &'static str,
    /// 5 slots before this one, 6 limit; a row for each that is gone.
    trim: &'static str,
    /// Where a deletion returns no row: those that it will delete; 1 cluster, 2 artifact, 3 slots before this one, 4 limit.
    old: Option<&'static str>,
    /// Whether the lease is held.
    held: &'static str,
    /// `slot`, `command` and `due` of firings that older tokens left unfinished; oldest first; 1 cluster, 2 artifact,
    /// 3 token, 4 limit.
    unfinished: &'static str,
    /// `slot`, `completed` and `ordinal` of the last claimed slot of the schedule; 1 cluster, 2 artifact.
    last: &'static str,
    /// `id` and `verb` of the oldest command; 1 cluster, 2 artifact.
    commands: &'static str,
    /// `node_id` of the session; 1 session.
    node: &'static str,
    /// The latest firings, the latest first; 1 cluster, 2 artifact, 3 limit.
    history: &'static str,
}

fn texts(backend: DbBackend, artifact: &ArtifactName) -> Result<&'static Texts, Error> {
    match backend {
        DbBackend::Postgres => Ok(&postgres::TEXTS),
        DbBackend::MySql => Ok(&mysql::TEXTS),
        DbBackend::Sqlite => Ok(&sqlite::TEXTS),
        other => {
            let problem = format!(
                "tasks have no statements for {}: use PostgreSQL, MariaDB, MySQL or SQLite",
                other.as_str()
            );
            Err(Error::artifact(artifact.as_str(), problem))
        }
    }
}

/// The statements over rows of many tasks; none where each row is written by itself.
fn batch_texts(backend: DbBackend) -> Option<&'static BatchTexts> {
    (backend == DbBackend::Postgres).then_some(&postgres::BATCH)
}

/// What identifies a firing of a task: a slot of its schedule, or a command and when it was taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) slot: i64,
    /// 0: the schedule asks for it.
    pub(crate) command: i64,
}

/// A firing that an earlier holder left unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) key: Key,
    /// It failed, and is to be tried again then; otherwise it was interrupted.
    pub(crate) due: Option<i64>,
}

/// The last claimed slot of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) slot: i64,
    pub(crate) completed: Option<i64>,
    /// How many slots had fired with it.
    pub(crate) fired: u64,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The slot is ours, for this attempt.
    Taken(u32),
    /// The slot was completed before.
    Done,
}

/// The record of one task's firings, as the holder of its lease reads and writes it.
#[derive(Clone)]
pub(crate) struct Record {
    lease: Lease,
    backend: DbBackend,
    texts: &'static Texts,
    node: String,
    batches: Arc<Batches>,
}

impl Record {
    /// # Errors
    /// A database that this crate has no statements for; errors of the database.
    pub(crate) async fn open(lease: Lease) -> Result<Self, Error> {
        let backend = lease.database().get_database_backend();
        let texts = texts(backend, lease.artifact())?;
        let batches = lease.session_wide();
        let mut record = Self { lease, backend, texts, node: String::new(), batches };
        let session = record.lease.key().session.0;
        let rows = record.query("read the node's id", texts.node, [session.into()]).await?;
        if let Some(row) = rows.first() {
            record.node = record.get(row, "node_id")?;
        }
        Ok(record)
    }

    /// Claims a firing, as the `ordinal`-th slot of the schedule: nobody else fires it until a newer token takes it over.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database, after which the outcome is unknown and the claim may be repeated.
    pub(crate) async fn claim(&self, key: Key, ordinal: u64) -> Result<Claim, Error> {
        let Key { slot, command } = key;
        // A command is taken away with its claim.
        if let (Some(texts), 0) = (batch_texts(self.backend), command) {
            let row = Row::claim(&self.lease, key, ordinal, &self.node);
            if let Answer::Held(attempt) = self.batches.claim(&self.lease, texts, row).await? {
                return Ok(claimed(attempt));
            }
        }
        let values = [slot.into(), command.into(), number(ordinal), self.node.as_str().into()];
        let mut rows = self.fenced("claim a slot", self.texts.claim, values).await?;
        if let Some(claimed) = self.texts.claimed {
            let values = self.fence().into_iter().chain([slot.into(), command.into()]);
            rows = self.query("claim a slot", claimed, values).await?;
        }
        if let (Some(taken), true) = (self.texts.taken, command != 0) {
            let values = self.artifact().into_iter().chain([command.into()]);
            self.query("take a command away", taken, values).await?;
        }
        let attempt: Option<i64> = match rows.first() {
            Some(row) => self.get(row, "attempt")?,
            None => None,
        };
        Ok(claimed(attempt))
    }

    /// Records that a slot of the schedule did not fire; `fired` have before it. May be repeated.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database.
    pub(crate) async fn skip(&self, slot: i64, fired: u64) -> Result<(), Error> {
        let values = [slot.into(), number(fired), self.node.as_str().into()];
        self.fenced("skip a slot", self.texts.skip, values).await.map(drop)
    }

    /// Records that an attempt failed and the next one is due at `due`. May be repeated.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database.
    pub(crate) async fn retry(&self, key: Key, due: i64, outcome: &Outcome) -> Result<(), Error> {
        let values = [key.slot.into(), key.command.into(), due.into(), outcome.error().into()];
        self.fenced("put a firing off", self.texts.retry, values).await.map(drop)
    }

    /// Records that a firing was completed at `at`. May be repeated.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database.
    pub(crate) async fn complete(&self, key: Key, at: i64, outcome: &Outcome) -> Result<(), Error> {
        if let Some(texts) = batch_texts(self.backend) {
            let row = Row::completion(&self.lease, key, at, outcome);
            if let Answer::Held(_) = self.batches.complete(&self.lease, texts, row).await? {
                return Ok(());
            }
        }
        let (slot, command) = (key.slot.into(), key.command.into());
        let values = [slot, command, at.into(), outcome.name().into(), outcome.error().into()];
        self.fenced("record a firing", self.texts.complete, values).await.map(drop)
    }

    /// Takes a command away that this task does not know. May be repeated.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database.
    pub(crate) async fn refuse(&self, command: i64) -> Result<(), Error> {
        self.fenced("refuse a command", self.texts.refuse, [command.into()]).await.map(drop)
    }

    /// Deletes at most [`BATCH`] completed firings of slots before `before`, never the last; tells how many.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database.
    pub(crate) async fn trim(&self, before: i64) -> Result<usize, Error> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        if let Some(old) = self.texts.old {
            let values = self.artifact().into_iter().chain([before.into(), limit.into()]);
            let old = self.query("look for old firings", old, values).await?;
            self.fenced("trim firings", self.texts.trim, [before.into(), limit.into()]).await?;
            return Ok(old.len());
        }
        Ok(self.fenced("trim firings", self.texts.trim, [before.into(), limit.into()]).await?.len())
    }

    /// The oldest firings that earlier holders left unfinished, some at a time.
    ///
    /// # Errors
    /// Errors of the database.
    pub(crate) async fn unfinished(&self) -> Result<Vec<Unfinished>, Error> {
        let values = self.artifact().into_iter().chain([self.lease.token().0.into(), UNFINISHED.into()]);
        let rows = self.query("read unfinished firings", self.texts.unfinished, values).await?;
        let read = |row: &QueryResult| {
            let key = Key { slot: self.get(row, "slot")?, command: self.get(row, "command")? };
            Ok(Unfinished { key, due: self.get(row, "due")? })
        };
        rows.iter().map(read).collect()
    }

    /// The last claimed slot of the schedule.
    ///
    /// # Errors
    /// Errors of the database.
    pub(crate) async fn last(&self) -> Result<Option<Last>, Error> {
        let rows = self.query("read the last firing", self.texts.last, self.artifact()).await?;
        let read = |row: &QueryResult| {
            let fired: i64 = self.get(row, "ordinal")?;
            let (slot, completed) = (self.get(row, "slot")?, self.get(row, "completed")?);
            Ok(Last { slot, completed, fired: fired.unsigned_abs() })
        };
        rows.first().map(read).transpose()
    }

    /// The oldest command that waits, with its verb.
    ///
    /// # Errors
    /// Errors of the database.
    pub(crate) async fn command(&self) -> Result<Option<(i64, String)>, Error> {
        let rows = self.query("read commands", self.texts.commands, self.artifact()).await?;
        rows.first().map(|row| Ok((self.get(row, "id")?, self.get(row, "verb")?))).transpose()
    }

    fn artifact(&self) -> [Value; 2] {
        let key = self.lease.key();
        [key.cluster.as_str().into(), key.artifact.as_str().into()]
    }

    /// The rows of a fenced statement.
    async fn fenced<const N: usize>(
        &self,
        operation: &'static str,
        text: &'static str,
        more: [Value; N],
    ) -> Result<Vec<QueryResult>, Error> {
        let rows = self.query(operation, text, self.fence().into_iter().chain(more)).await?;
        let held = match rows.first() {
            Some(row) => self.get::<i64>(row, "held")? > 0,
            None => !self.query("read the lease", self.texts.held, self.fence()).await?.is_empty(),
        };
        if held { Ok(rows) } else { Err(self.lost()) }
    }

    fn fence(&self) -> [Value; 4] {
        let key = self.lease.key();
        [key.cluster.as_str().into(), key.artifact.as_str().into(), key.token.0.into(), key.session.0.into()]
    }

    async fn query(
        &self,
        operation: &'static str,
        text: &'static str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, Error> {
        self.lease.query(operation, statement(self.backend, text, values)).await
    }

    fn get<T: TryGetable>(&self, row: &QueryResult, column: &'static str) -> Result<T, Error> {
        row.try_get("", column)
            .map_err(|error| StoreError::database(self.backend, "read a row", error).into())
    }

    fn lost(&self) -> Error {
        LeaseLost { artifact: self.lease.artifact().clone(), why: Some(Revocation::Lost) }.into()
    }
}

fn claimed(attempt: Option<i64>) -> Claim {
    attempt.map_or(Claim::Done, |attempt| Claim::Taken(u32::try_from(attempt).unwrap_or(u32::MAX)))
}

fn number(n: u64) -> Value {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}

/// What returns `slot`, `completed` and `ordinal` of the last claimed slot; 1 cluster, 2 artifact.
///
/// # Errors
/// A database that this crate has no statements for.
pub(crate) fn last_text(backend: DbBackend, artifact: &ArtifactName) -> Result<&'static str, Error> {
    Ok(texts(backend, artifact)?.last)
}

/// The latest firings, the latest first.
///
/// # Errors
/// Errors of the database; one that this crate has no statements for.
pub(crate) async fn history(
    db: &DatabaseConnection,
    cluster: &ClusterName,
    artifact: &ArtifactName,
    limit: u32,
) -> Result<Vec<Fired>, Error> {
    const OPERATION: &str = "read firings";
    let backend = db.get_database_backend();
    let values: [Value; 3] = [cluster.as_str().into(), artifact.as_str().into(), i64::from(limit).into()];
    let text = texts(backend, artifact)?.history;
    let error = |error| Error::from(StoreError::database(backend, OPERATION, error));
    let rows = db.query_all_raw(statement(backend, text, values)).await.map_err(error)?;
    let at = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap_or_default();
    let read = |row: &QueryResult| {
        let completed: Option<i64> = row.try_get("", "finished")?;
        Ok(Fired {
            slot: at(row.try_get("", "slot")?),
            command: row.try_get("", "command")?,
            attempts: row.try_get("", "attempt")?,
            node: row.try_get("", "node")?,
            outcome: row.try_get("", "outcome")?,
            error: row.try_get("", "error")?,
            begun: at(row.try_get("", "claimed")?),
            completed: completed.map(at),
        })
    };
    rows.iter().map(|row| read(row).map_err(error)).collect()
}
