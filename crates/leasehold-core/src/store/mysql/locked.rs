//! Who keeps a lease's row locked, as far as the server tells this user.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};

use super::{BACKEND, statement};
use crate::name::{ArtifactName, ClusterName};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::locked::{Locked, Transaction};
use crate::store::rows::get;

const OPERATION: &str = "look for locks";

/// As a grant asks: a row that is not returned would be skipped by one, too.
const PROBE: &str =
    "select 1 as free from leasehold_lease where cluster = ?1 and artifact = ?2 for update skip locked";

/// MariaDB lists no locks that nobody waits for: any transaction that has locked rows may be the one.
const MARIADB: &str = "select cast(t.trx_mysql_thread_id as signed) as backend, p.user as username, p.host as client, t.trx_state as state, \
     cast(timestampdiff(microsecond, t.trx_started, now(6)) / 1000 as signed) as ms from information_schema.innodb_trx t \
     left join information_schema.processlist p on p.id = t.trx_mysql_thread_id \
     where t.trx_rows_locked > 0 and t.trx_mysql_thread_id <> connection_id() order by t.trx_started";

/// A lock of the primary key shows as `'cluster', 'artifact'`.
const MYSQL: &str = "select distinct cast(t.trx_mysql_thread_id as signed) as backend, p.user as username, p.host as client, \
     t.trx_state as state, cast(timestampdiff(microsecond, t.trx_started, now(6)) / 1000 as signed) as ms \
     from performance_schema.data_locks d join information_schema.innodb_trx t on t.trx_id = d.engine_transaction_id \
     left join information_schema.processlist p on p.id = t.trx_mysql_thread_id \
     where d.object_schema = database() and d.object_name = 'leasehold_lease' and d.lock_type = 'RECORD' \
     and d.lock_status = 'GRANTED' and d.lock_data = concat('''', ?1, ''', ''', ?2, '''') \
     and t.trx_mysql_thread_id <> connection_id()";

const RIGHTS: &str = "grant it PROCESS, and on MySQL also SELECT on performance_schema.*";

/// Older servers know the first name, newer ones the second.
pub(super) async fn isolation(db: &DatabaseConnection) -> Result<Option<String>, StoreError> {
    let level = "show session variables where variable_name in ('tx_isolation', 'transaction_isolation')";
    let row = db.query_one_raw(statement(level, [])).await;
    let row = row.map_err(|e| StoreError::database(BACKEND, "read the isolation", e))?;
    row.map(|row| get(&row, "Value")).transpose()
}

/// Newer servers know the first form, older ones the second; both need a right. One that was promoted and applies nothing
/// any more has no seconds.
pub(super) async fn lag(db: &DatabaseConnection) -> Result<Option<Duration>, StoreError> {
    let mut found = db.query_one_raw(statement("show replica status", [])).await;
    if found.is_err() {
        found = db.query_one_raw(statement("show slave status", [])).await;
    }
    let row = match found.map_err(|e| StoreError::database(BACKEND, "read the replication's state", e)) {
        Err(error) if error.kind() == ErrorKind::Denied => return Ok(None),
        found => found?,
    };
    let behind = |row: QueryResult| {
        let seconds = ["Seconds_Behind_Source", "Seconds_Behind_Master"];
        seconds.into_iter().find_map(|column| row.try_get::<Option<u64>>("", column).ok().flatten())
    };
    Ok(row.and_then(behind).map(Duration::from_secs))
}

pub(super) async fn locked(
    db: &DatabaseConnection,
    cluster: &ClusterName,
    artifact: &ArtifactName,
) -> Result<Locked, StoreError> {
    let values = || [cluster.as_str().into(), artifact.as_str().into()];
    let failed = |e| StoreError::database(BACKEND, OPERATION, e);
    if db.query_one_raw(statement(PROBE, values())).await.map_err(failed)?.is_some() {
        return Ok(Locked::Free);
    }
    let version = db.query_one_raw(statement("select version() as version", [])).await.map_err(failed)?;
    let version = version.map(|row| get::<String>(&row, "version")).transpose()?.unwrap_or_default();
    let look = match version.to_ascii_lowercase().contains("mariadb") {
        true => statement(MARIADB, []),
        false => statement(MYSQL, values()),
    };
    // The error of a user who may not look.
    let Ok(rows) = db.query_all_raw(look).await else {
        return Ok(Locked::Unknown(RIGHTS));
    };
    let found: Vec<_> = rows.iter().map(read).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Ok(Locked::Unknown("it has ended meanwhile"));
    }
    Ok(Locked::By(found))
}

fn read(row: &QueryResult) -> Result<Transaction, StoreError> {
    let open_for: Option<i64> = get(row, "ms")?;
    Ok(Transaction {
        backend: get(row, "backend")?,
        user: get(row, "username")?,
        client: get(row, "client")?,
        state: get(row, "state")?,
        open_for: open_for.map(|ms| Duration::from_millis(ms.unsigned_abs())),
    })
}
