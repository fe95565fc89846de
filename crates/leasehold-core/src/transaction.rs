//! Transactions that survive being dropped: begin, commit and rollback each run on a task of their own.

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::lease::Lease;
use crate::store::StoreError;

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
        joined(begin).await?.map_err(|error| StoreError::database(backend, "begin", error).into())
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
            committed.map_err(|error| StoreError::database(backend, "commit", error).into())
        });
        joined(commit).await?
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
