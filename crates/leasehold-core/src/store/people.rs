//! What people ask about a cluster and no node does: alike on every database but for the clock.

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Value};

use super::error::StoreError;
use super::{dialect, marker, rows, statement};
use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::protocol::Incarnation;
use crate::protocol::ids::SessionId;

/// What a session's row says besides what nodes read of it.
#[derive(Clone, Debug)]
pub(crate) struct SessionNote {
    pub(crate) session: SessionId,
    pub(crate) version: String,
    pub(crate) joined_ms: i64,
    /// None before its first renewal, and of programs that do not say.
    pub(crate) renewed_ms: Option<i64>,
}

/// What an artifact's row says besides.
#[derive(Clone, Debug)]
pub(crate) struct ArtifactNote {
    pub(crate) kind: String,
    pub(crate) changed_ms: i64,
}

/// A command that no holder has taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingCommand {
    /// Rises with every command.
    pub id: i64,
    /// What is to be done.
    pub verb: String,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, by the database's wall clock, milliseconds since 1970.
    pub at_ms: i64,
}

/// A node that an operator drained or evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exclusion {
    /// The node.
    pub node: NodeId,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, by the database's wall clock, milliseconds since 1970.
    pub at_ms: i64,
}

/// A checkpoint of an artifact: how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Position {
    /// Its name.
    pub name: String,
    /// The token that it was written under.
    pub token: i64,
    /// What its artifact wrote, as JSON.
    pub value: String,
    /// When, by the database's wall clock, milliseconds since 1970.
    pub at_ms: i64,
}

/// Rows of a text in which `{p}` stands before the number of a parameter and `{ms:column}` for a column of the clock.
async fn all<const N: usize>(
    db: &DatabaseConnection,
    operation: &'static str,
    text: &str,
    values: [Value; N],
) -> Result<Vec<QueryResult>, StoreError> {
    let backend = db.get_database_backend();
    let dialect = dialect::of(backend)?;
    let mut text = text.replace("{p}", &marker(backend).to_string());
    while let Some((before, rest)) = text.split_once("{ms:")
        && let Some((column, after)) = rest.split_once('}')
    {
        text = format!("{before}{}{after}", dialect.millis(column));
    }
    let found = db.query_all_raw(statement(backend, &text, values)).await;
    found.map_err(|e| StoreError::database(backend, operation, e))
}

/// The clusters of the database, by name.
pub(crate) async fn clusters(db: &DatabaseConnection) -> Result<Vec<String>, StoreError> {
    let rows = all(db, "list clusters", "select name from leasehold_cluster order by name", []).await?;
    rows.iter().map(|row| rows::get(row, "name")).collect()
}

pub(crate) async fn sessions(
    db: &DatabaseConnection,
    cluster: &ClusterName,
) -> Result<Vec<SessionNote>, StoreError> {
    let text = "select session, version, {ms:joined_at} as joined_ms, {ms:renewed_at} as renewed_ms from leasehold_node \
                where cluster = {p}1";
    let rows = all(db, "read sessions", text, [cluster.as_str().into()]).await?;
    let read = |row: &QueryResult| {
        Ok(SessionNote {
            session: SessionId(rows::get(row, "session")?),
            version: rows::get(row, "version")?,
            joined_ms: rows::get(row, "joined_ms")?,
            renewed_ms: rows::get(row, "renewed_ms")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn artifact(
    db: &DatabaseConnection,
    cluster: &ClusterName,
    artifact: &ArtifactName,
) -> Result<Option<ArtifactNote>, StoreError> {
    let text = "select kind, {ms:changed_at} as changed_ms from leasehold_artifact where cluster = {p}1 and name = {p}2";
    let rows = all(db, "read an artifact", text, [cluster.as_str().into(), artifact.as_str().into()]).await?;
    let read = |row: &QueryResult| {
        Ok(ArtifactNote { kind: rows::get(row, "kind")?, changed_ms: rows::get(row, "changed_ms")? })
    };
    rows.first().map(read).transpose()
}

/// How far an artifact is, by its checkpoints.
pub(crate) async fn positions(
    db: &DatabaseConnection,
    cluster: &ClusterName,
    artifact: &ArtifactName,
) -> Result<Vec<Position>, StoreError> {
    let key = dialect::of(db.get_database_backend())?.text("c.key");
    let text = format!(
        "select {key} as name, c.token as token, c.value as value, {{ms:c.updated_at}} as at_ms from leasehold_checkpoint c \
         where c.cluster = {{p}}1 and c.artifact = {{p}}2 order by c.key limit 100"
    );
    let rows =
        all(db, "read checkpoints", &text, [cluster.as_str().into(), artifact.as_str().into()]).await?;
    let read = |row: &QueryResult| {
        Ok(Position {
            name: rows::get(row, "name")?,
            token: rows::get(row, "token")?,
            value: rows::get(row, "value")?,
            at_ms: rows::get(row, "at_ms")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn exclusions(
    db: &DatabaseConnection,
    cluster: &ClusterName,
) -> Result<Vec<Exclusion>, StoreError> {
    let text = "select node_id, by_whom, reason, {ms:at} as at_ms from leasehold_exclusion where cluster = {p}1 order by node_id";
    let rows = all(db, "read exclusions", text, [cluster.as_str().into()]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        // One that breaks the rule for names can only have been written by hand.
        let Ok(node) = NodeId::new(rows::get::<String>(row, "node_id")?) else { continue };
        let (by, reason) = (rows::get(row, "by_whom")?, rows::get(row, "reason")?);
        found.push(Exclusion { node, by, reason, at_ms: rows::get(row, "at_ms")? });
    }
    Ok(found)
}

pub(crate) async fn commands(
    db: &DatabaseConnection,
    cluster: &ClusterName,
    artifact: &ArtifactName,
) -> Result<Vec<PendingCommand>, StoreError> {
    let text = "select id, verb, by_whom, reason, {ms:at} as at_ms from leasehold_command \
                where cluster = {p}1 and artifact = {p}2 order by id limit 100";
    let rows = all(db, "read commands", text, [cluster.as_str().into(), artifact.as_str().into()]).await?;
    let read = |row: &QueryResult| {
        Ok(PendingCommand {
            id: rows::get(row, "id")?,
            verb: rows::get(row, "verb")?,
            by: rows::get(row, "by_whom")?,
            reason: rows::get(row, "reason")?,
            at_ms: rows::get(row, "at_ms")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Sets the longest ttl of the cluster while no node lives and this incarnation is adopted; whether it did. One statement: a node
/// that joins at the same moment is ended by its own next view if its ttl is too long.
pub(crate) async fn set_max_ttl(
    db: &DatabaseConnection,
    cluster: &ClusterName,
    adopted: &Incarnation,
    ms: i64,
) -> Result<bool, StoreError> {
    let backend = db.get_database_backend();
    let p = marker(backend);
    let text = format!(
        "update leasehold_cluster set max_ttl_ms = {p}2, revision = revision + 1 where name = {p}1 \
         and incarnation = {p}3 and not exists (select 1 from leasehold_node n where n.cluster = {p}1)"
    );
    let done = db
        .execute_raw(statement(backend, &text, [cluster.as_str().into(), ms.into(), (*adopted.0).into()]))
        .await;
    Ok(done.map_err(|e| StoreError::database(backend, "set max_ttl", e))?.rows_affected() > 0)
}
