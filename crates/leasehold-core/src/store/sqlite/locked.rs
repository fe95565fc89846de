//! Whether somebody keeps the file's only write lock. There is no server that could tell who.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use super::BACKEND;
use crate::name::{ArtifactName, ClusterName};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::locked::Locked;

const OPERATION: &str = "look for locks";

/// Long enough that a commit which is under way is no finding.
pub(super) async fn locked(
    db: &DatabaseConnection,
    _: &ClusterName,
    _: &ArtifactName,
) -> Result<Locked, StoreError> {
    let failed = |e| StoreError::database(BACKEND, OPERATION, e);
    db.execute_unprepared("pragma busy_timeout = 500").await.map_err(failed)?;
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let found = match db.begin_with_options(options).await {
        Ok(txn) => txn.rollback().await.map(|()| Locked::Free).map_err(failed),
        Err(error) => match failed(error) {
            error if error.kind() == ErrorKind::Conflict => Ok(Locked::Unknown(
                "SQLite does not tell which process it is; fuser(1) on the file lists those that have it open",
            )),
            error => Err(error),
        },
    };
    db.execute_unprepared("pragma busy_timeout = 5000").await.map_err(failed)?;
    found
}
