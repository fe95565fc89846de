//! Statements that run inside users' transactions, or beside them. What fences is the lock on the lease's row, which is a
//! current read at any isolation level: a condition in a sub-select is not evaluated again after a wait.

use std::time::Duration;

use sea_orm::Statement;

use super::statement;
use crate::name::ClusterName;
use crate::store::audit::AuditEvent;
use crate::store::fence::LeaseKey;
use crate::store::json;

const FENCE: &str = "select 1 as held from leasehold_lease where cluster = ?1 and artifact = ?2 and token = ?3 \
                     and holder = ?4 lock in share mode";

const PUT: &str = "insert into leasehold_checkpoint (cluster, artifact, `key`, token, value) \
     select cluster, artifact, ?5, token, ?6 from leasehold_lease where cluster = ?1 and artifact = ?2 and token = ?3 \
     and holder = ?4 lock in share mode \
     on duplicate key update token = values(token), value = values(value), updated_at = current_timestamp(3)";

const GET: &str =
    "select token, value from leasehold_checkpoint where cluster = ?1 and artifact = ?2 and `key` = ?3";

const RECORD: &str = "insert into leasehold_event (cluster, kind, node, artifact, token, detail) \
     select ?1, w.k, w.n, w.a, w.t, coalesce(w.d, '') from json_table(?2, '$[*]' columns (k varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.k', \
     n varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.n', a varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.a', t bigint path '$.t', d varchar(4000) character set utf8mb4 collate utf8mb4_bin path '$.d')) w";

const TRIM: &str = "delete from leasehold_event where cluster = ?1 \
     and at < timestampadd(microsecond, -?2 * 1000, current_timestamp(3)) order by at limit ?3";

pub(super) fn fence(key: &LeaseKey) -> Statement {
    let (cluster, artifact) = (key.cluster.as_str(), key.artifact.as_str());
    statement(FENCE, [cluster.into(), artifact.into(), key.token.0.into(), key.session.0.into()])
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
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX / 1000);
    statement(TRIM, [cluster.as_str().into(), keep.into(), limit.into()])
}
