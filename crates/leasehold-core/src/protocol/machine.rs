//! One node: joins, keeps its session, observes, leads when it must, runs what it holds, leaves.

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, Event, Record, RecordKind};
use super::calls::{Calls, Ended, Purpose};
use super::ids::{Incarnation, SessionId};
use super::joining::Joining;
use super::observer::{Difference, Observers};
use super::request::{Answer, CallError, ClusterRow, Deployment, Labels, Request};
use super::rules::{Rule, Rules};
use super::session::Session;
use crate::clock::Instant;
use crate::name::NodeId;
use crate::resolver::Resolvers;
use crate::timing::Timings;

/// The version of the protocol that this program speaks; compared with the cluster's `min_program`.
pub const PROGRAM: i64 = 1;

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's id.
    pub node: NodeId,
    /// Valid timings.
    pub timings: Timings,
    /// The `max_ttl` of the cluster, if this node creates it; the node's own ttl unless set.
    pub max_ttl: Option<Duration>,
    /// Labels for selection.
    pub labels: Arc<Labels>,
    /// The resolvers that this node has.
    pub resolvers: Resolvers,
    /// All rules, except in models and proofs.
    pub rules: Rules,
}

/// What the node is meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Intent {
    Stay,
    Drain,
    Leave { since: Instant },
}

/// What all parts of the machine work with.
pub(super) struct Io<'a> {
    pub(super) now: Instant,
    pub(super) fresh: SessionId,
    pub(super) config: &'a Config,
    pub(super) calls: &'a mut Calls,
    pub(super) actions: &'a mut Vec<Action>,
    pub(super) observers: &'a mut Observers,
    pub(super) difference: &'a mut Difference,
    pub(super) deployment: &'a Deployment,
    pub(super) intent: Intent,
}

impl Io<'_> {
    /// Asks, unless a call for this purpose is under way.
    pub(super) fn ask(&mut self, purpose: Purpose, request: Request, timeout: Duration) {
        if !self.calls.busy(purpose) {
            let call = self.calls.ask(purpose, request, self.now, timeout);
            self.actions.push(Action::Call(call));
        }
    }

    /// The timeout of calls that may carry many rows.
    pub(super) fn patience(&self) -> Duration {
        self.config.timings.patience()
    }

    pub(super) fn keep(&self, rule: Rule) -> bool {
        self.config.rules.keep(rule)
    }

    /// Takes in one read of the cluster's row.
    pub(super) fn see(&mut self, cluster: &ClusterRow, live: &Incarnation) {
        if self.difference.see(cluster, live, self.now) {
            self.record(RecordKind::Sighted, live.to_string());
        }
    }

    pub(super) fn record(&mut self, kind: RecordKind, detail: impl Into<String>) {
        self.actions.push(Action::Record(Record {
            kind,
            artifact: None,
            token: None,
            detail: detail.into(),
        }));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Joining(Joining),
    In(Box<Session>),
    Left,
}

/// One node of a cluster, as a state machine: events and instants go in, actions come out.
///
/// The driver makes the calls, delivers their answers however late, and wakes the machine at [`Machine::next_wake`].
#[derive(Clone, Debug)]
pub struct Machine {
    config: Arc<Config>,
    calls: Calls,
    observers: Observers,
    difference: Difference,
    deployment: Deployment,
    intent: Intent,
    /// Sessions of this process that are over, or of which it is not known whether they ever began; and those of dead processes.
    former: Vec<SessionId>,
    phase: Phase,
}

impl PartialEq for Machine {
    fn eq(&self, other: &Self) -> bool {
        self.state() == other.state()
    }
}

impl Eq for Machine {}

impl std::hash::Hash for Machine {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.state().hash(hasher);
    }
}

impl Machine {
    /// A node that has not joined yet.
    pub fn new(config: Arc<Config>, deployment: Deployment) -> Self {
        Self {
            config,
            calls: Calls::default(),
            observers: Observers::default(),
            difference: Difference::default(),
            deployment,
            intent: Intent::Stay,
            former: Vec::new(),
            phase: Phase::Joining(Joining::default()),
        }
    }

    /// The same, with sessions of processes that are known to be dead: like its own former ones they are deleted before it joins.
    #[must_use]
    pub fn after(mut self, dead: Vec<SessionId>) -> Self {
        self.former.extend(dead);
        self
    }

