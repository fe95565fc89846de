//! What has fired: for people, and for tests.

use chrono::{DateTime, TimeDelta, Utc};
use leasehold_core::Error;
use leasehold_core::name::{ArtifactName, ClusterName};
use sea_orm::DatabaseConnection;

use crate::claim;

/// A firing as the history has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fired {
    /// The scheduled instant; or, of a command, when it was taken up.
    pub slot: DateTime<Utc>,
    /// The command that asked for it; 0 if the schedule did.
    pub command: i64,
    /// How many attempts there were; 0 for a slot that was skipped.
    pub attempts: i64,
    /// The node of the last attempt.
    pub node: String,
    /// `succeeded`, `failed`, `timed-out`, `interrupted` or `skipped`; none while it is under way, or is to be tried again.
    pub outcome: Option<String>,
    /// What the last attempt that failed said.
    pub error: Option<String>,
    /// When the last attempt began, by the database's wall clock.
    pub begun: DateTime<Utc>,
    /// When it was completed.
    pub completed: Option<DateTime<Utc>>,
}

impl Fired {
    /// How long the last attempt took, if it is completed. To some milliseconds: one end is told by the database, the
    /// other by the node's copy of its clock.
    pub fn duration(&self) -> Option<TimeDelta> {
        Some((self.completed? - self.begun).max(TimeDelta::zero()))
    }
}

/// The latest firings of a task, the latest first.
///
/// # Errors
/// Errors of the database; one that this crate has no statements for.
pub async fn latest(
    db: &DatabaseConnection,
    cluster: &ClusterName,
    artifact: &ArtifactName,
    limit: u32,
) -> Result<Vec<Fired>, Error> {
    claim::history(db, cluster, artifact, limit).await
}
