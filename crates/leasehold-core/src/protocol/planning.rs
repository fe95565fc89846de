//! From what a leader read to what it writes: grants of free leases, targets of held ones.

use std::collections::BTreeMap;

use super::ids::SessionId;
use super::request::{
    ClusterRow, Deployment, DeploymentId, Desired, Grant, KeepOut, LeaseRow, MAX_ROWS, NodeRow, Request,
};
use super::rules::{Rule, Rules};
use crate::name::ArtifactName;
use crate::resolver::{Candidate, Item, Problem, ResolveError, Resolvers};

/// What a leader has read: the leases, and *then* the nodes. In this order two things never turn false again: that a
/// holder has no row, and that a grantee once reached beat 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// The cluster's row, of one snapshot with the leases: the epoch and the incarnation of the grants.
    pub cluster: ClusterRow,
    /// All leases, in the order of their artifacts.
    pub leases: Vec<LeaseRow>,
    /// All keep-outs.
    pub keep_outs: Vec<KeepOut>,
}

/// The statements that bring the cluster to what the resolvers want.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Free leases and who gets them, in key order.
    pub grants: Vec<Grant>,
    /// Held ones and where they go, in key order.
    pub targets: Vec<(ArtifactName, Option<SessionId>)>,
}

impl Plan {
    /// The plan as statements of at most [`MAX_ROWS`] rows. `incarnation` and `epoch` come from `cluster`.
    pub fn requests(self, cluster: &ClusterRow, term: i64) -> Vec<Request> {
        let grants = self.grants.chunks(MAX_ROWS).map(|rows| Request::Grant {
            rows: rows.to_vec(),
            incarnation: cluster.adopted.clone(),
            epoch: cluster.epoch,
            term,
        });
        let targets = self.targets.chunks(MAX_ROWS).map(|rows| Request::Target { rows: rows.to_vec() });
        grants.chain(targets).collect()
    }
}

/// Applies the resolvers. Nothing is taken from a live session: what it holds gets a target, and it hands over.
///
/// # Errors
/// [`ResolveError`] of the first resolver that has no answer.
pub fn plan(
    reading: &Reading,
    nodes: &[NodeRow],
    deployments: &BTreeMap<DeploymentId, Deployment>,
    resolvers: &Resolvers,
    seed: u64,
    rules: Rules,
) -> Result<Plan, ResolveError> {
    let board = Board::new(reading, nodes, deployments, rules);
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in reading.leases.iter().enumerate() {
        if row.desired == Desired::Active {
            groups.entry(&row.placement.resolver).or_default().push(index);
        }
    }
    let mut wanted: BTreeMap<usize, SessionId> = BTreeMap::new();
    for (resolver, rows) in groups {
        board.resolve(resolvers.get(resolver)?, &rows, seed, &mut wanted)?;
    }
    let mut plan = Plan::default();
    for (index, row) in reading.leases.iter().enumerate() {
        let to = wanted.get(&index).copied();
        match board.holder(row) {
            None => {
                plan.grants.extend(to.map(|to| Grant {
                    artifact: row.artifact.clone(),
                    seen: row.token,
                    to,
                }));
            }
            Some(holder) => {
                let target = to.filter(|&to| to != holder.session);
                if row.target != target {
                    plan.targets.push((row.artifact.clone(), target));
                }
            }
        }
    }
    Ok(plan)
}

struct Board<'a> {
    reading: &'a Reading,
    nodes: &'a [NodeRow],
    candidates: Vec<Candidate>,
    /// For each candidate what it has deployed, if that is known.
    deployed: Vec<Option<&'a Deployment>>,
    keep_outs: BTreeMap<(&'a ArtifactName, SessionId), u32>,
    rules: Rules,
}

