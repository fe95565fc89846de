//! Statements that run inside users' transactions, or beside them. What fences is the lock on the lease's row: a
//! condition in a sub-select is not evaluated again after a wait.

use std::time::Duration;

use sea_orm::Statement;

use super::statement;
use crate::name::ClusterName;
use crate::store::audit::AuditEvent;
use crate::store::fence::LeaseKey;
use crate::store::json;

/// The server ends the transaction of a client that falls silent: until then the lease cannot move on.
const FENCE: &str = "select set_config('idle_in_transaction_session_timeout', $5, true) from leasehold_lease \
     where cluster = $1 and artifact = $2 and token = $3 and holder = $4 for share";

/// It locks as the fence does, and earlier: a client that is stopped between this and its commit would keep the lease for ever.
const PUT: &str = "with f as (select set_config('idle_in_transaction_session_timeout', '10s', true) as silence \
     from leasehold_lease where cluster = $1 and artifact = $2 and token = $3 and holder = $4 for share), \
     i as (insert into leasehold_checkpoint (cluster, artifact, key, token, value) select $1, $2, $5, $3, $6 from f \
     on conflict (cluster, artifact, key) do update \
     set token = excluded.token, value = excluded.value, updated_at = now() returning 1) \
     select (select count(silence) from f) as held, (select count(*) from i) as written";

const GET: &str =
    "select token, value from leasehold_checkpoint where cluster = $1 and artifact = $2 and key = $3";

const RECORD: &str = "insert into leasehold_event (cluster, kind, node, artifact, token, detail) \
     select $1, w.k, w.n, w.a, w.t, w.d \
     from jsonb_to_recordset($2::jsonb) as w(k text, n text, a text, t bigint, d text)";

const TRIM: &str = "delete from leasehold_event where id in (select id from leasehold_event where cluster = $1 \
     and at < now() - $2 * interval '1 millisecond' order by at limit $3)";

pub(super) fn fence(key: &LeaseKey, remaining: Duration) -> Statement {
    // 0 would switch the timeout off; the setting is a 32-bit number.
    let ms = remaining.as_millis().clamp(1, i32::MAX as u128).to_string();
    let (cluster, artifact) = (key.cluster.as_str(), key.artifact.as_str());
    statement(FENCE, [cluster.into(), artifact.into(), key.token.0.into(), key.session.0.into(), ms.into()])
}

pub(super) fn put_checkpoint(key: &LeaseKey, name: &str, value: &str) -> Statement {
    let (cluster, artifact) = (key.cluster.as_str(), key.artifact.as_str());
    let (token, session) = (key.token.0.into(), key.session.0.into());
    statement(PUT, [cluster.into(), artifact.into(), token, session, name.into(), value.into()])
}

pub(super) fn get_checkpoint(cluster: &ClusterName, artifact: &str, name: &str) -> Statement {
    statement(GET, [cluster.as_str().into(), artifact.into(), name.into()])
}

pub(super) fn insert_events(cluster: &ClusterName, events: &[AuditEvent]) -> Statement {
    statement(RECORD, [cluster.as_str().into(), json::events(events).into()])
}

pub(super) fn trim_events(cluster: &ClusterName, keep: Duration, limit: u64) -> Statement {
    let (keep, limit) = (i64::try_from(keep.as_millis()), i64::try_from(limit));
    let values = [keep.unwrap_or(i64::MAX).into(), limit.unwrap_or(i64::MAX).into()];
    let [keep, limit] = values;
    statement(TRIM, [cluster.as_str().into(), keep, limit])
}
