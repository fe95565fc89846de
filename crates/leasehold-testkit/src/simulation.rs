//! A cluster in one thread: real protocol machines, an in-memory database, virtual time.
//!
//! Deterministic: the same calls give the same history. A second of cluster time costs microseconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leasehold_core::clock::Instant;
use leasehold_core::name::{ArtifactKind, ArtifactName, NodeId};
use leasehold_core::protocol::action::{Outcome, Revocation};
use leasehold_core::protocol::request::{
    Answer, CallError, Deployed, Deployment, Labels, Placement, Request,
};
use leasehold_core::protocol::rules::Rules;
use leasehold_core::protocol::{
    Action, Call, CallId, Config, Event, Incarnation, Machine, MemoryDatabase, SessionId, Token,
};
use leasehold_core::resolver::{ActivePassive, Resolvers};
use leasehold_core::timing::Timings;
use uuid::Uuid;

/// A deployment of artifacts with these names, all placed by `resolver`.
///
/// # Panics
/// When a name is not valid.
pub fn deployment(artifacts: &[&str], resolver: &str) -> Deployment {
    configured(artifacts, &Placement::by(resolver), 0)
}

/// The same, placed in this way; `configuration` tells configurations of the same artifacts apart.
///
/// # Panics
/// When a name is not valid.
pub fn configured(artifacts: &[&str], placement: &Placement, configuration: u128) -> Deployment {
    let fingerprint = Uuid::from_u128(configuration);
    let deployed = Deployed { kind: kind(), fingerprint, placement: placement.clone() };
    Deployment::new(artifacts.iter().map(|name| (artifact(name), deployed.clone())).collect())
}

#[allow(clippy::expect_used, reason = "names in tests are written by hand")]
fn kind() -> ArtifactKind {
    ArtifactKind::new("test").expect("a valid kind")
}

#[allow(clippy::expect_used, reason = "names in tests are written by hand")]
fn artifact(name: &str) -> ArtifactName {
    ArtifactName::new(name).expect("a valid artifact name")
}

#[derive(Debug)]
struct Node {
    machine: Machine,
    /// Trust of the present session, on the node's clock.
    trusted: Instant,
    runs: BTreeMap<ArtifactName, Token>,
    frozen: bool,
    isolated: bool,
    refused: bool,
    inbox: Vec<Event>,
    wake: Option<Instant>,
    statements: usize,
    left: bool,
    /// A run that was asked to end does so at once, unless set.
    slow_runs: bool,
    /// The last command that each run was told of.
    commands: BTreeMap<ArtifactName, i64>,
}

#[derive(Debug)]
struct Flying {
    at: Instant,
    node: String,
    id: CallId,
    leg: Leg,
}

#[derive(Debug)]
enum Leg {
    Request(Request),
    Answer(Box<Result<Answer, CallError>>),
}

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A node began a run.
    Started(String, ArtifactName, Token),
    /// A run ended.
    Stopped(String, ArtifactName, Token, Revocation),
}

/// A cluster under virtual time.
#[derive(Debug)]
pub struct Simulation {
    now: Instant,
    timings: Timings,
    latency: Duration,
    database: MemoryDatabase,
    rules: Rules,
    resolvers: Resolvers,
    nodes: BTreeMap<String, Node>,
    flying: Vec<Flying>,
    sessions: u128,
    history: Vec<(Instant, Happening)>,
}

impl Simulation {
    /// An empty cluster whose calls take `latency` each way.
    pub fn new(timings: Timings, latency: Duration) -> Self {
        Self::with_rules(timings, latency, Rules::default())
    }

    /// The same, with rules left out, for negative controls.
    pub fn with_rules(timings: Timings, latency: Duration, rules: Rules) -> Self {
        Self {
            now: Instant::ZERO,
            timings,
            latency,
            database: MemoryDatabase::new("first".into(), rules),
            rules,
            resolvers: Resolvers::default(),
            nodes: BTreeMap::new(),
            flying: Vec::new(),
            sessions: 0,
            history: Vec::new(),
        }
    }

    /// Starts a node that has deployed `artifacts` under the resolver `ActivePassive`.
    pub fn start(&mut self, node: &str, artifacts: &[&str]) {
        self.start_with(node, deployment(artifacts, ActivePassive::NAME), self.timings);
    }

    /// Starts a node.
    ///
    /// # Panics
    /// When the name is not valid.
    pub fn start_with(&mut self, node: &str, deployment: Deployment, timings: Timings) {
        self.start_labelled(node, deployment, timings, Labels::new());
    }

