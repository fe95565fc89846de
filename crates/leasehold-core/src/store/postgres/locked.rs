//! Who keeps a lease's row locked, as far as the server tells this user.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::{BACKEND, statement};
use crate::name::{ArtifactName, ClusterName};
use crate::store::error::StoreError;
use crate::store::locked::{Locked, Transaction};
use crate::store::rows::get;

const OPERATION: &str = "look for locks";

/// As a grant asks: a row that is not returned would be skipped by one, too.
const PROBE: &str =
    "select 1 as free from leasehold_lease where cluster = $1 and artifact = $2 for update skip locked";

/// Row locks are in no view, but whoever holds one has locked the table in a mode of its own, and, if it is alone, its
/// transaction is the row's xmax. Without the role pg_read_all_stats the columns of other users' backends are null.
const TRANSACTIONS: &str = "select a.pid::bigint as backend, a.usename::text as username, a.client_addr::text as client, a.state, \
     floor(extract(epoch from clock_timestamp() - a.xact_start) * 1000)::bigint as ms, \
     exists (select 1 from pg_locks x join leasehold_lease l on x.transactionid = l.xmax where l.cluster = $1 \
     and l.artifact = $2 and x.pid = a.pid and x.locktype = 'transactionid' and x.granted) as sure \
     from pg_stat_activity a where a.pid <> pg_backend_pid() and exists (select 1 from pg_locks k where k.pid = a.pid \
     and k.locktype = 'relation' and k.relation = 'leasehold_lease'::regclass \
     and k.mode in ('RowShareLock', 'RowExclusiveLock') and k.granted) order by a.xact_start";

pub(super) async fn isolation(db: &DatabaseConnection) -> Result<Option<String>, StoreError> {
    let level = statement("select current_setting('transaction_isolation') as level", []);
    let row = db.query_one_raw(level).await;
    let row = row.map_err(|e| StoreError::database(BACKEND, "read the isolation", e))?;
    row.map(|row| get(&row, "level")).transpose()
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
    let rows = db.query_all_raw(statement(TRANSACTIONS, values())).await.map_err(failed)?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let open_for: Option<i64> = get(row, "ms")?;
        let transaction = Transaction {
            backend: get(row, "backend")?,
            user: get(row, "username")?,
            client: get(row, "client")?,
            state: get(row, "state")?,
            open_for: open_for.map(|ms| Duration::from_millis(ms.unsigned_abs())),
        };
        found.push((get::<bool>(row, "sure")?, transaction));
    }
    if found.iter().any(|(sure, _)| *sure) {
        found.retain(|(sure, _)| *sure);
    }
    if found.is_empty() {
        return Ok(Locked::Unknown(
            "it has ended meanwhile, or is a prepared transaction (pg_prepared_xacts)",
        ));
    }
    Ok(Locked::By(found.into_iter().map(|(_, transaction)| transaction).collect()))
}
