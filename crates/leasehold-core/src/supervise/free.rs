//! Ends the sessions of a process that is dead.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::wire::Reach;
use crate::name::{ClusterName, NodeId};
use crate::protocol::SessionId;
use crate::protocol::request::{Answer, Request};
use crate::store::audit::{self, AuditEvent};
use crate::store::{Link, StoreError, Target};

/// As long as the default ttl: after that, others have found the session still.
const PATIENCE: Duration = Duration::from_secs(5);
/// One attempt: a connection that has been idle for weeks may lead nowhere.
const ATTEMPT: Duration = Duration::from_millis(1_000);
const PAUSE: Duration = Duration::from_millis(50);

/// What one node of a process has announced.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) warm: Warm,
    pub(super) cluster: ClusterName,
    pub(super) node: NodeId,
    pub(super) sessions: Vec<SessionId>,
}

/// A database that a child's node is about to join, and a connection that is open when it is needed.
#[derive(Debug)]
pub(super) struct Warm {
    database: Reach,
    link: JoinHandle<Option<Link>>,
}

impl Warm {
    pub(super) fn connect(database: Reach) -> Self {
        let reach = database.clone();
        let link = tokio::spawn(async move { Link::open(&Target::from_url(&reach.0).ok()?).await.ok() });
        Self { database, link }
    }
}

/// What became of a node's session.
#[derive(Debug)]
#[non_exhaustive]
pub struct Freed {
    /// Its cluster.
    pub cluster: ClusterName,
    /// The node.
    pub node: NodeId,
    /// Its last session.
    pub session: SessionId,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done about a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Its row is deleted, and the cluster is awake: its leases are free.
    Freed,
    /// It was over before: it had left politely, or never joined.
    Over,
    /// The database did not answer: the ttl applies.
    Failed(StoreError),
}

impl fmt::Display for Freed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, node, session, outcome } = self;
        match outcome {
            Outcome::Freed => {
                write!(f, "the leases of node {node} in cluster {cluster} are free (session {session})")
            }
            Outcome::Over => write!(f, "node {node} had left cluster {cluster}"),
            Outcome::Failed(error) => {
                write!(
                    f,
                    "node {node} of cluster {cluster} could not be taken out, so that its ttl applies: {error}"
                )
            }
        }
    }
}

/// Ends what was announced by a process that the kernel reports dead, all at once.
pub(super) async fn free(announced: Vec<Announced>, status: ExitStatus) -> Vec<Freed> {
    let mut all = JoinSet::new();
    for announced in announced {
        all.spawn(free_one(announced, status));
    }
    let mut freed: Vec<Freed> = all.join_all().await.into_iter().flatten().collect();
    freed.sort_by(|one, other| (&one.cluster, &one.node).cmp(&(&other.cluster, &other.node)));
    freed
}

async fn free_one(announced: Announced, status: ExitStatus) -> Option<Freed> {
    let Announced { warm, cluster, node, sessions } = announced;
    let session = *sessions.last()?;
    let done = delete(warm, &cluster, sessions, died(&node, session, status)).await;
    let outcome = match done {
        Ok(0) => Outcome::Over,
        Ok(_) => Outcome::Freed,
        Err(error) => Outcome::Failed(error),
    };
    Some(Freed { cluster, node, session, outcome })
}

fn died(node: &NodeId, session: SessionId, status: ExitStatus) -> AuditEvent {
    let how = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, code) => format!("exit status {}", code.unwrap_or_default()),
    };
    AuditEvent {
        kind: "died".to_owned(),
        node: Some(node.clone()),
        detail: format!("{session}: {how}, says its supervisor"),
        ..AuditEvent::default()
    }
}

/// Deletes the rows; how many there were. Attempts that overrun end by themselves, on tasks of their own.
async fn delete(
    warm: Warm,
    cluster: &ClusterName,
    sessions: Vec<SessionId>,
    event: AuditEvent,
) -> Result<u64, StoreError> {
    let end = Instant::now() + PATIENCE;
    let target = Target::from_url(&warm.database.0)?;
    // A connection that is still being made is not waited for longer than a new one.
    let link = timeout(ATTEMPT, warm.link).await.ok().and_then(Result::ok).flatten();
    let spare = Arc::new(Mutex::new(link));
    // An attempt whose answer did not come may have deleted them.
    let mut unknown = false;
    loop {
        let (target, cluster) = (target.clone(), cluster.clone());
        let request = Request::Leave { sessions: sessions.clone() };
        let (event, link) = (event.clone(), spare.lock().await.take());
        let attempt = tokio::spawn(async move {
            let link = match link {
                Some(link) => link,
                None => Link::open(&target).await?,
            };
            let matched = match link.call(&cluster, &request).await? {
                Answer::Matched(matched) => matched,
                _ => 0,
            };
            Ok((matched, link, cluster, event))
        });
        let error = match timeout(ATTEMPT, attempt).await {
            Ok(Ok(Ok((matched, link, cluster, event)))) => {
                if matched > 0 || unknown {
                    // What counts has happened; losing an event is allowed.
                    let _ = audit::record(link.connection(), &cluster, &[event]).await;
                }
                return Ok(if unknown { matched.max(1) } else { matched });
            }
            Ok(Ok(Err(error))) => error,
            _ => {
                unknown = true;
                StoreError::new(crate::store::ErrorKind::Unreachable, "free", "no answer in time")
            }
        };
        if Instant::now() >= end {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
