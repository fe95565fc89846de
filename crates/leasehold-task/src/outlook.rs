//! What a task does next, as the database has it: for people.

use chrono::{DateTime, Utc};
use leasehold_core::Error;
use leasehold_core::name::{ArtifactName, ClusterName};
use leasehold_core::store::{StoreError, checkpoint, statement};
use sea_orm::{ConnectionTrait, DatabaseConnection, Value};

use crate::claim;
use crate::position::{KEY, Position};
use crate::timetable::{Progress, Step, Timetable};

/// What a task does next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// A slot is due, and its holder claims it.
    Due(DateTime<Utc>),
    /// The next slot fires then.
    At(DateTime<Utc>),
    /// Its schedule has no further slot.
    Over,
}

/// A task's schedule and where it stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outlook {
    /// The schedule, as it would be written in a file.
    pub schedule: String,
    /// The last slot that was claimed.
    pub last: Option<DateTime<Utc>>,
    /// What comes next, provided that somebody holds the task.
    pub next: Next,
}

/// What a task does next, at `now` of the database's wall clock. None for a task that nobody has run yet, for what is no
/// task, and for a schedule that only a newer program understands.
///
/// # Errors
/// Errors of the database; one that this crate has no statements for.
pub async fn outlook(
    db: &DatabaseConnection,
    cluster: &ClusterName,
    artifact: &ArtifactName,
    now: DateTime<Utc>,
) -> Result<Option<Outlook>, Error> {
    let Some(stored) = checkpoint::get(db, cluster, artifact, KEY).await? else { return Ok(None) };
    let Ok(position) = serde_json::from_str::<Position>(&stored.value) else { return Ok(None) };
    let Some(config) = position.config.as_deref() else { return Ok(None) };
    let backend = db.get_database_backend();
    let values: [Value; 2] = [cluster.as_str().into(), artifact.as_str().into()];
    let row = db.query_one_raw(statement(backend, claim::last_text(backend, artifact)?, values)).await;
    let failed = |error| Error::from(StoreError::database(backend, "read the last firing", error));
    let row = row.map_err(failed)?;
    let mut progress =
        Progress { anchor: position.anchor, last: None, completed: None, fired: 0, before: position.before };
    if let Some(row) = row {
        progress.last = row.try_get("", "slot").map_err(failed)?;
        progress.completed = row.try_get("", "completed").map_err(failed)?;
        progress.fired = row.try_get::<i64>("", "ordinal").map_err(failed)?.unsigned_abs();
    }
    let at = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap_or_default();
    let step =
        Timetable::new(config)?.step(progress, config.misfire, config.threshold, now.timestamp_millis());
    let next = match step {
        Step::Claim(slot) => Next::Due(at(slot)),
        Step::Wait(due) => Next::At(at(due)),
        Step::Over => Next::Over,
    };
    Ok(Some(Outlook { schedule: config.describe(), last: progress.last.map(at), next }))
}
