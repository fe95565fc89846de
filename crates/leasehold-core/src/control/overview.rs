//! What a cluster looks like: its nodes, its artifacts, and why those that nobody runs are not run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::said::said_by_resolvers;
use super::unexpected;
use crate::error::Error;
use crate::name::{ArtifactKind, ArtifactName, ClusterName, NodeId};
use crate::protocol::planning::Reading;
use crate::protocol::request::{
    Answer, ClusterRow, Deployment, DeploymentId, Desired, Labels, NodeRow, Placement, Request, Scope, View,
};
use crate::protocol::waiting::{Waiting, why_waiting};
use crate::protocol::{Incarnation, SessionId, Token};
use crate::store::Link;
use crate::store::people::{self, SessionNote};

/// A node that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeState {
    /// Its id.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// It plans for the cluster.
    pub leads: bool,
    /// It gives its leases away and gets no new ones.
    pub draining: bool,
    /// It may not renew, and waits to expire.
    pub evicted: bool,
    /// Raised by every renewal.
    pub beat: i64,
    /// Its session's ttl.
    pub ttl: Duration,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// How many artifacts it has deployed.
    pub deployed: usize,
    /// How many leases it holds.
    pub holds: usize,
    /// The version of leasehold that it runs; empty if its session began while this was read.
    pub version: String,
    /// When its session began, by the database's wall clock, milliseconds since 1970.
    pub joined_ms: i64,
    /// When its session was last renewed, by the same clock; none before the first renewal, and of programs that do not say.
    pub renewed_ms: Option<i64>,
    /// For so long, and for longer than its ttl, it has shown no sign of life: it is dead or cannot reach the database, and nobody
    /// has expired it yet. None of an evicted one, which may not renew. By the database's wall clock, for people.
    pub silent: Option<Duration>,
}

/// An artifact that the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactState {
    /// Its name.
    pub artifact: ArtifactName,
    /// What it is, if a node that takes part has deployed it.
    pub kind: Option<ArtifactKind>,
    /// What the cluster is asked to do with it.
    pub desired: Desired,
    /// How it is placed.
    pub placement: Placement,
    /// The node that holds its lease, with a session that lives.
    pub holder: Option<NodeId>,
    /// For how long the holder has been [silent](NodeState::silent), if it is.
    pub silent: Option<Duration>,
    /// The token of the last grant.
    pub token: Token,
    /// The node that it is being moved to, with a session that lives.
    pub target: Option<NodeId>,
    /// The node that an operator moved it to.
    pub preferred: Option<NodeId>,
    /// Why nobody holds it, if nobody does.
    pub waiting: Option<Waiting>,
}

/// What a cluster looks like. The leases are read first, the nodes then.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Overview {
    /// The cluster's row.
    pub cluster: ClusterRow,
    /// The incarnation that answered.
    pub live: Incarnation,
    /// The database's wall clock, milliseconds since 1970.
    pub wall_ms: i64,
    /// Its nodes, in the order in which they joined.
    pub nodes: Vec<NodeState>,
    /// Its artifacts, in the order of their names.
    pub artifacts: Vec<ArtifactState>,
}

impl Overview {
    /// For how long no node of the cluster has shown a sign of life, if there are nodes and all are [silent](NodeState::silent):
    /// whoever asks for something then asks in vain.
    pub fn silent(&self) -> Option<Duration> {
        let silences: Option<Vec<_>> = self.nodes.iter().map(|node| node.silent).collect();
        silences?.into_iter().min()
    }
}

/// What was read of a cluster, in the planner's order.
pub(super) struct Snapshot {
    pub(super) view: View,
    pub(super) reading: Reading,
    pub(super) deployments: BTreeMap<DeploymentId, Deployment>,
    sessions: BTreeMap<SessionId, SessionNote>,
}

impl Snapshot {
    pub(super) async fn read(link: &Link, name: &ClusterName) -> Result<Self, Error> {
        // Once to know which deployments there are, which change rarely; then leases and nodes in the planner's order.
        // Each set once: replicas of one service have the same.
        let sets: BTreeSet<_> = view(link, name).await?.nodes.iter().map(|node| node.deployment).collect();
        let leases = link.call(name, &Request::Leases { deployments: sets.into_iter().collect() }).await?;
        let Answer::Leases { cluster, rows, deployments, keep_outs } = leases else {
            return Err(unexpected());
        };
        let view = view(link, name).await?;
        let sessions = people::sessions(link.connection(), name).await?;
        Ok(Self {
            view,
            reading: Reading { cluster, leases: rows, keep_outs },
            deployments: deployments.into_iter().map(|set| (set.id, set)).collect(),
            sessions: sessions.into_iter().map(|note| (note.session, note)).collect(),
        })
    }

