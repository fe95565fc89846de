//! The audit trail: what happened, for people. Nothing reads it to decide.

use std::time::Duration;

use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::error::StoreError;
use super::{dialect, marker, rows, statement};
use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::protocol::ids::Token;

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AuditEvent {
    /// What happened: `join`, `grant`, `pause` and so on.
    pub kind: String,
    /// Whom it happened to.
    pub node: Option<NodeId>,
    /// What it happened to.
    pub artifact: Option<ArtifactName>,
    /// The token it happened under.
    pub token: Option<Token>,
    /// More about it.
    pub detail: String,
}

/// An event with what the database added.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredEvent {
    /// Rises with time.
    pub id: i64,
    /// The database's wall clock, milliseconds since 1970.
    pub at_ms: i64,
    /// The event.
    pub event: AuditEvent,
}

/// Adds events in one statement.
///
/// # Errors
/// When the database does not answer. Losing an event is allowed.
pub async fn record<C: ConnectionTrait>(
    db: &C,
    cluster: &ClusterName,
    events: &[AuditEvent],
) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let backend = db.get_database_backend();
    let statement = dialect::of(backend)?.insert_events(cluster, events);
    db.execute_raw(statement).await.map_err(|e| StoreError::database(backend, "record events", e))?;
    Ok(())
}

/// Which events to read; all of them by default.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// Of this artifact.
    pub artifact: Option<&'a ArtifactName>,
    /// Of this node.
    pub node: Option<&'a NodeId>,
    /// Of these kinds, if any is named.
    pub kinds: &'a [&'a str],
    /// Later than the one of this id: then the oldest first.
    pub after: Option<i64>,
    /// Earlier than the one of this id.
    pub before: Option<i64>,
}

/// The latest events, the latest first.
///
/// # Errors
/// When the database does not answer.
pub async fn latest<C: ConnectionTrait>(
    db: &C,
    cluster: &ClusterName,
    limit: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    find(db, cluster, &Query::default(), limit).await
}

/// At most `limit` events, the latest first, or the oldest first if they are asked for after one.
///
/// # Errors
/// When the database does not answer.
pub async fn find<C: ConnectionTrait>(
    db: &C,
    cluster: &ClusterName,
    query: &Query<'_>,
    limit: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let backend = db.get_database_backend();
    let (p, at) = (marker(backend), dialect::of(backend)?.millis("at"));
    let mut values: Vec<Value> = vec![cluster.as_str().into()];
    let mut wanted = format!("cluster = {p}1");
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        wanted.push_str(&format!(" and {condition} {p}{}", values.len()));
    };
    if let Some(artifact) = query.artifact {
        add("artifact =", artifact.as_str().into());
    }
    if let Some(node) = query.node {
        add("node =", node.as_str().into());
    }
    if let Some(after) = query.after {
        add("id >", after.into());
    }
    if let Some(before) = query.before {
        add("id <", before.into());
    }
    if !query.kinds.is_empty() {
        let first = values.len() + 1;
        values.extend(query.kinds.iter().map(|kind| Value::from(*kind)));
        let list: Vec<_> = (first..=values.len()).map(|n| format!("{p}{n}")).collect();
        wanted.push_str(&format!(" and kind in ({})", list.join(", ")));
    }
    values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let order = if query.after.is_some() { "" } else { " desc" };
    let sql = format!(
        "select id, {at} as at_ms, kind, node, artifact, token, detail from leasehold_event where {wanted} order by id{order} \
         limit {p}{}",
        values.len()
    );
    let rows = db.query_all_raw(statement(backend, &sql, values)).await;
    let rows = rows.map_err(|e| StoreError::database(backend, "read events", e))?;
    rows.iter().map(read).collect()
}

fn read(row: &QueryResult) -> Result<StoredEvent, StoreError> {
    let event = AuditEvent {
        kind: rows::get(row, "kind")?,
        node: rows::get::<Option<String>>(row, "node")?.and_then(|n| NodeId::new(n).ok()),
        artifact: rows::get::<Option<String>>(row, "artifact")?.and_then(|a| ArtifactName::new(a).ok()),
        token: rows::get::<Option<i64>>(row, "token")?.map(Token),
        detail: rows::get(row, "detail")?,
    };
    Ok(StoredEvent { id: rows::get(row, "id")?, at_ms: rows::get(row, "at_ms")?, event })
}

/// Deletes at most `limit` events older than `keep`, and tells how many: call it again while it deletes as many.
///
/// # Errors
/// When the database does not answer.
pub async fn trim<C: ConnectionTrait>(
    db: &C,
    cluster: &ClusterName,
    keep: Duration,
    limit: u64,
) -> Result<u64, StoreError> {
    let backend = db.get_database_backend();
    let statement = dialect::of(backend)?.trim_events(cluster, keep, limit);
    let done = db.execute_raw(statement).await;
    Ok(done.map_err(|e| StoreError::database(backend, "trim events", e))?.rows_affected())
}
