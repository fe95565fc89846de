//! Planning: the leader reads the leases, then the nodes, and writes what is missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::action::RecordKind;
use super::calls::{CallId, Ended, Purpose};
use super::ids::SessionId;
use super::machine::Io;
use super::planning::{Reading, Terms, able, plan};
use super::request::{Answer, CallError, Deployment, DeploymentId, NodeRow, Request, Scope, View};
use super::rules::{Rule, Rules};
use crate::clock::Instant;

/// Who leads.
#[derive(Clone, Copy)]
pub(super) struct Incumbent {
    pub(super) session: SessionId,
    /// It has seen another leader live: the cluster that was formed goes on.
    pub(super) succeeds: bool,
}

/// Each session, what it has deployed, and whether it may get leases.
type Members = Vec<(SessionId, DeploymentId, bool)>;

fn members(nodes: &[NodeRow]) -> Members {
    nodes.iter().map(|row| (row.session, row.deployment, able(row, Rules::default()))).collect()
}

/// What a plan depends on besides the leases: the revision covers those.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Basis {
    revision: i64,
    members: Members,
    /// For how many of the settling times that placements ask for the members have not changed.
    settled: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Idle,
    /// The leases are being read, and these deployments.
    Leases(Vec<DeploymentId>),
    /// The leases are here; a view that was asked after this call brings the nodes. These deployments were read.
    Nodes(Box<Reading>, CallId, Vec<DeploymentId>),
    /// The plan is being written, its front by this call.
    Writing(VecDeque<Request>, Option<CallId>),
}

/// What a session does while it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    step: Step,
    pass: i64,
    planned: Option<Basis>,
    /// Rows were skipped because somebody had locked them, or a call failed: not before then again.
    again: Option<Instant>,
    known: BTreeMap<DeploymentId, Deployment>,
    /// The members of the last view, and since when they have not changed.
    members: Option<(Members, Instant)>,
    /// The settling times of all placements, as of the last reading.
    settles: BTreeSet<Duration>,
    /// This session has counted the nodes that form the cluster since it leads.
    counted: bool,
    /// What the last plan said of a resolver without an answer; told once.
    failed: Option<String>,
}

impl Leading {
    /// Rises with every completed pass; carried in renewals, so that a leader that renews but cannot work shows.
    pub(super) fn pass(&self) -> i64 {
        self.pass
    }

    /// All that can be planned for this view is planned and written.
    pub(super) fn is_done(&self, view: &View, now: Instant) -> bool {
        let basis = self.basis(view.cluster.revision, view, now);
        self.step == Step::Idle && self.again.is_none() && self.planned.as_ref() == Some(&basis)
    }

    fn basis(&self, revision: i64, view: &View, now: Instant) -> Basis {
        let members = members(&view.nodes);
        let still = self.still(now);
        Basis { revision, members, settled: self.settles.iter().filter(|settle| **settle <= still).count() }
    }

    /// For how long the members have not changed.
    fn still(&self, now: Instant) -> Duration {
        self.members.as_ref().map_or(Duration::ZERO, |(_, since)| now.since(*since))
    }

    /// Takes in a view that shows this session as the leader.
    pub(super) fn see(&mut self, io: &mut Io<'_>, me: Incumbent, view: &View, asked: CallId) {
        if view.scope != Scope::Everyone {
            return;
        }
        let now = members(&view.nodes);
        if self.members.as_ref().is_none_or(|(before, _)| *before != now) {
            self.members = Some((now, io.now));
        }
        if self.step == Step::Idle && self.is_done(view, io.now) {
            self.pass += 1;
        }
        if let Step::Nodes(reading, after, read) = &self.step
            && (asked > *after || !io.keep(Rule::LeasesReadBeforeNodes))
        {
            let known = |id| self.known.contains_key(id) || read.contains(id);
            if !view.nodes.iter().all(|row| known(&row.deployment)) {
                // Declared between the two reads: a plan that passed it over would never be made again.
                self.step = Step::Idle;
                self.planned = None;
                return;
            }
            let reading = (**reading).clone();
            self.write(io, me, view, &reading);
        }
    }

    fn write(&mut self, io: &mut Io<'_>, me: Incumbent, view: &View, reading: &Reading) {
        // The seed is the same for one leader's term, so that a repeated pass makes the same choices.
        let (high, low) = me.session.0.as_u64_pair();
        let seed = high ^ low.rotate_left(17) ^ view.cluster.term.unsigned_abs();
        let rules = io.config.rules;
        let goes_on = me.succeeds || self.counted;
        let terms = Terms { seed, rules, goes_on, still: self.still(io.now) };
        let plan = plan(reading, &view.nodes, &self.known, &io.config.resolvers, &terms);
        let failed = plan.failed.as_ref().map(ToString::to_string);
        if let Some(text) = failed.as_ref().filter(|text| self.failed.as_ref() != Some(text)) {
            io.record(RecordKind::Failed, text.clone());
        }
        self.failed = failed;
        self.complete_pass();
        self.counted |= plan.formed.is_some();
        self.settles = reading.leases.iter().filter_map(|row| row.placement.settle()).collect();
        let mut cluster = reading.cluster.clone();
        if !rules.keep(Rule::EpochFromOneRead) {
            cluster.adopted = view.cluster.adopted.clone();
        }
        let mut requests: VecDeque<_> = plan.requests(&cluster, view.cluster.term).into();
        // Last: should one not be possible, the rest of the plan is written all the same.
        requests.extend(self.lost(reading, &view.nodes));
        if self.failed.is_some() {
            self.retry(io);
        } else {
            self.planned = Some(self.basis(reading.cluster.revision, view, io.now));
        }
        self.step = if requests.is_empty() { Step::Idle } else { Step::Writing(requests, None) };
    }