impl<'a> Board<'a> {
    fn new(
        reading: &'a Reading,
        nodes: &'a [NodeRow],
        deployments: &'a BTreeMap<DeploymentId, Deployment>,
        rules: Rules,
    ) -> Self {
        let mut load: BTreeMap<SessionId, usize> = BTreeMap::new();
        for holder in reading.leases.iter().filter_map(|row| row.holder) {
            *load.entry(holder).or_default() += 1;
        }
        let renewed = |node: &NodeRow| node.beat >= 1 || !rules.keep(Rule::EligibleAfterFirstRenewal);
        let able = nodes.iter().filter(|node| renewed(node) && !node.draining && !node.evicted);
        let (candidates, deployed) = able
            .map(|node| {
                let candidate = Candidate {
                    session: node.session,
                    node: node.node.clone(),
                    labels: std::sync::Arc::clone(&node.labels),
                    load: load.get(&node.session).copied().unwrap_or(0),
                };
                (candidate, deployments.get(&node.deployment))
            })
            .unzip();
        let beat = |session| nodes.iter().find(|node| node.session == session).map_or(0, |node| node.beat);
        let kept = reading.keep_outs.iter().filter(|row| beat(row.session) < row.until_beat);
        let keep_outs = kept.map(|row| ((&row.artifact, row.session), row.failures)).collect();
        Self { reading, nodes, candidates, deployed, keep_outs, rules }
    }

    /// The row of the lease's holder. A lease whose holder has none is free.
    fn holder(&self, row: &LeaseRow) -> Option<&NodeRow> {
        let holder = row.holder?;
        let found = self.nodes.iter().find(|node| node.session == holder);
        if found.is_none() && !self.rules.keep(Rule::HolderWithoutRowIsFree) {
            return self.nodes.first();
        }
        found
    }

    /// Candidates that have deployed the artifact and have not recently failed to run it; if all have, the ones that
    /// failed least, because a keep-out never starves an artifact.
    fn eligible(&self, row: &LeaseRow) -> Vec<usize> {
        let able = (0..self.candidates.len()).filter(|&index| {
            self.deployed[index].is_some_and(|deployment| deployment.artifacts.contains_key(&row.artifact))
        });
        let able: Vec<(usize, u32)> = able
            .map(|index| {
                let key = (&row.artifact, self.candidates[index].session);
                (index, self.keep_outs.get(&key).copied().unwrap_or(0))
            })
            .collect();
        let least = able.iter().map(|(_, failures)| *failures).min().unwrap_or(0);
        able.into_iter().filter(|(_, failures)| *failures == least).map(|(index, _)| index).collect()
    }

    fn resolve(
        &self,
        resolver: &dyn crate::resolver::Resolver,
        rows: &[usize],
        seed: u64,
        wanted: &mut BTreeMap<usize, SessionId>,
    ) -> Result<(), ResolveError> {
        let mut placed = Vec::with_capacity(rows.len());
        let mut items = Vec::with_capacity(rows.len());
        for &index in rows {
            let row = &self.reading.leases[index];
            let eligible = self.eligible(row);
            if eligible.is_empty() {
                continue;
            }
            let holder = self.holder(row).map(|node| node.session);
            let current = eligible.iter().copied().find(|&i| Some(self.candidates[i].session) == holder);
            let preferred = row.preferred.as_ref();
            match eligible.iter().copied().find(|&i| Some(&self.candidates[i].node) == preferred) {
                Some(moved) => {
                    wanted.insert(index, self.candidates[moved].session);
                }
                None => {
                    placed.push(index);
                    items.push(Item { artifact: row.artifact.clone(), eligible, current });
                }
            }
        }
        if items.is_empty() {
            return Ok(());
        }
        let problem = Problem { candidates: self.candidates.clone(), items, seed };
        let answer = resolver.resolve(&problem)?;
        for ((index, item), choice) in placed.into_iter().zip(&problem.items).zip(answer) {
            if let Some(choice) = choice.filter(|choice| item.eligible.contains(choice)) {
                wanted.insert(index, self.candidates[choice].session);
            }
        }
        Ok(())
    }
}