    /// Starts a node with labels.
    ///
    /// # Panics
    /// When the name is not valid.
    #[allow(clippy::expect_used, reason = "names in tests are written by hand")]
    pub fn start_labelled(&mut self, node: &str, deployment: Deployment, timings: Timings, labels: Labels) {
        let config = Config {
            node: NodeId::new(node).expect("a valid node id"),
            timings,
            max_ttl: Some(self.timings.ttl),
            labels: Arc::new(labels),
            resolvers: self.resolvers.clone(),
            rules: self.rules,
        };
        let node_state = Node {
            machine: Machine::new(Arc::new(config), deployment),
            trusted: Instant::ZERO,
            runs: BTreeMap::new(),
            frozen: false,
            isolated: false,
            refused: false,
            inbox: Vec::new(),
            wake: Some(self.now),
            statements: 0,
            left: false,
            slow_runs: false,
            commands: BTreeMap::new(),
        };
        self.nodes.insert(node.to_owned(), node_state);
    }

    /// The resolvers of nodes that start from now on.
    pub fn resolvers(&mut self) -> &mut Resolvers {
        &mut self.resolvers
    }

    /// Kills a node: nothing of it remains but its rows.
    pub fn kill(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Stops a node as SIGSTOP would; its calls under way go on.
    pub fn freeze(&mut self, node: &str) {
        self.node(node).frozen = true;
    }

    /// Lets a frozen node go on, with all that arrived meanwhile.
    pub fn thaw(&mut self, node: &str) {
        self.node(node).frozen = false;
        for event in std::mem::take(&mut self.node(node).inbox) {
            self.deliver(node, event);
        }
        self.node(node).wake = Some(self.now);
    }

    /// Cuts a node off from the database, or connects it again.
    pub fn isolate(&mut self, node: &str, isolated: bool) {
        self.node(node).isolated = isolated;
    }

    /// Fails each call of a node at once, or no longer: a server that refuses connections, a database file that is gone.
    pub fn refuse(&mut self, node: &str, refused: bool) {
        self.node(node).refused = refused;
    }

    /// Runs of this node go on after they were asked to end.
    pub fn slow_runs(&mut self, node: &str) {
        self.node(node).slow_runs = true;
    }

    /// Delivers an event, as an operator or a program would cause it.
    pub fn tell(&mut self, node: &str, event: Event) {
        self.deliver(node, event);
    }

    /// Ends a run of this node.
    pub fn end_run(&mut self, node: &str, artifact_name: &str, outcome: Outcome) {
        let artifact = artifact(artifact_name);
        if let Some(token) = self.node(node).runs.remove(&artifact) {
            self.deliver(node, Event::Ended { artifact, token, outcome });
        }
    }

    /// The database, to look at or to change behind the nodes' back.
    pub fn database(&mut self) -> &mut MemoryDatabase {
        &mut self.database
    }

    /// The present moment.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// All that happened so far.
    pub fn history(&self) -> &[(Instant, Happening)] {
        &self.history
    }

    /// How many statements a node has sent so far.
    pub fn statements(&self, node: &str) -> usize {
        self.nodes.get(node).map_or(0, |node| node.statements)
    }

    /// The last command that a run of this node was told of.
    pub fn command(&self, node: &str, artifact_name: &str) -> Option<i64> {
        self.nodes.get(node)?.commands.get(&artifact(artifact_name)).copied()
    }

    /// Whether a node has left.
    pub fn has_left(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|node| node.left)
    }

    /// The machine of a node.
    pub fn machine(&self, node: &str) -> Option<&Machine> {
        self.nodes.get(node).map(|node| &node.machine)
    }

    /// The nodes that believe to hold a valid lease on the artifact. More than one violates G1.
    pub fn holders(&self, artifact_name: &str) -> Vec<String> {
        let artifact = artifact(artifact_name);
        let valid = |node: &&Node| node.runs.contains_key(&artifact) && node.trusted > self.now;
        self.nodes.iter().filter(|(_, node)| valid(node)).map(|(name, _)| name.clone()).collect()
    }

    /// The one holder.
    ///
    /// # Panics
    /// When there is more than one.
    pub fn holder(&self, artifact: &str) -> Option<String> {
        let mut holders = self.holders(artifact);
        assert!(holders.len() <= 1, "{artifact} is held by {holders:?} at {:?}", self.now);
        holders.pop()
    }

    /// Lets time pass, and checks at each step that no artifact of `watched` is held twice.
    pub fn advance(&mut self, by: Duration, watched: &[&str]) {
        let end = self.now + by;
        while self.step(end) {
            for artifact in watched {
                self.holder(artifact);
            }
        }
    }

