//! Progress of an artifact, kept with its lease: written only while the lease is held.

use sea_orm::{ConnectionTrait, DbBackend};

use super::dialect;
use super::error::StoreError;
use super::fence::{LeaseKey, elsewhere, fenced_error, lost};
use super::rows;
use crate::name::{ArtifactName, ClusterName};
use crate::protocol::ids::Token;

/// The longest name of a checkpoint, in bytes.
pub const MAX_NAME: usize = 200;

/// A stored checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// The token under which it was written.
    pub token: Token,
    /// What was written.
    pub value: String,
}

/// Writes a checkpoint, in one statement that holds the lease while it does: on a connection of its own it commits at
/// once, inside a transaction it fences that as [`fence`](super::fence) does.
///
/// # Errors
/// [`ErrorKind::Lost`](super::ErrorKind::Lost) when the lease is not held with this token any more: nothing was written.
pub async fn put<C: ConnectionTrait>(
    db: &C,
    key: &LeaseKey,
    name: &str,
    value: &str,
) -> Result<(), StoreError> {
    const OPERATION: &str = "checkpoint";
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(StoreError::new(
            super::ErrorKind::Invalid,
            OPERATION,
            format!("the checkpoint name of {} has {} bytes; use 1 to {MAX_NAME}", key.artifact, name.len()),
        ));
    }
    let backend = db.get_database_backend();
    let statement = dialect::of(backend)?.put_checkpoint(key, name, value);
    let error = |e| fenced_error(backend, OPERATION, key, e);
    let held = if backend == DbBackend::MySql {
        db.execute_raw(statement).await.map_err(error)?.rows_affected() > 0
    } else {
        let rows = db.query_all_raw(statement).await.map_err(error)?;
        let held = rows.first().map(|row| rows::get::<i64>(row, "held")).transpose()?;
        held.is_some_and(|held| held > 0)
    };
    if held { Ok(()) } else { Err(lost(OPERATION, key)) }
}

/// Reads a checkpoint. Needs no lease.
///
/// # Errors
/// When the database does not answer.
pub async fn get<C: ConnectionTrait>(
    db: &C,
    cluster: &ClusterName,
    artifact: &ArtifactName,
    name: &str,
) -> Result<Option<Checkpoint>, StoreError> {
    const OPERATION: &str = "read a checkpoint";
    let backend = db.get_database_backend();
    let statement = dialect::of(backend)?.get_checkpoint(cluster, artifact.as_str(), name);
    let row = db.query_one_raw(statement).await;
    let row = row.map_err(|e| elsewhere(StoreError::database(backend, OPERATION, e)))?;
    row.map(|row| {
        Ok(Checkpoint { token: Token(rows::get(&row, "token")?), value: rows::get(&row, "value")? })
    })
    .transpose()
}
