//! From what a leader read to what it writes: grants of free leases, targets of held ones.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use super::board::{Board, Fit};
use super::ids::SessionId;
use super::request::{
    ClusterRow, Deployment, DeploymentId, Desired, Grant, KeepOut, LeaseRow, MAX_ROWS, NodeRow, Placement,
    Request,
};
use super::rules::Rules;
use crate::name::ArtifactName;
use crate::resolver::{Item, Problem, ResolveError, Resolvers};

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

/// What a plan depends on besides what was read.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For choices that are to be random and repeatable.
    pub seed: u64,
    /// All rules, except in models and proofs.
    pub rules: Rules,
    /// The cluster goes on that was formed before; else it is formed anew, unless somebody still holds a lease.
    pub goes_on: bool,
    /// For how long the members have not changed.
    pub still: Duration,
}

/// The statements that bring the cluster to what the resolvers want.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Free leases and who gets them, in key order.
    pub grants: Vec<Grant>,
    /// Held ones and where they go, in key order.
    pub targets: Vec<(ArtifactName, Option<SessionId>)>,
    /// How many nodes have formed the cluster, if any placement asks.
    pub formed: Option<i64>,
    /// Of the first resolver that has no answer. What it places stays as it is; what others place is planned all the same.
    pub failed: Option<ResolveError>,
}

impl Plan {
    /// The plan as statements of at most [`MAX_ROWS`] rows. `incarnation` and `epoch` come from `cluster`.
    pub fn requests(self, cluster: &ClusterRow, term: i64) -> Vec<Request> {
        let formed = self.formed.filter(|formed| *formed != cluster.formed);
        let form = formed.map(|formed| Request::Form { formed, term });
        let grants = self.grants.chunks(MAX_ROWS).map(|rows| Request::Grant {
            rows: rows.to_vec(),
            incarnation: cluster.adopted.clone(),
            epoch: cluster.epoch,
            term,
        });
        let targets = self.targets.chunks(MAX_ROWS).map(|rows| Request::Target { rows: rows.to_vec() });
        form.into_iter().chain(grants).chain(targets).collect()
    }
}

/// Whether a node may get leases.
pub(crate) fn able(node: &NodeRow, rules: Rules) -> bool {
    let renewed = node.beat >= 1 || !rules.keep(super::rules::Rule::EligibleAfterFirstRenewal);
    renewed && !node.draining && !node.evicted
}

/// Applies the resolvers. Nothing is taken from a live session: what it holds gets a target, and it hands over.
pub fn plan(
    reading: &Reading,
    nodes: &[NodeRow],
    deployments: &BTreeMap<DeploymentId, Deployment>,
    resolvers: &Resolvers,
    terms: &Terms,
) -> Plan {
    let board = Board::new(reading, nodes, deployments, terms.rules);
    let formed = board.formed(terms.goes_on);
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in reading.leases.iter().enumerate() {
        if row.desired == Desired::Active {
            groups.entry(&row.placement.resolver).or_default().push(index);
        }
    }
    let mut wanted: BTreeMap<usize, SessionId> = BTreeMap::new();
    let mut failed = None;
    let mut unplanned = BTreeSet::new();
    for (resolver, rows) in groups {
        if let Err(error) = resolve(&board, resolvers, resolver, &rows, formed, terms, &mut wanted) {
            failed.get_or_insert(error);
            unplanned.extend(rows.into_iter().filter(|index| !wanted.contains_key(index)));
        }
    }
    let asks = reading.leases.iter().any(|row| row.placement.min_nodes > 1);
    let mut plan = Plan { formed: asks.then_some(formed), failed, ..Plan::default() };
    for (index, row) in reading.leases.iter().enumerate().filter(|(index, _)| !unplanned.contains(index)) {
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
    plan
}

/// Whether so few nodes take part that nothing is assigned.
pub(super) fn waits_for_nodes(placement: &Placement, formed: i64, able: usize) -> bool {
    let needed = i64::from(placement.min_nodes);
    formed < needed || (placement.strict && i64::try_from(able).unwrap_or(i64::MAX) < needed)
}

fn resolve(
    board: &Board<'_>,
    resolvers: &Resolvers,
    resolver: &str,
    rows: &[usize],
    formed: i64,
    terms: &Terms,
    wanted: &mut BTreeMap<usize, SessionId>,
) -> Result<(), ResolveError> {
    let mut placed = Vec::with_capacity(rows.len());
    let mut items = Vec::with_capacity(rows.len());
    for &index in rows {
        let row = &board.reading.leases[index];
        let Fit { fit, newest } = board.fit(row);
        let holder = board.holder(row).map(|node| node.session);
        let current = fit.iter().copied().find(|&i| Some(board.candidates[i].session) == holder);
        let preferred = row.preferred.as_ref();
        if waits_for_nodes(&row.placement, formed, board.candidates.len()) {
            // Nor does a move assign what is to wait. What is held runs on: nothing is taken away because others have gone.
            wanted.extend(current.map(|current| (index, board.candidates[current].session)));
        } else if let Some(moved) =
            fit.iter().copied().find(|&i| Some(&board.candidates[i].node) == preferred)
        {
            wanted.insert(index, board.candidates[moved].session);
        } else if !newest.is_empty() {
            let movable = row.placement.settle().is_some_and(|settle| settle <= terms.still);
            placed.push(index);
            items.push(Item { artifact: row.artifact.clone(), eligible: newest, current, movable });
        }
    }
    if items.is_empty() {
        return Ok(());
    }
    let problem = Problem { candidates: board.candidates.clone(), items, seed: terms.seed };
    // Asked only now: one that places nothing here is missed by nobody.
    let found = resolvers.get(resolver)?;
    // It may be a user's.
    let answer = std::panic::catch_unwind(AssertUnwindSafe(|| found.resolve(&problem)));
    let answer = answer.unwrap_or_else(|panic| {
        let message = crate::panic::text(panic.as_ref());
        Err(ResolveError { resolver: resolver.to_owned(), message })
    })?;
    for ((index, item), choice) in placed.into_iter().zip(&problem.items).zip(answer) {
        let allowed = |choice: &usize| item.current == Some(*choice) || item.eligible.contains(choice);
        if let Some(choice) = choice.filter(allowed) {
            wanted.insert(index, board.candidates[choice].session);
        }
    }
    Ok(())
}
