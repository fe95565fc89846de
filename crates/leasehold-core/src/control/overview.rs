//! What a cluster looks like: its nodes, its artifacts, and why those that nobody runs are not run.

use std::collections::BTreeMap;

use super::unexpected;
use crate::error::Error;
use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::protocol::action::RecordKind;
use crate::protocol::planning::Reading;
use crate::protocol::request::{Answer, ClusterRow, Desired, Placement, Request, Scope};
use crate::protocol::waiting::{Waiting, why_waiting};
use crate::protocol::{SessionId, Token};
use crate::resolver::ResolveError;
use crate::store::{Link, audit};

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
}

/// An artifact that the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactState {
    /// Its name.
    pub artifact: ArtifactName,
    /// What the cluster is asked to do with it.
    pub desired: Desired,
    /// How it is placed.
    pub placement: Placement,
    /// The node that holds its lease, with a session that lives.
    pub holder: Option<NodeId>,
    /// The token of the last grant.
    pub token: Token,
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
    /// Its nodes, in the order in which they joined.
    pub nodes: Vec<NodeState>,
    /// Its artifacts, in the order of their names.
    pub artifacts: Vec<ArtifactState>,
}

/// Events among which those are looked for that tell why a resolver has not answered.
const EVENTS: u64 = 200;

/// What the leader said of the resolvers that have not placed something: only it knows.
async fn said_by_resolvers(
    link: &Link,
    cluster: &ClusterName,
    leader: Option<&NodeId>,
    artifacts: &mut [ArtifactState],
) -> Result<(), Error> {
    let unplaced = |artifact: &ArtifactState| matches!(artifact.waiting, Some(Waiting::Resolver { .. }));
    if !artifacts.iter().any(unplaced) {
        return Ok(());
    }
    let events = audit::latest(link.connection(), cluster, EVENTS).await?;
    let events = events.into_iter().map(|stored| stored.event);
    // What was said in an earlier term is over.
    let of_term = events.take_while(|event| event.kind != RecordKind::Elected.as_str());
    let said: Vec<_> = of_term
        .filter(|event| event.kind == RecordKind::Failed.as_str() && event.node.as_ref() == leader)
        .collect();
    for artifact in artifacts {
        if let Some(Waiting::Resolver { resolver, said: told }) = &mut artifact.waiting {
            let begins = ResolveError { resolver: resolver.to_string(), message: String::new() }.to_string();
            let event = said.iter().find(|event| event.detail.starts_with(&begins));
            *told = event.map(|event| event.detail.as_str().into());
        }
    }
    Ok(())
}

pub(super) async fn read(link: &Link, name: &ClusterName) -> Result<Overview, Error> {
    // Once to know which deployments there are, which change rarely; then leases and nodes in the planner's order.
    let Answer::View(view) = link.call(name, &Request::Watch { scope: Scope::Everyone }).await? else {
        return Err(unexpected());
    };
    let ids = view.nodes.iter().map(|node| node.deployment).collect();
    let leases = link.call(name, &Request::Leases { deployments: ids }).await?;
    let Answer::Leases { cluster, rows, deployments, keep_outs } = leases else { return Err(unexpected()) };
    let Answer::View(view) = link.call(name, &Request::Watch { scope: Scope::Everyone }).await? else {
        return Err(unexpected());
    };
    let deployments: BTreeMap<_, _> = deployments.into_iter().map(|set| (set.id, set)).collect();
    let reading = Reading { cluster, leases: rows, keep_outs };
    let node_of = |session| view.nodes.iter().find(|node| node.session == session);
    let mut artifacts = Vec::with_capacity(reading.leases.len());
    for (row, waiting) in reading.leases.iter().zip(why_waiting(&reading, &view.nodes, &deployments)) {
        artifacts.push(ArtifactState {
            artifact: row.artifact.clone(),
            desired: row.desired,
            placement: row.placement.clone(),
            holder: row.holder.and_then(node_of).map(|node| node.node.clone()),
            token: row.token,
            preferred: row.preferred.clone(),
            waiting,
        });
    }
    let leader = view.nodes.iter().find(|node| view.cluster.leader == Some(node.session));
    said_by_resolvers(link, name, leader.map(|node| &node.node), &mut artifacts).await?;
    let nodes = view.nodes.iter().map(|node| NodeState {
        node: node.node.clone(),
        session: node.session,
        leads: view.cluster.leader == Some(node.session),
        draining: node.draining,
        evicted: node.evicted,
    });
    Ok(Overview { nodes: nodes.collect(), artifacts, cluster: view.cluster.clone() })
}
