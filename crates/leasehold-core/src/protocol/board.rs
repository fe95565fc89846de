//! Who could run what: the nodes that take part, seen through each artifact's placement.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ids::SessionId;
use super::planning::{Reading, able};
use super::request::{Deployment, DeploymentId, LeaseRow, NodeRow};
use super::rules::{Rule, Rules};
use crate::name::ArtifactName;
use crate::resolver::Candidate;

/// What was read, arranged for planning.
pub(super) struct Board<'a> {
    pub(super) reading: &'a Reading,
    nodes: &'a [NodeRow],
    /// The nodes that take part, in the order in which they joined.
    pub(super) candidates: Vec<Candidate>,
    /// For each candidate what it has deployed, if that is known.
    deployed: Vec<Option<&'a Deployment>>,
    keep_outs: BTreeMap<(&'a ArtifactName, SessionId), u32>,
    rules: Rules,
}

/// Candidates for one artifact.
pub(super) struct Fit {
    /// Those that may run it.
    pub(super) fit: Vec<usize>,
    /// Of these the ones with the newest configuration, or all of them if none has it.
    pub(super) newest: Vec<usize>,
}

impl<'a> Board<'a> {
    pub(super) fn new(
        reading: &'a Reading,
        nodes: &'a [NodeRow],
        deployments: &'a BTreeMap<DeploymentId, Deployment>,
        rules: Rules,
    ) -> Self {
        let mut load: BTreeMap<SessionId, usize> = BTreeMap::new();
        for holder in reading.leases.iter().filter_map(|row| row.holder) {
            *load.entry(holder).or_default() += 1;
        }
        let (candidates, deployed) = nodes
            .iter()
            .filter(|node| able(node, rules))
            .map(|node| {
                let candidate = Candidate {
                    session: node.session,
                    node: node.node.clone(),
                    labels: Arc::clone(&node.labels),
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
    pub(super) fn holder(&self, row: &LeaseRow) -> Option<&NodeRow> {
        let holder = row.holder?;
        let found = self.nodes.iter().find(|node| node.session == holder);
        if found.is_none() && !self.rules.keep(Rule::HolderWithoutRowIsFree) {
            return self.nodes.first();
        }
        found
    }

    /// How many nodes have formed the cluster. A leader that saw no other live before it finds a cluster that all have
    /// left, and counts anew, unless somebody holds a lease still.
    pub(super) fn formed(&self, goes_on: bool) -> i64 {
        let goes_on = goes_on || self.reading.leases.iter().any(|row| self.holder(row).is_some());
        let before = if goes_on { self.reading.cluster.formed } else { 0 };
        before.max(i64::try_from(self.candidates.len()).unwrap_or(i64::MAX))
    }

    /// The candidates that have deployed the artifact.
    pub(super) fn deployers(&self, row: &LeaseRow) -> Vec<usize> {
        let has = |deployment: &Deployment| deployment.artifacts.contains_key(&row.artifact);
        (0..self.candidates.len()).filter(|&index| self.deployed[index].is_some_and(has)).collect()
    }

    /// Of these candidates those that the placement's list of nodes admits.
    pub(super) fn pinned(&self, row: &LeaseRow, mut of: Vec<usize>) -> Vec<usize> {
        let placement = &row.placement;
        let listed = |index: &usize| placement.nodes.contains(&self.candidates[*index].node);
        let waits = !placement.elsewhere || of.iter().any(listed);
        if !placement.nodes.is_empty() && waits {
            of.retain(listed);
        }
        of
    }

    /// Of these candidates those that have the placement's labels.
    pub(super) fn labelled(&self, row: &LeaseRow, mut of: Vec<usize>) -> Vec<usize> {
        of.retain(|&index| row.placement.lacking(&self.candidates[index].labels).is_none());
        of
    }

    /// Candidates that have deployed the artifact, that its placement admits, and that have not recently failed to run
    /// it; if all have, the ones that failed least, because a keep-out never starves an artifact.
    pub(super) fn fit(&self, row: &LeaseRow) -> Fit {
        let admitted = self.labelled(row, self.deployers(row));
        let mut fit = self.pinned(row, admitted);
        let failures = |index: &usize| {
            let key = (&row.artifact, self.candidates[*index].session);
            self.keep_outs.get(&key).copied().unwrap_or(0)
        };
        let least = fit.iter().map(failures).min().unwrap_or(0);
        fit.retain(|index| failures(index) == least);
        let newest = |index: &usize| {
            let deployed = self.deployed[*index].and_then(|set| set.artifacts.get(&row.artifact));
            deployed.is_some_and(|deployed| deployed.fingerprint == row.fingerprint)
        };
        let mut newer: Vec<usize> = fit.iter().copied().filter(newest).collect();
        if newer.is_empty() {
            newer.clone_from(&fit);
        }
        Fit { fit, newest: newer }
    }
}
