//! Why nobody runs what the cluster is asked to run: for people.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::board::Board;
use super::planning::{Reading, waits_for_nodes};
use super::request::{Deployment, DeploymentId, Desired, LeaseRow, NodeRow};
use super::rules::Rules;
use crate::name::NodeId;
use crate::resolver::Resolvers;

/// Why nobody holds an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// It is paused, and that is acknowledged.
    Paused,
    /// No node that takes part has deployed it.
    NotDeployed,
    /// It is pinned to nodes of which none takes part.
    NoPinnedNode(Vec<NodeId>),
    /// No node that takes part has the labels that it asks for.
    NoLabelledNode,
    /// It waits for more nodes.
    TooFewNodes {
        /// So many have formed the cluster.
        formed: i64,
        /// So many take part.
        present: usize,
        /// So many are needed.
        needed: u32,
    },
    /// It is placed by a resolver of the user's, which has not placed it.
    Resolver {
        /// Its name.
        resolver: Arc<str>,
        /// What it last said to the present leader, or that the leader lacks it. Only an
        /// [`overview`](crate::control::Control::overview) knows.
        said: Option<Arc<str>>,
    },
    /// The next pass of the leader grants it.
    NextPass,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("paused"),
            Self::NotDeployed => f.write_str("deployed by no node that takes part"),
            Self::NoPinnedNode(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(NodeId::as_str).collect();
                write!(
                    f,
                    "pinned to {}, of which none takes part that is not draining and has deployed it; start one or let it take part \
                     again, or change the placement's nodes or elsewhere",
                    nodes.join(", ")
                )
            }
            Self::NoLabelledNode => {
                f.write_str("no node that takes part, and is not draining, has the labels of its placement")
            }
            Self::TooFewNodes { formed, present, needed } => {
                write!(f, "waits for {needed} nodes: {formed} have formed the cluster, {present} take part")
            }
            Self::Resolver { said: Some(said), .. } => write!(f, "not placed: {said}"),
            Self::Resolver { resolver, said: None } => write!(
                f,
                "not placed by resolver {resolver:?}, which finds no node for it, or is about to; every node is to have it"
            ),
            Self::NextPass => f.write_str("free; the leader's next pass grants it"),
        }
    }
}

/// For each lease why nobody holds it, if nobody does. For people: the leader knows more, such as whether the cluster
/// was formed anew.
pub fn why_waiting(
    reading: &Reading,
    nodes: &[NodeRow],
    deployments: &BTreeMap<DeploymentId, Deployment>,
) -> Vec<Option<Waiting>> {
    let board = Board::new(reading, nodes, deployments, Rules::default());
    let (formed, built_in) = (reading.cluster.formed, Resolvers::default());
    reading
        .leases
        .iter()
        .map(|row| board.holder(row).is_none().then(|| waiting(&board, row, formed, &built_in)))
        .collect()
}

fn waiting(board: &Board<'_>, row: &LeaseRow, formed: i64, built_in: &Resolvers) -> Waiting {
    let deployers = board.deployers(row);
    let present = board.candidates.len();
    if row.desired == Desired::Paused {
        Waiting::Paused
    } else if deployers.is_empty() {
        Waiting::NotDeployed
    } else if board.labelled(row, deployers.clone()).is_empty() {
        Waiting::NoLabelledNode
    } else if board.pinned(row, deployers).is_empty() {
        Waiting::NoPinnedNode(row.placement.nodes.clone())
    } else if row.placement.min_nodes > 1 && waits_for_nodes(&row.placement, formed, present) {
        Waiting::TooFewNodes { formed, present, needed: row.placement.min_nodes }
    } else if !built_in.has(&row.placement.resolver) {
        Waiting::Resolver { resolver: Arc::clone(&row.placement.resolver), said: None }
    } else {
        Waiting::NextPass
    }
}
