//! Commands that wait for an artifact's holder, taken away one by one.

use sea_orm::{ConnectionTrait, DatabaseTransaction, Value};

use super::error::StoreError;
use super::fence::LeaseKey;
use super::{marker, rows, statement};

/// Deletes the oldest command of this artifact in `txn`, which is to be fenced: its verb.
pub(crate) async fn take(txn: &DatabaseTransaction, key: &LeaseKey) -> Result<Option<String>, StoreError> {
    const OPERATION: &str = "take a command";
    let backend = txn.get_database_backend();
    let p = marker(backend);
    let failed = |error| StoreError::database(backend, OPERATION, error);
    let oldest = format!(
        "select id, verb from leasehold_command where cluster = {p}1 and artifact = {p}2 order by id limit 1"
    );
    let scope: [Value; 2] = [key.cluster.as_str().into(), key.artifact.as_str().into()];
    let Some(row) = txn.query_one_raw(statement(backend, &oldest, scope)).await.map_err(failed)? else {
        return Ok(None);
    };
    let (id, verb) = (rows::get::<i64>(&row, "id")?, rows::get(&row, "verb")?);
    let delete = format!("delete from leasehold_command where id = {p}1");
    txn.execute_raw(statement(backend, &delete, [id.into()])).await.map_err(failed)?;
    Ok(Some(verb))
}
