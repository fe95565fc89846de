//! The leases of one session: which to run, which to give up, which never to run again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::action::{Action, Outcome, Revocation};
use super::calls::CallId;
use super::ids::{Incarnation, SessionId, Token};
use super::request::{ClusterRow, Deployment, Desired, Handover, HeldRow, KeepOut, MAX_ROWS, Request};
use super::rules::{Rule, Rules};
use crate::clock::Instant;
use crate::name::ArtifactName;

/// First pause before a failed run is repeated; it doubles with every further failure.
const BACKOFF: Duration = Duration::from_millis(500);
/// Longest pause before a failed run is repeated.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// So many failures in a row, and the lease is yielded to another node.
const FAILURES_TO_YIELD: u32 = 4;
/// How many of its own renewals a node is passed over after it yielded: about a minute at the default timings.
const KEEP_OUT_BEATS: i64 = 48;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    token: Token,
    started: Instant,
    /// Set once the run was asked to end.
    deadline: Option<Instant>,
    /// The last command that it was told of.
    told: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Failing {
    count: u32,
    not_before: Instant,
}

/// What decides whether a lease is to be run here.
pub(super) struct Circumstances<'a> {
    pub(super) now: Instant,
    pub(super) me: SessionId,
    pub(super) beat: i64,
    /// Trust holds, with time to spare.
    pub(super) trusted: bool,
    pub(super) draining: bool,
    pub(super) drain: Duration,
    pub(super) watch: Duration,
    pub(super) deployment: &'a Deployment,
    pub(super) rules: Rules,
}

/// The leases of one session. Level-triggered: what is owed to the database follows from the last read, the runs
/// and the finished tokens, so a lost answer needs no special case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Holdings {
    rows: BTreeMap<ArtifactName, HeldRow>,
    read: Option<(i64, Incarnation, i64)>,
    /// Another read is needed.
    stale: bool,
    /// A statement has ended since the read that is under way was asked for: another one follows it.
    owed: bool,
    /// The views that were the last ones when the read was asked for: the one under way, and the last one.
    asked_at: CallId,
    read_at: CallId,
    runs: BTreeMap<ArtifactName, Run>,
    /// The highest token of each artifact whose run has ended. Kept for the life of the session.
    finished: BTreeMap<ArtifactName, Token>,
    failing: BTreeMap<ArtifactName, Failing>,
    yielded: BTreeMap<ArtifactName, Token>,
    /// To be looked at again.
    dirty: BTreeSet<ArtifactName>,
    /// Artifacts for which a statement is under way or whose effect has not been read yet.
    asked: BTreeSet<ArtifactName>,
    /// For which token a statement was last owed, and when it may be repeated.
    paced: BTreeMap<ArtifactName, (Token, Instant)>,
    handovers: BTreeMap<ArtifactName, Handover>,
    reruns: BTreeMap<ArtifactName, Token>,
    keep_outs: Vec<KeepOut>,
    timers: BTreeSet<(Instant, ArtifactName)>,
}

impl Holdings {
    /// A read is asked for while `view` is the last one.
    pub(super) fn reading(&mut self, view: CallId) {
        self.asked_at = view;
        self.owed = false;
    }

    /// Takes in a read of the leases that name this session. While a statement is `under_way`, or when it ended after
    /// the read was asked for, the read says nothing about its effect; another one follows its end.
    pub(super) fn take(&mut self, cluster: &ClusterRow, rows: Vec<HeldRow>, under_way: bool, rules: Rules) {
        self.read = Some((cluster.revision, cluster.adopted.clone(), cluster.epoch));
        self.read_at = self.asked_at;
        self.stale = std::mem::take(&mut self.owed);
        self.dirty.extend(self.rows.keys().cloned());
        self.rows = rows.into_iter().map(|row| (row.artifact.clone(), row)).collect();
        self.dirty.extend(self.rows.keys().cloned());
        self.dirty.extend(self.runs.keys().cloned());
        if !under_way && !self.stale && rules.keep(Rule::HandoverRepeats) {
            self.asked.clear();
        }
    }

    /// Whether the leases must be read again to know what `revision` brought, which `view` shows. Once for each view:
    /// a read may well be ahead of it, by this session's own statement.
    pub(super) fn wants_read(&self, revision: i64, view: CallId) -> bool {
        let news = |read: i64| read != revision && self.read_at != view;
        self.stale || self.read.as_ref().is_none_or(|(read, ..)| news(*read))
    }

