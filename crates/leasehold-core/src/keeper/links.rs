//! The keeper's connections: one that is always there, others while calls overlap or overrun.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Input;
use crate::clock::{Clock, Instant};
use crate::name::{ClusterName, NodeId};
use crate::protocol::Action;
use crate::protocol::Call;
use crate::store::audit::{self, AuditEvent};
use crate::store::{Link, Target};

/// A second connection is closed when calls have not overlapped for so long.
const KEEP_SPARE: Duration = Duration::from_secs(10);

/// A call that has not ended after this long never will: its connection is a black hole. It is far beyond every
/// timeout of the protocol and of the server (`statement_timeout`), so nothing that still works is cut off.
const ABANDON: Duration = Duration::from_secs(60);

/// Audit events older than this are deleted: a quarter is long enough to explain a bad night, and to compare it.
const KEEP_EVENTS: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often the leader looks for old events.
const TRIM_EVERY: Duration = Duration::from_secs(3600);
/// How many events one statement deletes, so that none holds locks for long.
const TRIM_ROWS: u64 = 1_000;

type Idle = Arc<Mutex<Vec<(Link, Instant)>>>;

/// Makes calls, each on a connection of its own while it lasts.
pub(super) struct Links {
    target: Target,
    cluster: ClusterName,
    node: NodeId,
    clock: Arc<dyn Clock>,
    inputs: mpsc::UnboundedSender<Input>,
    idle: Idle,
    records: Vec<AuditEvent>,
    recording: Option<JoinHandle<()>>,
    trimmed: Instant,
}

impl Links {
    pub(super) fn new(
        target: Target,
        cluster: ClusterName,
        node: NodeId,
        clock: Arc<dyn Clock>,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> Self {
        let trimmed = clock.now();
        let (idle, records) = (Idle::default(), Vec::new());
        Self { target, cluster, node, clock, inputs, idle, records, recording: None, trimmed }
    }

    /// Makes a call on a task of its own. It is never dropped half-way: a call that the protocol gave up finishes by
    /// itself, and its answer is ignored there.
    pub(super) fn send(&self, call: Call) {
        let sent = self.clock.now();
        let Call { id, request } = call;
        let (inputs, cluster) = (self.inputs.clone(), self.cluster.clone());
        let (idle, target, clock) = (Arc::clone(&self.idle), self.target.clone(), Arc::clone(&self.clock));
        tokio::spawn(async move {
            let done =
                with_link(&idle, &target, &*clock, async |link| link.call(&cluster, &request).await).await;
            // The keeper may have stopped meanwhile.
            let _ = inputs.send(Input::Answer { id, sent, result: done.map_err(Into::into) });
        });
    }

    /// Keeps what is worth telling the audit trail.
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
        let events = std::mem::take(&mut self.records);
        let (idle, target, clock) = (Arc::clone(&self.idle), self.target.clone(), Arc::clone(&self.clock));
        let cluster = self.cluster.clone();
        self.recording = Some(tokio::spawn(async move {
            let write = async |link: &Link| audit::record(link.connection(), &cluster, &events).await;
            if let Err(error) = with_link(&idle, &target, &*clock, write).await {
                tracing::debug!(%error, "audit events were lost");
            }
        }));
    }

    /// Deletes what the audit trail has kept long enough. Called by the leader's keeper, now and then.
    pub(super) fn trim(&mut self) {
        let now = self.clock.now();
        if now.since(self.trimmed) < TRIM_EVERY {
            return;
        }
        self.trimmed = now;
        let (idle, target, clock) = (Arc::clone(&self.idle), self.target.clone(), Arc::clone(&self.clock));
        let cluster = self.cluster.clone();
        tokio::spawn(async move {
            let trim = async |link: &Link| {
                while audit::trim(link.connection(), &cluster, KEEP_EVENTS, TRIM_ROWS).await? == TRIM_ROWS {}
                Ok(())
            };
            if let Err(error) = with_link(&idle, &target, &*clock, trim).await {
                tracing::debug!(%error, "old audit events were not deleted");
            }
        });
    }

    /// Lets the last audit events go out before the keeper stops.
    pub(super) async fn flush(&mut self) {
        for _ in 0..2 {
            if let Some(task) = self.recording.take() {
                // Its errors are logged where they happen; an outage must not hold up the stop.
                let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
            }
            self.record();
        }
    }

    /// Listens for hints, where the database can give them; again and again while the keeper lives.
    #[cfg(feature = "postgres")]
    pub(super) fn listen(&self) {
        if self.target.backend() != sea_orm::DbBackend::Postgres {
            return;
        }
        let (target, cluster, inputs) = (self.target.clone(), self.cluster.clone(), self.inputs.clone());
        tokio::spawn(async move {
            loop {
                if let Ok(mut listener) = crate::store::Listener::open(&target, &cluster).await {
                    while listener.recv().await.is_ok() {
                        if inputs.send(Input::Notified).is_err() {
                            return;
                        }
                    }
                }
                // Without hints the node is slower by a watch, not wrong; there is no hurry.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    /// No database of this build gives hints.
    #[cfg(not(feature = "postgres"))]
    pub(super) fn listen(&self) {}
}

/// Runs `call` on an idle connection, or on a new one.
async fn with_link<T>(
    idle: &Idle,
    target: &Target,
    clock: &dyn Clock,
    call: impl AsyncFnOnce(&Link) -> Result<T, crate::store::StoreError>,
) -> Result<T, crate::store::StoreError> {
    let spare = lock(idle).pop();
    let link = match spare {
        Some((link, _)) => link,
        None => Link::open(target).await?,
    };
    let done = match target.backend() {
        // A batch of SQLite holds a transaction and waits for nothing but locks: it always ends.
        sea_orm::DbBackend::Sqlite => call(&link).await,
        // One autocommit statement, on a connection that is thrown away with it.
        _ => match tokio::time::timeout(ABANDON, call(&link)).await {
            Ok(done) => done,
            Err(_) => return Err(crate::store::StoreError::abandoned(ABANDON)),
        },
    };
    // After an error the connection may be in any state; a new one costs little.
    if done.is_ok() {
        let now = clock.now();
        let mut idle = lock(idle);
        idle.retain(|(_, used)| now.since(*used) < KEEP_SPARE);
        idle.push((link, now));
    }
    done
}

fn lock(idle: &Idle) -> std::sync::MutexGuard<'_, Vec<(Link, Instant)>> {
    // Nobody panics while holding it, and a list of connections has no invariant to break.
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
