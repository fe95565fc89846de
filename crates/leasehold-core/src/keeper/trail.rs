//! The audit trail: what happened on this node, written in batches beside the protocol.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::links::Lane;
use crate::clock::{Clock, Instant};
use crate::name::NodeId;
use crate::protocol::Action;
use crate::protocol::request::MAX_ROWS;
use crate::store::Link;
use crate::store::audit::{self, AuditEvent};

/// Audit events older than this are deleted: a quarter is long enough to explain a bad night, and to compare it.
const KEEP_EVENTS: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often the leader looks for old events.
const TRIM_EVERY: Duration = Duration::from_secs(3600);
/// How many events one statement deletes, so that none holds locks for long.
const TRIM_ROWS: u64 = 1_000;

/// What is worth telling later, until it is written.
pub(super) struct Trail {
    lane: Arc<Lane>,
    node: NodeId,
    clock: Arc<dyn Clock>,
    patience: Duration,
    records: Vec<AuditEvent>,
    recording: Option<JoinHandle<()>>,
    trimmed: Instant,
}

impl Trail {
    pub(super) fn new(lane: Arc<Lane>, node: NodeId, clock: Arc<dyn Clock>, patience: Duration) -> Self {
        let trimmed = clock.now();
        Self { lane, node, clock, patience, records: Vec::new(), recording: None, trimmed }
    }

    /// Keeps what is worth telling.
    pub(super) fn note(&mut self, action: &Action) {
        let (kind, artifact, token, detail) = match action {
            Action::Joined { session } => ("joined", None, None, session.to_string()),
            Action::Start { artifact, token } => ("started", Some(artifact), Some(*token), String::new()),
            Action::Revoke { artifact, token, why, .. } => {
                ("revoked", Some(artifact), Some(*token), why.to_string())
            }
            Action::Stop { artifact, token, why } => {
                ("stopped", Some(artifact), Some(*token), why.to_string())
            }
            Action::Record(record) => {
                (record.kind.as_str(), record.artifact.as_ref(), record.token, record.detail.clone())
            }
            _ => return,
        };
        self.records.push(AuditEvent {
            kind: kind.to_owned(),
            node: Some(self.node.clone()),
            artifact: artifact.cloned(),
            token,
            detail,
        });
    }

    /// Writes what was noted, one statement at a time. Losing one is allowed.
    pub(super) fn record(&mut self) {
        if self.records.is_empty() || self.recording.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let rest = self.records.split_off(self.records.len().min(MAX_ROWS));
        let events = std::mem::replace(&mut self.records, rest);
        let lane = Arc::clone(&self.lane);
        self.recording = Some(tokio::spawn(async move {
            let write = async |link: &Link| audit::record(link.connection(), &lane.cluster, &events).await;
            if let Err(error) = lane.run(write).await {
                tracing::debug!(%error, "audit events were lost");
            }
        }));
    }

    /// Deletes what the audit trail has kept long enough. Called by the leader's keeper, which alone does it now and
    /// then.
    pub(super) fn trim(&mut self) {
        let now = self.clock.now();
        if now.since(self.trimmed) < TRIM_EVERY {
            return;
        }
        self.trimmed = now;
        let lane = Arc::clone(&self.lane);
        tokio::spawn(async move {
            let trim = async |link: &Link| {
                while audit::trim(link.connection(), &lane.cluster, KEEP_EVENTS, TRIM_ROWS).await?
                    == TRIM_ROWS
                {}
                Ok(())
            };
            if let Err(error) = lane.run(trim).await {
                tracing::debug!(%error, "old audit events were not deleted");
            }
        });
    }

    /// Lets the last events go out before the keeper stops.
    pub(super) async fn flush(&mut self) {
        let patience = self.patience;
        let write = async {
            // What is being written, and what was noted meanwhile.
            while let Some(task) = self.recording.take() {
                // Its errors are logged where they happen.
                let _ = task.await;
                self.record();
            }
        };
        // An outage must not hold up the stop.
        let _ = tokio::time::timeout(patience, write).await;
    }
}
