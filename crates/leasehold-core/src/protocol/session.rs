//! One life of a node: renews, watches, observes, runs what it holds.

use std::time::Duration;

use super::action::{Action, Outcome, Record, RecordKind, Revocation};
use super::calls::{CallId, Calls, Ended, Purpose};
use super::holdings::{Circumstances, Holdings};
use super::ids::{Incarnation, SessionId, Token};
use super::leading::{Incumbent, Leading};
use super::machine::{Config, Intent, Io};
use super::observer::Observers;
use super::request::{Answer, CallError, Deployment, DeploymentId, Request, Scope, View};
use super::rules::Rule;
use crate::clock::Instant;
use crate::name::ArtifactName;

/// Up to this size everybody reads everyone with each renewal, so that a holder and the leader dying together cost
/// one detection. Beyond it that would be rows by the square of the cluster.
pub const SMALL_CLUSTER: usize = 100;

/// Watches are so many times closer while somebody seems to have died.
const UNREST_FACTOR: u32 = 4;
/// For so many watches after that was last seen: an expiry, an election, a plan and its grants.
const UNREST_WATCHES: u32 = 2;

/// One life of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    id: SessionId,
    /// What the session joined under.
    incarnation: Incarnation,
    beat: i64,
    trust: Option<Instant>,
    /// Trust has run out once since it was last renewed; the runs were stopped.
    lapsed: bool,
    next_renewal: Instant,
    next_watch: Instant,
    /// Somebody seems to have died: what follows from it is watched closely until then.
    unrest_until: Instant,
    view: Option<View>,
    view_asked: CallId,
    leaderless_since: Option<Instant>,
    /// The view that this session last stood for election on: once for each.
    stood_on: Option<CallId>,
    /// The term of the last view, and when it was first seen.
    term: (i64, Instant),
    size: usize,
    deployed: DeploymentId,
    registered: Option<DeploymentId>,
    /// What the statements under way are about: the node may be told of another deployment meanwhile.
    registering: DeploymentId,
    declaring: DeploymentId,
    /// What this session's row was last made to say, unless that is not known, and what the statement under way says.
    drained: Option<bool>,
    draining: bool,
    /// What the last view that has this session's row says: it drains, it is evicted.
    shown: (bool, bool),
    /// This session has seen another one lead and live: the cluster that it was formed for goes on.
    succeeds: bool,
    holdings: Holdings,
    leading: Leading,
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        incarnation: Incarnation,
        deployed: DeploymentId,
        drained: bool,
        now: Instant,
    ) -> Self {
        Self {
            id,
            incarnation,
            beat: 0,
            trust: None,
            lapsed: false,
            next_renewal: now,
            next_watch: now,
            unrest_until: now,
            view: None,
            view_asked: CallId::default(),
            leaderless_since: None,
            stood_on: None,
            term: (0, now),
            size: 0,
            deployed,
            registered: None,
            registering: deployed,
            declaring: deployed,
            drained: Some(drained),
            draining: drained,
            shown: (drained, false),
            succeeds: false,
            holdings: Holdings::default(),
            leading: Leading::default(),
        }
    }

    /// Its identity.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Until when it may be trusted, on the node's clock.
    pub fn trusted_until(&self) -> Option<Instant> {
        self.trust
    }

    /// The last view of the cluster.
    pub fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// What runs, with its token.
    pub fn running(&self) -> impl Iterator<Item = (&ArtifactName, Token)> {
        self.holdings.running()
    }

    /// Whether the last view shows this session as the leader.
    pub fn leads(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.cluster.leader == Some(self.id))
    }

    pub(super) fn touch(&mut self) {
        self.holdings.touch();
    }

    pub(super) fn watch_now(&mut self, now: Instant) {
        self.next_watch = now;
    }

    pub(super) fn stop_all(&mut self, io: &mut Io<'_>) {
        self.holdings.stop_all(Revocation::SessionOver, io.actions);
    }

    pub(super) fn run_ended(
        &mut self,
        io: &mut Io<'_>,
        artifact: &ArtifactName,
        token: Token,
        outcome: &Outcome,
    ) {
        if let Outcome::Failed(error) = outcome {
            io.actions.push(Action::Record(Record {
                kind: RecordKind::Failed,
                artifact: Some(artifact.clone()),
                token: Some(token),
                detail: error.to_string(),
            }));
        }
        let at = self.circumstances(io);
        self.holdings.ended(artifact, token, outcome, &at);
    }

    fn circumstances<'a>(&self, io: &Io<'a>) -> Circumstances<'a> {
        let guard = io.config.timings.guard();
        Circumstances {
            now: io.now,
            me: self.id,
            beat: self.beat,
            trusted: self.trust.is_some_and(|until| until > io.now + guard),
            draining: io.intent != Intent::Stay || self.shown.0 || self.shown.1,
            drain: io.config.timings.drain,
            watch: io.config.timings.watch,
            deployment: io.deployment,
            rules: io.config.rules,
        }
    }

    fn incumbent(&self) -> Incumbent {
        Incumbent { session: self.id, succeeds: self.succeeds }
    }

    fn trust_left(&self, now: Instant) -> Duration {
        self.trust.map_or(Duration::ZERO, |until| until.since(now))
    }

    /// Takes in the end of a call. A text, when it shows that the session is over.
    pub(super) fn answer(
        &mut self,
        io: &mut Io<'_>,
        ended: Ended,
        result: Result<Answer, CallError>,
    ) -> Option<&'static str> {
        match (ended.purpose, result) {
            (Purpose::Renew, Ok(Answer::Renewed { matched, view })) => {
                if !matched {
                    return Some("its renewal found no row under the incarnation that it joined");
                }
                // An operator has lowered it while this session joined: an adopter would wait for less than this ttl.
                if view.cluster.max_ttl < io.config.timings.ttl {
                    return Some("its ttl is above the cluster's max_ttl, which was lowered");
                }
                let from = if io.keep(Rule::TrustCountsFromSend) { ended.sent } else { io.now };
                let timings = &io.config.timings;
                let until = from + (timings.ttl - timings.margin);
                // The first trust may come with a later renewal than the first: that one's answer may be lost.
                let first = self.trust.is_none();
                self.trust = self.trust.max(Some(until));
                if std::mem::take(&mut self.lapsed) || first {
                    self.holdings.touch();
                }
                io.actions.push(Action::Trusted { until });
                self.see(io, ended, view);
            }
            // The next attempt goes at once after a timeout; after an error a moment later.
            (Purpose::Renew, _) => self.next_renewal = io.now + io.config.timings.pause(),
            (Purpose::Watch, Ok(Answer::View(view))) => self.see(io, ended, view),
            (Purpose::Held, Ok(Answer::Held { cluster, rows })) => {
                let under_way = io.calls.pending(Purpose::HandOver) || io.calls.pending(Purpose::Rerun);
                self.holdings.take(&cluster, rows, under_way, io.config.rules);
            }
            (Purpose::HandOver | Purpose::Rerun, _) => self.holdings.unsure(),
            (Purpose::Register, Ok(_)) => self.registered = Some(self.registering),
            (Purpose::Deploy, Ok(_)) => self.deployed = self.declaring,
            (Purpose::Drain, result) => self.drained = result.is_ok().then_some(self.draining),
            (Purpose::Expire(session), Ok(answer)) => {
                // Zero rows: it renewed meanwhile. One: it is gone. Either way start over with it.
                io.observers.forget(session);
                if answer == Answer::Matched(1) {
                    io.record(RecordKind::Expired, session.to_string());
                }
                self.next_watch = io.now;
            }
            (Purpose::Elect, Ok(answer)) => {
                if answer == Answer::Matched(1) {
                    io.record(RecordKind::Elected, "");
                }
                self.next_watch = io.now;
            }
            (Purpose::Adopt, Ok(answer)) => {
                if answer == Answer::Matched(1) {
                    io.record(RecordKind::Adopted, self.incarnation.to_string());
                }
                self.next_watch = io.now;
            }
            (Purpose::Leases | Purpose::Plan, result) => {
                let read_nodes = self.leading.answer(io, ended, result);
                if read_nodes {
                    self.next_watch = io.now;
                }
            }
            _ => {}
        }
        None
    }

    fn see(&mut self, io: &mut Io<'_>, ended: Ended, view: View) {
        if ended.id < self.view_asked && io.keep(Rule::OlderAnswersDropped) {
            return;
        }
        self.view_asked = ended.id;
        io.see(&view.cluster, &view.live);
        let stamp = if io.keep(Rule::BeatStampedAtReceipt) { io.now } else { ended.sent };
        io.observers.see(&view.nodes, view.scope, stamp);
        if io.observers.suspects(self.id, io.now) {
            self.unrest_until = io.now + io.config.timings.watch * UNREST_WATCHES;
        }
        if view.scope == Scope::Everyone {
            self.size = view.nodes.len();
        }
        let lives = |session| view.nodes.iter().any(|row| row.session == session);
        match view.cluster.leader {
            Some(leader) if lives(leader) => self.leaderless_since = None,
            _ => _ = self.leaderless_since.get_or_insert(io.now),
        }
        if self.term.0 != view.cluster.term {
            self.term = (view.cluster.term, io.now);
        }
        if let Some(row) = view.nodes.iter().find(|row| row.session == self.id)
            && self.shown != (row.draining, row.evicted)
        {
            self.shown = (row.draining, row.evicted);
            self.holdings.touch();
        }
        let other = view.cluster.leader.filter(|leader| *leader != self.id);
        self.succeeds |= other.is_some_and(|leader| io.observers.renewed(leader));
        self.view = Some(view);
        let me = self.incumbent();
        match led(self.view.as_ref(), self.id, &self.incarnation) {
            Some(view) => self.leading.see(io, me, view, ended.id),
            None => self.leading.rest(),
        }
    }

    /// The last view, while who answers is who was adopted and the session belongs to that life.
    fn settled_view(&self) -> Option<&View> {
        settled(self.view.as_ref(), &self.incarnation)
    }

    pub(super) fn advance(&mut self, io: &mut Io<'_>) {
        self.lapse(io);
        self.renew(io);
        self.watch(io);
        if self.beat >= 1 {
            self.expire(io);
            self.elect(io);
            let me = self.incumbent();
            if let Some(view) = led(self.view.as_ref(), self.id, &self.incarnation) {
                self.leading.advance(io, me, view);
            }
            self.declare(io);
            self.hold(io);
            self.leave(io);
        }
    }

    /// Stops everything before trust ends.
    fn lapse(&mut self, io: &mut Io<'_>) {
        let guard = io.config.timings.guard();
        if !self.lapsed && self.trust.is_some_and(|until| until <= io.now + guard) {
            self.lapsed = true;
            self.holdings.stop_all(Revocation::TrustLapsed, io.actions);
        }
    }

    fn renew(&mut self, io: &mut Io<'_>) {
        if io.calls.busy(Purpose::Renew) || self.next_renewal > io.now {
            return;
        }
        self.beat += 1;
        let scope = self.renewal_scope(io);
        let request = Request::Renew {
            session: self.id,
            beat: self.beat,
            pass: self.leading.pass(),
            incarnation: self.incarnation.clone(),
            scope,
        };
        let timings = &io.config.timings;
        let timeout = timings.call(self.trust_left(io.now));
        self.next_renewal = io.now + timings.renew;
        self.next_watch = io.now + self.watch_interval(io);
        io.ask(Purpose::Renew, request, timeout);
    }

    fn renewal_scope(&self, io: &Io<'_>) -> Scope {
        if !io.keep(Rule::EveryoneObserves) || self.size > SMALL_CLUSTER {
            self.watch_scope()
        } else {
            Scope::Everyone
        }
    }

    /// The leader and the next two sessions observe everyone with every watch; everyone observes those three.
    fn watch_scope(&self) -> Scope {
        let Some(view) = &self.view else { return Scope::Everyone };
        let others = view.nodes.iter().filter(|row| Some(row.session) != view.cluster.leader).take(2);
        let head = self.leads() || others.into_iter().any(|row| row.session == self.id);
        if head { Scope::Everyone } else { Scope::Heads }
    }

    fn watch(&mut self, io: &mut Io<'_>) {
        if io.calls.busy(Purpose::Watch) || self.next_watch > io.now {
            return;
        }
        self.next_watch = io.now + self.watch_interval(io);
        let timeout = io.config.timings.call(self.trust_left(io.now));
        io.ask(Purpose::Watch, Request::Watch { scope: self.watch_scope() }, timeout);
    }

    /// An expiry, an election and a grant follow each other: where no notification tells of them, each is found by a
    /// watch. In quiet times this costs nothing.
    fn watch_interval(&self, io: &Io<'_>) -> Duration {
        let watch = io.config.timings.watch;
        if io.now < self.unrest_until { watch / UNREST_FACTOR } else { watch }
    }

    /// Whoever cannot renew does not judge others: after an outage each would find all others due, and each call of each would
    /// fail like its own renewals.
    fn is_trusted(&self) -> bool {
        self.trust.is_some() && !self.lapsed
    }

    fn expire(&self, io: &mut Io<'_>) {
        if !self.is_trusted() {
            return;
        }
        let Some(view) = self.settled_view() else { return };
        for (session, beat) in io.observers.due(Some(self.id), io.now) {
            let incarnation = view.cluster.adopted.clone();
            let timeout = io.patience();
            io.ask(Purpose::Expire(session), Request::Expire { session, beat, incarnation }, timeout);
        }
    }

    fn elect(&mut self, io: &mut Io<'_>) {
        let Some(view) = self.settled_view() else { return };
        if io.intent != Intent::Stay
            || self.stood_on == Some(self.view_asked)
            || !self.circumstances(io).trusted
        {
            return;
        }
        let wanted = match (self.leaderless_since, view.cluster.leader) {
            // The heads first; anybody, should they be gone as well.
            (Some(since), _) => {
                self.watch_scope() == Scope::Everyone || since + io.config.timings.watch <= io.now
            }
            (None, Some(leader)) => leader != self.id && io.observers.idle(leader, self.term.1, io.now),
            (None, None) => true,
        };
        if wanted && !io.calls.busy(Purpose::Elect) {
            let (term, incarnation) = (view.cluster.term, view.cluster.adopted.clone());
            let timeout = io.patience();
            io.ask(Purpose::Elect, Request::Elect { session: self.id, term, incarnation }, timeout);
            self.stood_on = Some(self.view_asked);
        }
    }

    /// Brings this session's row up to what the node wants it to say.
    fn declare(&mut self, io: &mut Io<'_>) {
        let timeout = io.patience();
        let draining = io.intent != Intent::Stay;
        if Some(draining) != self.drained && !io.calls.busy(Purpose::Drain) {
            self.draining = draining;
            io.ask(Purpose::Drain, Request::Drain { session: self.id, draining }, timeout);
        }
        let wanted: &Deployment = io.deployment;
        if wanted.id != self.deployed {
            if io.calls.busy(Purpose::Register) || io.calls.busy(Purpose::Deploy) {
                return;
            }
            if self.registered == Some(wanted.id) {
                self.declaring = wanted.id;
                io.ask(Purpose::Deploy, Request::Deploy { session: self.id, deployment: wanted.id }, timeout);
            } else {
                let deployment = wanted.clone();
                self.registering = wanted.id;
                io.ask(Purpose::Register, Request::Register { deployment }, timeout);
            }
        }
    }

    fn hold(&mut self, io: &mut Io<'_>) {
        let timeout = io.patience();
        if let Some(view) = &self.view
            && !io.calls.busy(Purpose::Held)
            && self.holdings.wants_read(view.cluster.revision, self.view_asked)
        {
            self.holdings.reading(self.view_asked);
            io.ask(Purpose::Held, Request::Held { session: self.id }, timeout);
        }
        let at = self.circumstances(io);
        self.holdings.settle(&at, io.actions);
        if !io.calls.busy(Purpose::KeepOut)
            && let Some(request) = self.holdings.keep_out()
        {
            io.ask(Purpose::KeepOut, request, timeout);
        }
        if !io.calls.busy(Purpose::KeepOut)
            && !io.calls.busy(Purpose::HandOver)
            && let Some(request) = self.holdings.hand_over(self.id)
        {
            io.ask(Purpose::HandOver, request, timeout);
        }
        if !io.calls.busy(Purpose::Rerun)
            && let Some(request) = self.holdings.rerun(self.id)
        {
            io.ask(Purpose::Rerun, request, timeout);
        }
    }

    fn leave(&self, io: &mut Io<'_>) {
        let Intent::Leave { since } = io.intent else { return };
        // A leaving leader plans its own succession first.
        let planned = led(self.view.as_ref(), self.id, &self.incarnation)
            .is_none_or(|view| self.leading.is_done(view, io.now));
        let done = self.drained == Some(true) && self.holdings.is_empty() && planned;
        let late = since + io.config.timings.drain + io.config.timings.ttl <= io.now;
        if (done || late) && !io.calls.busy(Purpose::Leave) {
            io.record(RecordKind::Left, "");
            let timeout = io.patience();
            io.ask(Purpose::Leave, Request::Leave { sessions: vec![self.id] }, timeout);
        }
    }

    /// A node that leaves cannot wait for ever for a database that does not answer.
    pub(super) fn gave_up(&self, io: &Io<'_>) -> bool {
        let timings = &io.config.timings;
        matches!(io.intent, Intent::Leave { since } if since + timings.drain + timings.ttl * 2 <= io.now)
    }

    pub(super) fn next_wake(
        &self,
        config: &Config,
        calls: &Calls,
        observers: &Observers,
        intent: Intent,
    ) -> Option<Instant> {
        let timings = &config.timings;
        let free = |purpose, at: Instant| (!calls.busy(purpose)).then_some(at);
        let lapse = self.trust.filter(|_| !self.lapsed).map(|until| until - timings.guard());
        let expiry = self.settled_view().filter(|_| self.is_trusted()).map(|_| {
            observers.next_due(|session| session == self.id || calls.busy(Purpose::Expire(session)))
        });
        let leave = match intent {
            Intent::Leave { since } if !calls.busy(Purpose::Leave) => {
                Some(since + timings.drain + timings.ttl)
            }
            _ => None,
        };
        let times = [
            free(Purpose::Renew, self.next_renewal),
            free(Purpose::Watch, self.next_watch),
            lapse,
            expiry.flatten(),
            self.holdings.next_timer(),
            leave,
        ];
        times.into_iter().flatten().min()
    }
}

/// `view`, while who answers is who was adopted and `incarnation` is that life.
fn settled<'a>(view: Option<&'a View>, incarnation: &Incarnation) -> Option<&'a View> {
    view.filter(|view| view.cluster.adopted == view.live && view.live == *incarnation)
}

/// `view`, while it is settled and shows `me` as the leader.
fn led<'a>(view: Option<&'a View>, me: SessionId, incarnation: &Incarnation) -> Option<&'a View> {
    settled(view, incarnation).filter(|view| view.cluster.leader == Some(me))
}