    pub(super) fn node(&self, session: SessionId) -> Option<&NodeRow> {
        self.view.nodes.iter().find(|node| node.session == session)
    }

    /// The nodes that have deployed the artifact, whatever else is the matter with them.
    pub(super) fn deployers(&self, artifact: &ArtifactName) -> impl Iterator<Item = &NodeRow> {
        self.view.nodes.iter().filter(move |node| {
            let set = self.deployments.get(&node.deployment);
            set.is_some_and(|set| set.artifacts.contains_key(artifact))
        })
    }

    /// With what the leader said of resolvers, which only the audit trail knows.
    pub(super) async fn overview(&self, link: &Link, name: &ClusterName) -> Result<Overview, Error> {
        let mut overview = self.plain();
        let leader = overview.nodes.iter().find(|node| node.leads).map(|node| node.node.clone());
        said_by_resolvers(link, name, leader.as_ref(), &mut overview.artifacts).await?;
        Ok(overview)
    }

    /// For how long a node has shown no sign of life, if that is longer than its ttl.
    pub(super) fn silence(&self, node: &NodeRow) -> Option<Duration> {
        if node.evicted {
            // It may not.
            return None;
        }
        let note = self.sessions.get(&node.session)?;
        // A program that renews and does not say when may live.
        let sign = note.renewed_ms.or_else(|| (node.beat == 0).then_some(note.joined_ms))?;
        let silence = Duration::from_millis(u64::try_from(self.view.wall_ms - sign).ok()?);
        (silence > node.ttl).then_some(silence)
    }

    fn plain(&self) -> Overview {
        let nodes: BTreeMap<_, _> = self.view.nodes.iter().map(|node| (node.session, node)).collect();
        let id = |session| nodes.get(&session).map(|node| node.node.clone());
        let mut held: BTreeMap<SessionId, usize> = BTreeMap::new();
        let mut kinds = BTreeMap::new();
        for deployment in self.view.nodes.iter().filter_map(|node| self.deployments.get(&node.deployment)) {
            kinds.extend(deployment.artifacts.iter().map(|(name, deployed)| (name, &deployed.kind)));
        }
        let waiting = why_waiting(&self.reading, &self.view.nodes, &self.deployments);
        let mut artifacts = Vec::with_capacity(self.reading.leases.len());
        for (row, waiting) in self.reading.leases.iter().zip(waiting) {
            if let Some(holder) = row.holder {
                *held.entry(holder).or_default() += 1;
            }
            artifacts.push(ArtifactState {
                artifact: row.artifact.clone(),
                kind: kinds.get(&row.artifact).copied().cloned(),
                desired: row.desired,
                placement: row.placement.clone(),
                holder: row.holder.and_then(id),
                silent: row.holder.and_then(|holder| self.silence(nodes.get(&holder)?)),
                token: row.token,
                target: row.target.filter(|target| row.holder != Some(*target)).and_then(id),
                preferred: row.preferred.clone(),
                waiting,
            });
        }
        let state = |node: &NodeRow| {
            let note = self.sessions.get(&node.session);
            let deployed = self.deployments.get(&node.deployment).map_or(0, |set| set.artifacts.len());
            NodeState {
                node: node.node.clone(),
                session: node.session,
                leads: self.view.cluster.leader == Some(node.session),
                draining: node.draining,
                evicted: node.evicted,
                beat: node.beat,
                ttl: node.ttl,
                labels: Arc::clone(&node.labels),
                deployed,
                holds: held.get(&node.session).copied().unwrap_or(0),
                version: note.map(|note| note.version.clone()).unwrap_or_default(),
                joined_ms: note.map_or(self.view.wall_ms, |note| note.joined_ms),
                renewed_ms: note.and_then(|note| note.renewed_ms),
                silent: self.silence(node),
            }
        };
        Overview {
            nodes: self.view.nodes.iter().map(state).collect(),
            artifacts,
            cluster: self.view.cluster.clone(),
            live: self.view.live.clone(),
            wall_ms: self.view.wall_ms,
        }
    }
}

async fn view(link: &Link, name: &ClusterName) -> Result<View, Error> {
    match link.call(name, &Request::Watch { scope: Scope::Everyone }).await? {
        Answer::View(view) => Ok(view),
        _ => Err(unexpected()),
    }
}
