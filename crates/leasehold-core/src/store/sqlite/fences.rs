//! Statements that run inside users' transactions, or beside them. Whoever writes holds the only write lock, so a
//! condition in a writing statement is a fence.

use std::time::Duration;

use sea_orm::Statement;

use super::statement;
use crate::name::ClusterName;
use crate::store::audit::AuditEvent;
use crate::store::fence::LeaseKey;
use crate::store::json;

/// A write, so that the lock is taken now.
const FENCE: &str = "update leasehold_lease set token = token where cluster = ?1 and artifact = ?2 and token = ?3 \
     and holder = ?4";

const PUT: &str = "insert into leasehold_checkpoint (cluster, artifact, key, token, value) \
     select ?1, ?2, ?5, ?3, ?6 from leasehold_lease where cluster = ?1 and artifact = ?2 and token = ?3 and holder = ?4 \
     on conflict (cluster, artifact, key) do update set token = excluded.token, value = excluded.value, \
     updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') returning 1 as held";

const GET: &str =
    "select token, value from leasehold_checkpoint where cluster = ?1 and artifact = ?2 and key = ?3";

const RECORD: &str = "insert into leasehold_event (cluster, kind, node, artifact, token, detail) \
     select ?1, value ->> '$.k', value ->> '$.n', value ->> '$.a', value ->> '$.t', value ->> '$.d' from json_each(?2)";

const TRIM: &str = "delete from leasehold_event where id in (select id from leasehold_event where cluster = ?1 \
     and at < strftime('%Y-%m-%dT%H:%M:%fZ', unixepoch('subsec') - ?2 / 1000.0, 'unixepoch') order by at limit ?3)";

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
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    statement(TRIM, [cluster.as_str().into(), keep.into(), limit.into()])
}
