//! The audit trail: what happened, for people. Nothing reads it to decide.

use std::time::Duration;

use sea_orm::ConnectionTrait;

use super::dialect;
use super::error::StoreError;
use super::rows;
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

/// The latest events, the latest first.
///
/// # Errors
/// When the database does not answer.
pub async fn latest<C: ConnectionTrait>(
    db: &C,
    cluster: &ClusterName,
    limit: u64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let backend = db.get_database_backend();
    let statement = dialect::of(backend)?.latest_events(cluster, limit);
    let rows = db.query_all_raw(statement).await;
    let rows = rows.map_err(|e| StoreError::database(backend, "read events", e))?;
    rows.iter()
        .map(|row| {
            let event = AuditEvent {
                kind: rows::get(row, "kind")?,
                node: rows::get::<Option<String>>(row, "node")?.and_then(|n| NodeId::new(n).ok()),
                artifact: rows::get::<Option<String>>(row, "artifact")?
                    .and_then(|a| ArtifactName::new(a).ok()),
                token: rows::get::<Option<i64>>(row, "token")?.map(Token),
                detail: rows::get(row, "detail")?,
            };
            Ok(StoredEvent { id: rows::get(row, "id")?, at_ms: rows::get(row, "at_ms")?, event })
        })
        .collect()
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