    #[allow(
        clippy::type_complexity,
        reason = "a view of all fields but the configuration, for equality and hashing"
    )]
    fn state(&self) -> (&Calls, &Observers, &Difference, &Deployment, &Intent, &Vec<SessionId>, &Phase) {
        let Self { config: _, calls, observers, difference, deployment, intent, former, phase } = self;
        (calls, observers, difference, deployment, intent, former, phase)
    }

    /// The session, while there is one.
    pub fn session(&self) -> Option<&Session> {
        match &self.phase {
            Phase::In(session) => Some(session),
            _ => None,
        }
    }

    /// Takes in an event. `now` never goes back; `fresh` is an identity that was never used before.
    pub fn handle(&mut self, now: Instant, fresh: SessionId, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.calls.rested(now);
        let ended: Vec<(Ended, Result<Answer, CallError>)> = match event {
            Event::Answer { id, result } => {
                self.calls.answered(id).map(|ended| (ended, result)).into_iter().collect()
            }
            Event::Deploy(deployment) => {
                self.deployment = deployment;
                self.with_session(now, fresh, &mut actions, |session, _| session.touch());
                Vec::new()
            }
            Event::Drain(draining) => {
                if !matches!(self.intent, Intent::Leave { .. }) {
                    self.intent = if draining { Intent::Drain } else { Intent::Stay };
                    self.with_session(now, fresh, &mut actions, |session, _| session.touch());
                }
                Vec::new()
            }
            Event::Leave => {
                if !matches!(self.intent, Intent::Leave { .. }) {
                    self.intent = Intent::Leave { since: now };
                    self.with_session(now, fresh, &mut actions, |session, _| session.touch());
                }
                Vec::new()
            }
            Event::Notified => {
                self.with_session(now, fresh, &mut actions, |session, io| session.watch_now(io.now));
                Vec::new()
            }
            Event::Ended { artifact, token, outcome } => {
                self.with_session(now, fresh, &mut actions, |session, io| {
                    session.run_ended(io, &artifact, token, &outcome);
                });
                Vec::new()
            }
            Event::Wake => Vec::new(),
        };
        let timed_out = CallError { message: "no answer in time".into() };
        let overdue = self.calls.overdue(now).into_iter().map(|ended| (ended, Err(timed_out.clone())));
        for (ended, result) in ended.into_iter().chain(overdue) {
            self.answer(now, fresh, &mut actions, ended, result);
        }
        self.advance(now, fresh, &mut actions);
        actions
    }

    /// When the machine wants to be woken at the latest.
    pub fn next_wake(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Joining(joining) => joining.next_wake(&self.calls),
            Phase::In(session) => session.next_wake(&self.config, &self.calls, &self.observers, self.intent),
            Phase::Left => return None,
        };
        let adoption = self.adoption_due().filter(|_| !self.calls.busy(Purpose::Adopt));
        [phase, self.calls.next_wake(), adoption].into_iter().flatten().min()
    }

    fn io<'a>(
        &'a mut self,
        now: Instant,
        fresh: SessionId,
        actions: &'a mut Vec<Action>,
    ) -> (Io<'a>, &'a mut Phase, &'a mut Vec<SessionId>) {
        let io = Io {
            now,
            fresh,
            config: &self.config,
            calls: &mut self.calls,
            actions,
            observers: &mut self.observers,
            difference: &mut self.difference,
            deployment: &self.deployment,
            intent: self.intent,
        };
        (io, &mut self.phase, &mut self.former)
    }

    fn with_session(
        &mut self,
        now: Instant,
        fresh: SessionId,
        actions: &mut Vec<Action>,
        act: impl FnOnce(&mut Session, &mut Io<'_>),
    ) {
        let (mut io, phase, _) = self.io(now, fresh, actions);
        if let Phase::In(session) = phase {
            act(session, &mut io);
        }
    }

    fn answer(
        &mut self,
        now: Instant,
        fresh: SessionId,
        actions: &mut Vec<Action>,
        ended: Ended,
        result: Result<Answer, CallError>,
    ) {
        let (mut io, phase, former) = self.io(now, fresh, actions);
        if result.is_err() {
            io.calls.failed(&ended, now, io.config.timings.pause());
        }
        if ended.purpose == Purpose::Adopt && result.is_ok() {
            io.difference.forget();
        }
        match phase {
            Phase::Joining(joining) => {
                if let Some(session) = joining.answer(&mut io, former, ended.purpose, result) {
                    io.actions.push(Action::Joined { session: session.id() });
                    *phase = Phase::In(Box::new(session));
                }
            }
            Phase::In(session) => {
                let left = ended.purpose == Purpose::Leave && result.is_ok();
                if left {
                    *phase = Phase::Left;
                    actions.push(Action::Left);
                } else if let Some(why) = session.answer(&mut io, ended, result) {
                    Self::over(&mut io, phase, former, why);
                }
            }
            Phase::Left => {}
        }
    }

    fn over(io: &mut Io<'_>, phase: &mut Phase, former: &mut Vec<SessionId>, why: &'static str) {
        let Phase::In(session) = phase else { return };
        session.stop_all(io);
        let id = session.id();
        io.record(RecordKind::Over, why);
        io.actions.push(Action::Over { session: id, why });
        io.calls.forget();
        former.push(id);
        *phase = Phase::Joining(Joining::default());
    }

    fn advance(&mut self, now: Instant, fresh: SessionId, actions: &mut Vec<Action>) {
        self.adopt(now, fresh, actions);
        let (mut io, phase, former) = self.io(now, fresh, actions);
        match phase {
            Phase::Joining(joining) => {
                // Nothing is held outside a session, so there is nothing to wait for.
                if matches!(io.intent, Intent::Leave { .. }) {
                    io.actions.push(Action::Left);
                    *phase = Phase::Left;
                } else {
                    joining.advance(&mut io, former);
                }
            }
            Phase::In(session) => {
                session.advance(&mut io);
                if session.gave_up(&io) {
                    session.stop_all(&mut io);
                    io.actions.push(Action::Left);
                    *phase = Phase::Left;
                }
            }
            Phase::Left => {}
        }
    }

    /// A database that has another incarnation than the adopted one is adopted by a node that saw this very
    /// difference for the longest ttl of the cluster: until then a session whose row was lost may trust itself.
    fn adoption_due(&self) -> Option<Instant> {
        let (.., since) = self.difference.seen()?;
        let own = self.config.timings.ttl;
        let longest = self.difference.max_ttl().max(own);
        let wait = if self.config.rules.keep(Rule::AdoptionWaitsMaxTtl) { longest } else { own };
        Some(*since + wait)
    }

    fn adopt(&mut self, now: Instant, fresh: SessionId, actions: &mut Vec<Action>) {
        if self.adoption_due().is_some_and(|due| due <= now) {
            let (mut io, ..) = self.io(now, fresh, actions);
            if let Some((old, live, _)) = io.difference.seen().cloned() {
                let highest_epoch = io.difference.highest_epoch();
                let timeout = io.patience();
                io.ask(Purpose::Adopt, Request::Adopt { old, live, highest_epoch }, timeout);
            }
        }
    }
}
