//! The record of firings: claimed before a handler runs, completed after it, each in one statement under the fence.

mod postgres;
mod sqlite;

use leasehold_core::lease::Lease;
use leasehold_core::protocol::action::Revocation;
use leasehold_core::store::StoreError;
use leasehold_core::{Error, LeaseLost};
use sea_orm::{DbBackend, QueryResult, Statement, TryGetable, Value};

use crate::firing::Outcome;

/// How many interrupted firings are read at once.
const UNFINISHED: i64 = 100;
/// How many old firings are deleted at once: short enough to hold up no claim.
pub(crate) const BATCH: usize = 500;

/// What a database understands. Parameters: 1 cluster, 2 artifact, 3 token, 4 session, then those told.
///
/// A fenced statement returns a row with `held` above 0 if it wrote. Without a row it is not known whether the lease is
/// lost or there was nothing to write: `held` tells, because a lease that is held now was held a moment ago.
struct Texts {
    /// 5 slot, 6 node; `attempt` if claimed. A slot with an unfinished firing of an older token is taken over. An
    /// unfinished firing of the same token is the claim itself, whose answer was lost: sending it again is harmless.
    claim: &'static str,
    /// 5 slot, 6 milliseconds since 1970, 7 outcome, 8 error.
    complete: &'static str,
    /// 5 slots before this one, 6 limit; a row for each that is gone.
    trim: &'static str,
    /// Whether the lease is held.
    held: &'static str,
    /// `slot` of firings that older tokens left unfinished; oldest first; 1 cluster, 2 artifact, 3 token, 4 limit.
    unfinished: &'static str,
    /// `slot` and `completed` of the last claimed slot; 1 cluster, 2 artifact.
    last: &'static str,
    /// `node_id` of the session; 1 session.
    node: &'static str,
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
}

impl Record {
    /// # Errors
    /// A database that this crate has no statements for; errors of the database.
    pub(crate) async fn open(lease: Lease) -> Result<Self, Error> {
        let backend = lease.database().get_database_backend();
        let texts = match backend {
            DbBackend::Postgres => &postgres::TEXTS,
            DbBackend::Sqlite => &sqlite::TEXTS,
            other => {
                let problem =
                    format!("tasks have no statements for {}: use PostgreSQL or SQLite", other.as_str());
                return Err(Error::artifact(lease.artifact().as_str(), problem));
            }
        };
        let mut record = Self { lease, backend, texts, node: String::new() };
        let session = record.lease.key().session.0;
        let rows = record.query("read the node's id", texts.node, [session.into()]).await?;
        if let Some(row) = rows.first() {
            record.node = record.get(row, "node_id")?;
        }
        Ok(record)
    }

    /// Claims a slot: nobody else fires it until a newer token takes it over.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database, after which the outcome is unknown and the claim may be repeated.
    pub(crate) async fn claim(&self, slot: i64) -> Result<Claim, Error> {
        let rows =
            self.fenced("claim a slot", self.texts.claim, [slot.into(), self.node.as_str().into()]).await?;
        let attempt: Option<i64> = match rows.first() {
            Some(row) => self.get(row, "attempt")?,
            None => None,
        };
        Ok(attempt.map_or(Claim::Done, |attempt| Claim::Taken(u32::try_from(attempt).unwrap_or(u32::MAX))))
    }

    /// Records that a slot was completed at `at`. May be repeated.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database.
    pub(crate) async fn complete(&self, slot: i64, at: i64, outcome: &Outcome) -> Result<(), Error> {
        let values = [slot.into(), at.into(), outcome.name().into(), outcome.error().into()];
        self.fenced("record a firing", self.texts.complete, values).await.map(drop)
    }

    /// Deletes at most [`BATCH`] completed firings of slots before `before`, never the last; tells how many.
    ///
    /// # Errors
    /// [`Error::Lost`]; errors of the database.
    pub(crate) async fn trim(&self, before: i64) -> Result<usize, Error> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        Ok(self.fenced("trim firings", self.texts.trim, [before.into(), limit.into()]).await?.len())
    }

    /// The oldest slots whose firings earlier holders left unfinished, some at a time.
    ///
    /// # Errors
    /// Errors of the database.
    pub(crate) async fn unfinished(&self) -> Result<Vec<i64>, Error> {
        let key = self.lease.key();
        let values = [
            key.cluster.as_str().into(),
            key.artifact.as_str().into(),
            key.token.0.into(),
            UNFINISHED.into(),
        ];
        let rows = self.query("read unfinished firings", self.texts.unfinished, values).await?;
        rows.iter().map(|row| self.get(row, "slot")).collect()
    }

    /// The last claimed slot, and when it was completed.
    ///
    /// # Errors
    /// Errors of the database.
    pub(crate) async fn last(&self) -> Result<Option<(i64, Option<i64>)>, Error> {
        let key = self.lease.key();
        let values = [key.cluster.as_str().into(), key.artifact.as_str().into()];
        let rows = self.query("read the last firing", self.texts.last, values).await?;
        rows.first().map(|row| Ok((self.get(row, "slot")?, self.get(row, "completed")?))).transpose()
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
        self.lease.query(operation, Statement::from_sql_and_values(self.backend, text, values)).await
    }

    fn get<T: TryGetable>(&self, row: &QueryResult, column: &'static str) -> Result<T, Error> {
        row.try_get("", column)
            .map_err(|error| StoreError::database(self.backend, "read a row", error).into())
    }

    fn lost(&self) -> Error {
        LeaseLost { artifact: self.lease.artifact().clone(), why: Some(Revocation::Lost) }.into()
    }
}
