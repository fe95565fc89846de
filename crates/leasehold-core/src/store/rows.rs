//! Rows as they come from either database: both name and type the columns alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{QueryResult, TryGetable};
use uuid::Uuid;

use super::error::{ErrorKind, StoreError};
use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::protocol::ids::{Incarnation, SessionId, Token};
use crate::protocol::placement::Placement;
use crate::protocol::request::{
    Answer, ClusterRow, Deployed, Deployment, DeploymentId, Desired, HeldRow, KeepOut, LeaseRow, NodeRow,
    Scope, View,
};

type Read<T> = Result<T, StoreError>;

const OPERATION: &str = "read";

pub(super) fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Read<T> {
    row.try_get("", column).map_err(|e| StoreError::corrupt(OPERATION, e))
}

/// A name that obeys the rule: others can only have been written by hand.
fn name<T: TryFrom<String>>(row: &QueryResult, column: &str) -> Read<T>
where
    T::Error: std::fmt::Display,
{
    T::try_from(get::<String>(row, column)?).map_err(|e| StoreError::corrupt(OPERATION, e))
}

fn optional_name<T: TryFrom<String>>(row: &QueryResult, column: &str) -> Read<Option<T>>
where
    T::Error: std::fmt::Display,
{
    let text: Option<String> = get(row, column)?;
    text.map(|t| T::try_from(t).map_err(|e| StoreError::corrupt(OPERATION, e))).transpose()
}

fn json<T: serde::de::DeserializeOwned>(row: &QueryResult, column: &str) -> Read<T> {
    serde_json::from_str(&get::<String>(row, column)?).map_err(|e| StoreError::corrupt(OPERATION, e))
}

fn placement(row: &QueryResult) -> Read<Placement> {
    Placement::stored(&get::<String>(row, "placement")?).map_err(|e| StoreError::corrupt(OPERATION, e))
}

fn session(row: &QueryResult, column: &str) -> Read<Option<SessionId>> {
    Ok(get::<Option<Uuid>>(row, column)?.map(SessionId))
}

fn millis(row: &QueryResult, column: &str) -> Read<Duration> {
    let ms: i64 = get(row, column)?;
    Ok(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

pub(super) fn matched(row: Option<&QueryResult>) -> Read<u64> {
    let row = row.ok_or_else(|| StoreError::corrupt(OPERATION, "a count without a row"))?;
    Ok(u64::try_from(get::<i64>(row, "matched")?).unwrap_or(0))
}

/// The answer to a command, whose numbers begin with 1.
pub(super) fn commanded(id: u64) -> Answer {
    Answer::Commanded(i64::try_from(id).ok().filter(|id| *id > 0))
}

/// The first row of an answer that always has one while the cluster's row exists.
pub(super) fn first<'a>(cluster: &ClusterName, rows: &'a [QueryResult]) -> Read<&'a QueryResult> {
    rows.first().ok_or_else(|| {
        StoreError::new(
            ErrorKind::Schema,
            OPERATION,
            format!("cluster {cluster} has no row in leasehold_cluster: it was deleted, or never opened"),
        )
    })
}

pub(super) fn live(row: &QueryResult) -> Read<Incarnation> {
    Ok(Incarnation::from(get::<String>(row, "live")?.as_str()))
}

pub(super) fn cluster(row: &QueryResult) -> Read<ClusterRow> {
    Ok(ClusterRow {
        revision: get(row, "revision")?,
        term: get(row, "term")?,
        leader: session(row, "leader")?,
        adopted: Incarnation::from(get::<String>(row, "incarnation")?.as_str()),
        epoch: get(row, "epoch")?,
        max_ttl: millis(row, "max_ttl_ms")?,
        min_program: get(row, "min_program")?,
        formed: get(row, "formed")?,
    })
}