    /// Lets time pass until `done`, at most `limit`; how long it took, if it happened.
    pub fn wait(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if !self.step(start + limit) {
                return None;
            }
        }
        Some(self.now.since(start))
    }

    #[allow(clippy::expect_used, reason = "nodes in tests are named by hand")]
    fn node(&mut self, node: &str) -> &mut Node {
        self.nodes.get_mut(node).expect("a node of this name")
    }

    /// One event; false when none is due before `end`, which is then the present.
    fn step(&mut self, end: Instant) -> bool {
        let flight =
            (0..self.flying.len()).min_by_key(|&index| (self.flying[index].at, self.flying[index].id));
        let flight = flight.filter(|&index| self.flying[index].at <= end);
        let wakes = self.nodes.iter().filter(|(_, node)| !node.frozen && !node.left);
        let wake = wakes.filter_map(|(name, node)| Some((node.wake?, name.clone()))).min();
        let wake = wake.filter(|(at, _)| *at <= end);
        match (flight, wake) {
            (Some(index), wake) if wake.as_ref().is_none_or(|(at, _)| self.flying[index].at <= *at) => {
                let flying = self.flying.swap_remove(index);
                self.now = self.now.max(flying.at);
                self.land(flying);
                true
            }
            (_, Some((at, name))) => {
                self.now = self.now.max(at);
                self.deliver(&name, Event::Wake);
                true
            }
            _ => {
                self.now = end;
                false
            }
        }
    }

    fn land(&mut self, flying: Flying) {
        let node = self.nodes.get(&flying.node);
        let isolated = node.is_some_and(|node| node.isolated);
        let refused = node.is_some_and(|node| node.refused);
        match flying.leg {
            Leg::Request(_) if isolated => {}
            Leg::Request(request) => {
                let result = if refused {
                    Err(CallError { message: "refused".into() })
                } else {
                    Ok(self.database.apply(&request))
                };
                let answer = Leg::Answer(Box::new(result));
                self.flying.push(Flying { at: self.now + self.latency, leg: answer, ..flying });
            }
            Leg::Answer(_) if isolated || !self.nodes.contains_key(&flying.node) => {}
            Leg::Answer(result) => {
                self.deliver(&flying.node, Event::Answer { id: flying.id, result: *result });
            }
        }
    }

    fn deliver(&mut self, name: &str, event: Event) {
        self.sessions += 1;
        let fresh = SessionId::from_u128(self.sessions);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.frozen {
            if !matches!(event, Event::Wake) {
                node.inbox.push(event);
            }
            return;
        }
        let actions = node.machine.handle(now, fresh, event);
        node.wake = node.machine.next_wake();
        for action in actions {
            self.act(name, action);
        }
    }

    fn act(&mut self, name: &str, action: Action) {
        let (now, latency) = (self.now, self.latency);
        let Some(node) = self.nodes.get_mut(name) else { return };
        match action {
            Action::Call(Call { id, request }) => {
                node.statements += 1;
                let leg = Leg::Request(request);
                self.flying.push(Flying { at: now + latency, node: name.to_owned(), id, leg });
            }
            Action::Trusted { until } => node.trusted = until,
            Action::Over { .. } => node.trusted = Instant::ZERO,
            Action::Left => {
                node.left = true;
                node.trusted = Instant::ZERO;
            }
            Action::Start { artifact, token } => {
                node.runs.insert(artifact.clone(), token);
                self.history.push((now, Happening::Started(name.to_owned(), artifact, token)));
            }
            Action::Stop { artifact, token, why } => {
                node.runs.remove(&artifact);
                self.history.push((now, Happening::Stopped(name.to_owned(), artifact, token, why)));
            }
            Action::Command { artifact, command, .. } => _ = node.commands.insert(artifact, command),
            Action::Revoke { artifact, token, why, .. } if !node.slow_runs => {
                node.runs.remove(&artifact);
                self.history.push((now, Happening::Stopped(name.to_owned(), artifact.clone(), token, why)));
                self.deliver(name, Event::Ended { artifact, token, outcome: Outcome::Returned });
            }
            Action::Revoke { .. } | Action::Joined { .. } | Action::Refused(_) | Action::Record(_) => {}
        }
    }

    /// The server restarts: another incarnation answers.
    pub fn restart_database(&mut self, live: &str) {
        self.database.restart(Incarnation::from(live));
    }

    /// An older state of the database takes over.
    pub fn replace_database(&mut self, older: MemoryDatabase, live: &str) {
        self.database = older;
        self.restart_database(live);
    }
}
