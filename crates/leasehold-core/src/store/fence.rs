//! The fence for users' transactions.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, RuntimeErr};

use super::dialect;
use super::error::{ErrorKind, StoreError, code_of};
use crate::name::{ArtifactName, ClusterName};
use crate::protocol::ids::{SessionId, Token};

/// Names one grant of one lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// The cluster.
    pub cluster: ClusterName,
    /// The artifact.
    pub artifact: ArtifactName,
    /// The token of the grant.
    pub token: Token,
    /// The session that holds it.
    pub session: SessionId,
}

/// Fences a transaction: after `Ok` it commits before any higher token is granted, or not at all.
///
/// Call it last before the commit, because until then the lease cannot move on. On PostgreSQL the server ends the
/// transaction if its client falls silent for `remaining`, the trust that is left; MariaDB and MySQL have no such limit
/// but the connection's own. On SQLite the transaction should have
/// begun IMMEDIATE: a deferred one that has read may fail here with [`ErrorKind::Conflict`].
///
/// # Errors
/// [`ErrorKind::Lost`] when the lease is not held with this token any more: roll back. Above READ COMMITTED, PostgreSQL's
/// serialization failures count as that, too.
/// [`ErrorKind::Elsewhere`] when leasehold's tables are not in this database.
pub async fn fence<C: ConnectionTrait>(
    txn: &C,
    key: &LeaseKey,
    remaining: Duration,
) -> Result<(), StoreError> {
    const OPERATION: &str = "fence";
    let backend = txn.get_database_backend();
    let statement = dialect::of(backend)?.fence(key, remaining);
    let error = |e| fenced_error(backend, OPERATION, key, e);
    // On SQLite the fence is an update, which returns no row.
    let held = match backend {
        DbBackend::Postgres | DbBackend::MySql => {
            txn.query_one_raw(statement).await.map_err(error)?.is_some()
        }
        _ => txn.execute_raw(statement).await.map_err(error)?.rows_affected() > 0,
    };
    if held { Ok(()) } else { Err(lost(OPERATION, key)) }
}

pub(super) fn lost(operation: &'static str, key: &LeaseKey) -> StoreError {
    StoreError::new(
        ErrorKind::Lost,
        operation,
        format!(
            "the lease of {} with token {} is no longer held; nothing was written",
            key.artifact, key.token
        ),
    )
}

/// What an error of a fencing statement means.
pub(super) fn fenced_error(
    backend: DbBackend,
    operation: &'static str,
    key: &LeaseKey,
    error: DbErr,
) -> StoreError {
    let code = match &error {
        DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e)) => {
            e.as_database_error().and_then(code_of)
        }
        _ => None,
    };
    if let (Some(code), Ok(dialect)) = (&code, dialect::of(backend))
        && dialect.is_lost(code)
    {
        return lost(operation, key);
    }
    elsewhere(StoreError::database(backend, operation, error))
}

/// Inside a user's transaction a missing table means that leasehold lives in another database.
pub(super) fn elsewhere(error: StoreError) -> StoreError {
    if error.kind() != ErrorKind::Schema {
        return error;
    }
    StoreError::new(
        ErrorKind::Elsewhere,
        error.operation(),
        format!(
            "the tables of leasehold are not in this database ({error}); a lease fences only transactions of the database \
             that holds it: point leasehold at that database, or pass the token to whatever is written to"
        ),
    )
}