    /// Registers again what somebody has deployed and the cluster does not know: an operator forgot an artifact while a node
    /// that has it joined, or its rows were deleted.
    fn lost(&self, reading: &Reading, nodes: &[NodeRow]) -> Vec<Request> {
        let known: BTreeSet<_> = reading.leases.iter().map(|row| &row.artifact).collect();
        let deployed: BTreeSet<_> = nodes.iter().map(|row| row.deployment).collect();
        let deployments = deployed.into_iter().filter_map(|id| self.known.get(&id));
        let lost = deployments.filter(|set| !set.artifacts.keys().all(|artifact| known.contains(artifact)));
        lost.map(|set| Request::Register { deployment: set.clone() }).collect()
    }

    /// While a resolver has no answer no pass is completed, so another node, which may have it, takes the term within a ttl.
    fn complete_pass(&mut self) {
        self.pass += i64::from(self.failed.is_none());
    }

    /// The session does not lead (any more).
    pub(super) fn rest(&mut self) {
        self.step = Step::Idle;
        self.planned = None;
        self.again = None;
        self.members = None;
        self.counted = false;
        self.failed = None;
    }

    fn retry(&mut self, io: &Io<'_>) {
        self.step = Step::Idle;
        self.planned = None;
        self.again = Some(io.now + io.config.timings.watch);
    }

    /// Takes in the end of a call; true when the nodes are to be read at once.
    pub(super) fn answer(
        &mut self,
        io: &mut Io<'_>,
        ended: Ended,
        result: Result<Answer, CallError>,
    ) -> bool {
        match (ended.purpose, result) {
            (Purpose::Leases, Ok(Answer::Leases { cluster, rows, deployments, keep_outs })) => {
                self.known.extend(deployments.into_iter().map(|deployment| (deployment.id, deployment)));
                let reading = Reading { cluster, leases: rows, keep_outs };
                // Else of an earlier term of this session.
                let Step::Leases(read) = &mut self.step else { return false };
                self.step = Step::Nodes(Box::new(reading), io.calls.last(), std::mem::take(read));
                true
            }
            (Purpose::Plan, Ok(Answer::Matched(rows))) => {
                let Step::Writing(queue, asked) = &mut self.step else { return false };
                // Of an earlier term of this session: it says nothing about the plan that is being written now.
                if *asked != Some(ended.id) {
                    return false;
                }
                let expected = match queue.pop_front() {
                    Some(Request::Grant { rows, .. }) => rows.len() as u64,
                    _ => 0,
                };
                let is_written = queue.is_empty();
                if is_written {
                    self.step = Step::Idle;
                }
                self.complete_pass();
                if rows < expected {
                    self.again = Some(io.now + io.config.timings.watch);
                }
                is_written
            }
            _ => {
                self.retry(io);
                false
            }
        }
    }

    pub(super) fn advance(&mut self, io: &mut Io<'_>, me: Incumbent, view: &View) {
        let timeout = io.patience();
        match &mut self.step {
            Step::Idle => {
                // What was skipped is tried again after a pause, what has changed since is planned at once.
                let changed =
                    self.planned.as_ref().is_some_and(|basis| basis.revision != view.cluster.revision);
                let due = match self.again {
                    Some(again) => again <= io.now || changed,
                    None => !self.is_done(view, io.now),
                };
                if due && view.scope == Scope::Everyone {
                    self.again = None;
                    let unknown = view.nodes.iter().map(|row| row.deployment);
                    let mut deployments: Vec<_> = unknown.filter(|id| !self.known.contains_key(id)).collect();
                    deployments.sort_unstable();
                    deployments.dedup();
                    self.known.retain(|id, _| view.nodes.iter().any(|row| row.deployment == *id));
                    self.step = Step::Leases(deployments.clone());
                    io.ask(Purpose::Leases, Request::Leases { deployments }, timeout);
                }
            }
            Step::Writing(queue, asked) => {
                if let Some(request) = queue.front().filter(|_| !io.calls.busy(Purpose::Plan)) {
                    io.ask(Purpose::Plan, request.clone(), timeout);
                    *asked = Some(io.calls.last());
                }
            }
            // Without the rule any nodes will do, also those read before.
            Step::Nodes(..) if !io.keep(Rule::LeasesReadBeforeNodes) => {
                self.see(io, me, view, CallId::default());
            }
            Step::Leases(_) | Step::Nodes(..) => {}
        }
    }
}
