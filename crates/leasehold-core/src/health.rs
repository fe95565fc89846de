//! Whether a node is well, for probes.
//!
//! Two questions, with two different consequences:
//!
//! - **live**: would a restart help? It is false only when the keeper's thread has died, or the runtime runs no tasks any more. A node
//!   that lost its session, its leadership or its database is *live*: it heals itself when the database is back, and a restart
//!   in that moment only adds a thundering herd. **A liveness probe must ask this one and nothing else.**
//! - **ready**: does this node take part right now? It is false while it has no trusted session. A readiness probe may ask it, if
//!   what the pod serves depends on that; holding no lease is no reason, because most replicas of a cluster stand by.

#[cfg(feature = "health")]
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
#[cfg(feature = "health")]
pub use service::HealthService;
use tokio::sync::watch;

use crate::clock::{Clock, Instant};
use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::status::{Condition, State, Status};
use crate::timing::Timings;

/// Whether a node is well. Durations are milliseconds in its JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// A restart would not help.
    pub live: bool,
    /// It has a session that it trusts.
    pub ready: bool,
    /// The cluster.
    pub cluster: ClusterName,
    /// The node.
    pub node: NodeId,
    /// It plans for the cluster.
    pub leads: bool,
    /// How many artifacts run here.
    pub held: usize,
    /// Artifacts run here, and its last renewal is older than half a ttl: they are cut off when the trust is over.
    pub holds_and_cannot_renew: bool,
    /// How long it may trust its session without another renewal; zero if it does not.
    #[serde(serialize_with = "millis", rename = "trust_remaining_ms")]
    pub trust_remaining: Duration,
    /// How long ago the database answered last; none if it never did.
    #[serde(serialize_with = "optional_millis", rename = "database_seen_ms")]
    pub database_seen: Option<Duration>,
    /// What the database said to the last call, if that was an error.
    pub database_error: Option<Arc<str>>,
    /// Why the cluster does not take this node, if so.
    pub refusal: Option<String>,
    /// The runtime runs no tasks: a handler blocks its threads.
    pub runtime_stalled: bool,
    /// Artifacts that failed here and have not succeeded since, or that say that they cannot work at present.
    pub artifacts_in_error: BTreeMap<ArtifactName, Arc<str>>,
}

fn millis<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn optional_millis<S: serde::Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
}

/// What changes with every answer of the database, and would wake everybody who waits for a change of the status.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// Zero: not trusted.
    trusted_until: AtomicU64,
    /// Zero: never.
    database_seen: AtomicU64,
}

impl Vitals {
    pub(crate) fn trust(&self, until: Instant) {
        self.trusted_until.store(until.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn seen(&self, at: Instant) {
        self.database_seen.store(at.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn trusted_until(&self) -> Instant {
        Instant::from_nanos(self.trusted_until.load(Ordering::Relaxed))
    }

    fn database_seen(&self) -> Option<Instant> {
        let seen = self.database_seen.load(Ordering::Relaxed);
        (seen > 0).then_some(Instant::from_nanos(seen))
    }
}

/// Answers at any time whether a node is well, also when the node itself is not in reach any more. Clones ask the same node.
#[derive(Clone, Debug)]
pub struct HealthProbe {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timings: Timings,
}

impl HealthProbe {
    /// Whether the node is well, now.
    pub fn health(&self) -> Health {
        let keeper_gone = self.status.has_changed().is_err();
        let status = self.status.borrow().clone();
        let now = self.clock.now();
        let trust_remaining = match status.session {
            Some(_) => self.vitals.trusted_until().since(now),
            None => Duration::ZERO,
        };
        let Timings { ttl, margin, .. } = self.timings;
        // Two renewals have come and gone without an answer.
        let cannot_renew = trust_remaining + ttl / 2 < ttl - margin;
        let mut artifacts_in_error: BTreeMap<_, _> = (*status.errors).clone();
        for (artifact, running) in status.running.iter() {
            if let Some(Condition::Impaired(error)) = &running.condition {
                artifacts_in_error.insert(artifact.clone(), Arc::clone(error));
            }
        }
        let held = status.running.len();
        Health {
            live: !status.runtime_stalled && (!keeper_gone || status.state == State::Left),
            ready: status.state == State::Joined && !trust_remaining.is_zero(),
            leads: status.leads,
            held,
            holds_and_cannot_renew: held > 0 && cannot_renew,
            trust_remaining,
            database_seen: self.vitals.database_seen().map(|seen| now.since(seen)),
            database_error: status.database_error,
            refusal: status.refusal.map(|refusal| refusal.to_string()),
            runtime_stalled: status.runtime_stalled,
            artifacts_in_error,
            cluster: status.cluster,
            node: status.node,
        }
    }
}