    /// A statement about leases has ended, whether or not its outcome is known.
    pub(super) fn unsure(&mut self) {
        self.stale = true;
        self.owed = true;
    }

    /// Everything is to be looked at again: trust, the deployment or the wish to drain has changed.
    pub(super) fn touch(&mut self) {
        self.dirty.extend(self.rows.keys().cloned());
        self.dirty.extend(self.runs.keys().cloned());
    }

    /// Nothing is held, running or owed, as of a read that still stands.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.runs.is_empty() && !self.stale && self.read.is_some()
    }

    /// The artifacts that run, with their tokens.
    pub(super) fn running(&self) -> impl Iterator<Item = (&ArtifactName, Token)> {
        self.runs.iter().map(|(artifact, run)| (artifact, run.token))
    }

    /// A run has ended by itself; its lease is invalid already.
    pub(super) fn ended(
        &mut self,
        artifact: &ArtifactName,
        token: Token,
        outcome: &Outcome,
        at: &Circumstances<'_>,
    ) {
        let Some(run) = self.runs.get(artifact).filter(|run| run.token == token) else { return };
        let (asked_to_end, lasted) = (run.deadline.is_some(), at.now.since(run.started));
        self.finish(artifact, token);
        if asked_to_end {
            return;
        }
        // A run that lasted longer than the longest pause has recovered from what failed before.
        let failing = self.failing.entry(artifact.clone()).or_default();
        if lasted > MAX_BACKOFF {
            failing.count = 0;
        }
        match outcome {
            Outcome::Returned => failing.not_before = at.now + BACKOFF,
            Outcome::Failed(error) => {
                failing.count += 1;
                let pause = BACKOFF * 2_u32.saturating_pow(failing.count.min(10) - 1);
                failing.not_before = at.now + pause.min(MAX_BACKOFF);
                if failing.count.is_multiple_of(FAILURES_TO_YIELD) {
                    self.yielded.insert(artifact.clone(), token);
                    self.keep_outs.push(KeepOut {
                        artifact: artifact.clone(),
                        session: at.me,
                        failures: failing.count,
                        until_beat: at.beat + KEEP_OUT_BEATS,
                        error: error.to_string(),
                    });
                }
            }
        }
    }

    fn finish(&mut self, artifact: &ArtifactName, token: Token) {
        self.runs.remove(artifact);
        let finished = self.finished.entry(artifact.clone()).or_default();
        *finished = (*finished).max(token);
        self.dirty.insert(artifact.clone());
    }

    /// Ends all runs at once: trust is about to lapse, or the session is over.
    pub(super) fn stop_all(&mut self, why: Revocation, actions: &mut Vec<Action>) {
        for artifact in self.runs.keys().cloned().collect::<Vec<_>>() {
            self.stop(&artifact, why, actions);
        }
    }

    fn stop(&mut self, artifact: &ArtifactName, why: Revocation, actions: &mut Vec<Action>) {
        if let Some(token) = self.runs.get(artifact).map(|run| run.token) {
            actions.push(Action::Stop { artifact: artifact.clone(), token, why });
            self.finish(artifact, token);
        }
    }

    /// Looks at everything that changed and at the timers that are due.
    pub(super) fn settle(&mut self, at: &Circumstances<'_>, actions: &mut Vec<Action>) {
        while let Some((due, artifact)) = self.timers.first().cloned() {
            if due > at.now {
                break;
            }
            self.timers.pop_first();
            let late = |run: &Run| run.deadline.is_some_and(|deadline| deadline <= at.now);
            if self.runs.get(&artifact).is_some_and(late) {
                self.stop(&artifact, Revocation::DrainOver, actions);
            }
            self.dirty.insert(artifact);
        }
        while let Some(artifact) = self.dirty.pop_first() {
            self.settle_one(artifact, at, actions);
        }
    }

    fn settle_one(&mut self, artifact: ArtifactName, at: &Circumstances<'_>, actions: &mut Vec<Action>) {
        let row = self.rows.get(&artifact).cloned();
        if let Some(run) = self.runs.get_mut(&artifact) {
            match &row {
                Some(row) if row.token == run.token => {
                    if let (Some(why), None) = (unwanted(row, at), run.deadline) {
                        let deadline = at.now + at.drain;
                        run.deadline = Some(deadline);
                        self.timers.insert((deadline, artifact.clone()));
                        actions.push(Action::Revoke { artifact, token: row.token, why, deadline });
                    } else if row.command > 0 && row.command != run.told {
                        // Lower than what was told where that was committed later and has been taken.
                        run.told = row.command;
                        actions.push(Action::Command { artifact, token: row.token, command: row.command });
                    }
                    return;
                }
                _ => self.stop(&artifact, Revocation::Lost, actions),
            }
        }
        let Some(row) = row else { return };
        if self.asked.contains(&artifact) {
            return;
        }
        let finished = self.finished.get(&artifact).copied().unwrap_or_default();
        let yielded = self.yielded.get(&artifact) == Some(&row.token);
        if yielded || unwanted(&row, at).is_some() {
            if self.too_soon(&artifact, row.token, at) {
                return;
            }
            // Never to be run here any more, also when it never was: this statement may be executed late, long after a
            // read that still shows the lease and a change of mind.
            if at.rules.keep(Rule::GivenAwayIsFinished) {
                let finished = self.finished.entry(artifact.clone()).or_default();
                *finished = (*finished).max(row.token);
            }
            self.reruns.remove(&artifact);
            let to = row.target.filter(|&to| to != at.me && !yielded && row.desired == Desired::Active);
            self.handovers.insert(artifact.clone(), Handover { artifact, token: row.token, to });
        } else if row.token > finished || !at.rules.keep(Rule::FinishedTokens) {
            if at.trusted {
                let (token, command) = (row.token, row.command);
                let run = Run { token, started: at.now, deadline: None, told: command };
                self.runs.insert(artifact.clone(), run);
                actions.push(Action::Start { artifact: artifact.clone(), token });
                if command > 0 {
                    actions.push(Action::Command { artifact, token, command });
                }
            }
        } else {
            let not_before = self.failing.get(&artifact).map_or(Instant::ZERO, |failing| failing.not_before);
            if not_before > at.now {
                self.timers.insert((not_before, artifact));
            } else if at.trusted && !self.too_soon(&artifact, row.token, at) {
                self.handovers.remove(&artifact);
                self.reruns.insert(artifact, row.token);
            }
        }
    }

    /// A statement that had no effect, say while another incarnation answers, is repeated with every watch and not
    /// with every round trip.
    fn too_soon(&mut self, artifact: &ArtifactName, token: Token, at: &Circumstances<'_>) -> bool {
        match self.paced.get(artifact) {
            Some((last, not_before)) if *last == token && *not_before > at.now => {
                self.timers.insert((*not_before, artifact.clone()));
                true
            }
            _ => {
                self.paced.insert(artifact.clone(), (token, at.now + at.watch));
                false
            }
        }
    }

    /// The next statement that is owed to the database, if there is one. A session that yields is passed over before
    /// it frees the lease, or it might get it back at once.
    pub(super) fn keep_out(&mut self) -> Option<Request> {
        let rows = std::mem::take(&mut self.keep_outs);
        (!rows.is_empty()).then_some(Request::KeepOut { rows })
    }

    /// The next handover statement: it carries all that has finished since the last.
    pub(super) fn hand_over(&mut self, me: SessionId) -> Option<Request> {
        let (_, incarnation, epoch) = self.read.clone()?;
        let mut rows = Vec::new();
        while rows.len() < MAX_ROWS
            && let Some((artifact, row)) = self.handovers.pop_first()
        {
            self.asked.insert(artifact);
            rows.push(row);
        }
        (!rows.is_empty()).then_some(Request::HandOver { session: me, rows, incarnation, epoch })
    }

    /// The next rerun statement.
    pub(super) fn rerun(&mut self, me: SessionId) -> Option<Request> {
        let (_, incarnation, epoch) = self.read.clone()?;
        let mut rows = Vec::new();
        while rows.len() < MAX_ROWS
            && let Some((artifact, token)) = self.reruns.pop_first()
        {
            self.asked.insert(artifact.clone());
            rows.push((artifact, token));
        }
        (!rows.is_empty()).then_some(Request::Rerun { session: me, rows, incarnation, epoch })
    }

    /// When something is due by time alone.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }
}

/// Why the lease is not to be run here, if so.
fn unwanted(row: &HeldRow, at: &Circumstances<'_>) -> Option<Revocation> {
    if at.draining {
        Some(Revocation::NodeDrains)
    } else if row.desired == Desired::Paused {
        Some(Revocation::Paused)
    } else if row.target.is_some_and(|target| target != at.me) {
        Some(Revocation::Moved)
    } else if !at.deployment.artifacts.contains_key(&row.artifact) {
        Some(Revocation::Undeployed)
    } else {
        None
    }
}