/// The session of a row, if the join found one.
pub(super) fn node(row: &QueryResult) -> Read<Option<NodeRow>> {
    let Some(session) = session(row, "session")? else { return Ok(None) };
    Ok(Some(NodeRow {
        session,
        node: name::<NodeId>(row, "node_id")?,
        beat: get(row, "beat")?,
        pass: get(row, "pass")?,
        ttl: millis(row, "ttl_ms")?,
        draining: get(row, "draining")?,
        evicted: get(row, "evicted")?,
        deployment: DeploymentId(get(row, "deployment")?),
        labels: Arc::new(json(row, "labels")?),
    }))
}

pub(super) fn view(name: &ClusterName, rows: &[QueryResult], scope: Scope) -> Read<View> {
    let row = first(name, rows)?;
    let mut nodes = Vec::with_capacity(rows.len());
    for row in rows {
        nodes.extend(node(row)?);
    }
    Ok(View { cluster: cluster(row)?, live: live(row)?, wall_ms: get(row, "wall_ms")?, scope, nodes })
}

fn desired(row: &QueryResult) -> Read<Desired> {
    match get::<String>(row, "desired")?.as_str() {
        "active" => Ok(Desired::Active),
        "paused" => Ok(Desired::Paused),
        other => Err(StoreError::corrupt(OPERATION, format!("desired state {other:?}"))),
    }
}

pub(super) fn desired_text(desired: Desired) -> &'static str {
    match desired {
        Desired::Active => "active",
        Desired::Paused => "paused",
    }
}

/// Leases, from rows whose `artifact` is null if there is none.
pub(super) fn leases(rows: &[QueryResult]) -> Read<Vec<LeaseRow>> {
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(artifact) = optional_name::<ArtifactName>(row, "artifact")? else { continue };
        out.push(LeaseRow {
            artifact,
            holder: session(row, "holder")?,
            token: Token(get(row, "token")?),
            desired: desired(row)?,
            placement: placement(row)?,
            fingerprint: get(row, "fingerprint")?,
            preferred: optional_name(row, "preferred")?,
            target: session(row, "target")?,
        });
    }
    Ok(out)
}

pub(super) fn held(rows: &[QueryResult]) -> Read<Vec<HeldRow>> {
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(artifact) = optional_name::<ArtifactName>(row, "artifact")? else { continue };
        out.push(HeldRow {
            artifact,
            token: Token(get(row, "token")?),
            desired: desired(row)?,
            target: session(row, "target")?,
            command: get(row, "command")?,
        });
    }
    Ok(out)
}

/// Deployments, from rows in the order of their hashes.
pub(super) fn deployments(rows: &[QueryResult]) -> Read<Vec<Deployment>> {
    let mut found: BTreeMap<Uuid, BTreeMap<ArtifactName, Deployed>> = BTreeMap::new();
    for row in rows {
        let deployed = Deployed {
            kind: name(row, "kind")?,
            fingerprint: get(row, "fingerprint")?,
            placement: placement(row)?,
        };
        found.entry(get(row, "hash")?).or_default().insert(name(row, "artifact")?, deployed);
    }
    let deployment = |(id, artifacts)| Deployment { id: DeploymentId(id), artifacts: Arc::new(artifacts) };
    Ok(found.into_iter().map(deployment).collect())
}

pub(super) fn keep_outs(rows: &[QueryResult]) -> Read<Vec<KeepOut>> {
    rows.iter()
        .map(|row| {
            Ok(KeepOut {
                artifact: name(row, "artifact")?,
                session: SessionId(get(row, "session")?),
                failures: u32::try_from(get::<i64>(row, "failures")?).unwrap_or(u32::MAX),
                until_beat: get(row, "until_beat")?,
                error: get(row, "error")?,
            })
        })
        .collect()
}

/// The refusal of an artifact that is registered as something else.
pub(super) fn other_kind(row: &QueryResult) -> Read<StoreError> {
    let (artifact, stored, wanted): (String, String, String) =
        (get(row, "artifact")?, get(row, "stored")?, get(row, "wanted")?);
    Ok(StoreError::new(
        ErrorKind::Invalid,
        "register",
        format!(
            "artifact {artifact} is registered with kind {stored}, this node deploys it with kind {wanted}; give one of the two \
             another name, or forget {artifact} once no node deploys it as {stored}"
        ),
    ))
}
