//! Transactions that survive being dropped: begin, commit and rollback each run on a task of their own.

use std::time::Duration;

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::lease::Lease;
use crate::store::{ErrorKind, StoreError};

/// One of several connections may be dead though the others, and so the lease, live: a firewall forgot it, say. Nobody waits
/// for ever then. Far longer than any lock is waited for (5 s) and than a large page takes to arrive.
const ANSWER: Duration = Duration::from_secs(60);

/// An open transaction. Dropped, it rolls back on a task of its own.
pub(crate) struct Open {
    transaction: Option<DatabaseTransaction>,
    backend: DbBackend,
}

impl Open {
    /// Begins; IMMEDIATE on SQLite, so that the lock is taken now and a later write cannot find it busy.
    pub(crate) async fn begin(db: &DatabaseConnection) -> Result<Self, Error> {
        let (db, backend) = (db.clone(), db.get_database_backend());
        let begin = tokio::spawn(async move {
            let immediate = (backend == DbBackend::Sqlite).then_some(SqliteTransactionMode::Immediate);
            let options = TransactionOptions { sqlite_transaction_mode: immediate, ..Default::default() };
            // Wrapped here: if nobody waits any more, dropping the wrapper rolls back.
            let transaction = Some(db.begin_with_options(options).await?);
            Ok::<_, DbErr>(Self { transaction, backend })
        });
        answered("begin", begin).await?.map_err(|error| StoreError::database(backend, "begin", error).into())
    }

    pub(crate) fn transaction(&self) -> &DatabaseTransaction {
        match &self.transaction {
            Some(transaction) => transaction,
            // Only `commit_fenced`, which consumes `self`, and `drop` take it out.
            None => unreachable!("an open transaction"),
        }
    }

    /// Fences and commits.
    pub(crate) async fn commit_fenced(mut self, lease: Lease) -> Result<(), Error> {
        let backend = self.backend;
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        let commit = tokio::spawn(async move {
            if let Err(error) = lease.fence(&transaction).await {
                // The fence's answer is what counts; the server rolls back a connection that is lost, too.
                let _ = transaction.rollback().await;
                return Err(error);
            }
            let committed = transaction.commit().await;
            #[cfg(feature = "failpoints")]
            crate::failpoint::reached(crate::failpoint::Point::Committed);
            committed.map_err(|error| StoreError::database(backend, "commit", error).into())
        });
        answered("commit", commit).await?
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let (Some(transaction), Ok(runtime)) =
            (self.transaction.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(transaction.rollback());
        }
    }
}

/// Waits for a task that asks the database, which nobody aborts: after [`ANSWER`] it is left to itself, with an unknown outcome.
pub(crate) async fn answered<T>(operation: &'static str, task: JoinHandle<T>) -> Result<T, Error> {
    tokio::time::timeout(ANSWER, joined(task)).await.unwrap_or_else(|_| {
        let silent =
            format!("the database did not answer within {ANSWER:?}; its connection may lead nowhere");
        Err(StoreError::new(ErrorKind::Unreachable, operation, silent).into())
    })
}

/// Waits for a task that nobody aborts; its panic becomes this task's.
pub(crate) async fn joined<T>(task: JoinHandle<T>) -> Result<T, Error> {
    match task.await {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down.
            Err(_) => Err(Error::Left),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_leads_nowhere_is_not_waited_for_for_ever() {
        let silent = answered("read", tokio::spawn(std::future::pending::<()>())).await.unwrap_err();
        let Error::Store(error) = silent else { panic!("{silent}") };
        assert_eq!((error.kind(), error.is_temporary()), (ErrorKind::Unreachable, true));
        answered("read", tokio::spawn(async {})).await.unwrap();
    }
}
