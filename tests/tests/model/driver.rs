//! Carries out the steps of the adversary and of the world, and tells about them if somebody listens.

use std::collections::BTreeMap;
use std::sync::Arc;

use leasehold_core::clock::Instant;
use leasehold_core::name::{ArtifactKind, ArtifactName, NodeId};
use leasehold_core::protocol::action::Outcome;
use leasehold_core::protocol::request::{Answer, Deployed, Deployment, Labels, Placement, Request};
use leasehold_core::protocol::rules::Rules;
use leasehold_core::protocol::{Action, Call, Config, Event, Incarnation, Machine, SessionId};
use leasehold_core::resolver::Resolvers;

use crate::placing::Prefer;
use crate::scenario::{Kind, Move, Scenario};
use crate::world::{Flying, Leg, Node, World, Wrong};

/// The one artifact of every scenario.
pub fn job() -> ArtifactName {
    ArtifactName::new("job").unwrap()
}

/// What never changes while a scenario is explored.
#[derive(Debug)]
pub struct Setting {
    pub scenario: Scenario,
    pub rules: Rules,
    deployment: Deployment,
    configs: Vec<Arc<Config>>,
}

impl Setting {
    pub fn new(scenario: Scenario, rules: Rules) -> Self {
        let deployed = Deployed {
            kind: ArtifactKind::new("test").unwrap(),
            fingerprint: Default::default(),
            placement: Placement::by(scenario.resolver),
        };
        let deployment = Deployment::new(BTreeMap::from([(job(), deployed)]));
        let mut resolvers = Resolvers::default();
        for prefer in [Prefer::First, Prefer::Last, Prefer::Follow] {
            resolvers.add(Arc::new(prefer));
        }
        let max_ttl = scenario.nodes.iter().map(|spec| spec.timings().ttl).max();
        let config = |(index, spec): (usize, &crate::scenario::Spec)| {
            Arc::new(Config {
                node: NodeId::new(name(index)).unwrap(),
                timings: spec.timings(),
                max_ttl,
                labels: Arc::new(Labels::new()),
                resolvers: resolvers.clone(),
                rules,
            })
        };
        let configs = scenario.nodes.iter().enumerate().map(config).collect();
        Self { scenario, rules, deployment, configs }
    }
}

/// What a node is called.
pub fn name(node: usize) -> &'static str {
    ["a", "b", "c", "d", "e", "f"][node]
}

/// Works on one state.
pub struct Driver<'a> {
    pub world: &'a mut World,
    pub setting: &'a Setting,
    /// Where to tell what happens.
    pub told: Option<&'a mut Vec<String>>,
}

impl Driver<'_> {
    pub fn tell(&mut self, text: impl FnOnce() -> String) {
        // The undisturbed beginning is the same in every story.
        let begun = self.world.step >= self.setting.scenario.warm;
        if let Some(told) = self.told.as_mut().filter(|_| begun) {
            told.push(format!("{:>3}  {}", self.world.step, text()));
        }
    }

    /// Time goes on by one step, and the nodes whose time has come act.
    pub fn tick(&mut self) {
        self.world.step += 1;
        self.world.landed = 0;
        for index in 0..self.world.nodes.len() {
            if self.setting.scenario.nodes[index].starts == Some(self.world.step - 1) {
                self.start(index);
            }
        }
        for (at, made) in &self.setting.scenario.script {
            if *at == self.world.step && Self::may(self.world, made) {
                self.make(made);
            }
        }
        self.check_valid();
        let count = self.world.nodes.len();
        for place in 0..count {
            let index = if self.world.reversed { count - 1 - place } else { place };
            let now = self.world.clock(&self.setting.scenario, index);
            let due = |node: &Arc<Node>| !node.paused && node.machine.next_wake().is_some_and(|at| at <= now);
            if self.world.nodes[index].as_ref().is_some_and(due) {
                self.deliver(index, Event::Wake);
            }
        }
        self.check_bound();
    }

    /// The first leg arrives.
    pub fn land(&mut self) {
        let Some(flying) = self.world.flying.pop_front() else { return };
        self.arrive(&flying);
    }

    fn arrive(&mut self, flying: &Arc<Flying>) {
        self.world.landed += 1;
        self.check_storm();
        let index = flying.node;
        match &flying.leg {
            Leg::Request(request) => {
                let answer = Arc::make_mut(&mut self.world.database).apply(request);
                self.tell(|| format!("{} committed: {request:?} -> {answer:?}", name(index)));
                self.committed(index, request, &answer);
                let back = Flying { leg: Leg::Answer(answer), ..**flying };
                self.world.flying.push_back(Arc::new(back));
            }
            Leg::Answer(answer) => {
                let Some(node) = &mut self.world.nodes[index] else { return };
                if node.life != flying.life {
                    return;
                }
                if node.paused {
                    Arc::make_mut(node).inbox.push((flying.id, answer.clone()));
                } else {
                    self.deliver(index, Event::Answer { id: flying.id, result: Ok(answer.clone()) });
                }
            }
        }
    }

    fn committed(&mut self, index: usize, request: &Request, answer: &Answer) {
        match (request, answer) {
            (Request::Renew { .. }, Answer::Renewed { matched: true, .. }) => {
                self.world.renewed[index] = self.world.step;
            }
            (Request::Grant { rows, .. }, Answer::Matched(1..)) => {
                let database = &self.world.database;
                let ghost = |to| database.nodes().any(|row| row.session == to && row.beat == 0);
                if rows.iter().any(|row| ghost(row.to)) {
                    self.world.wrong.get_or_insert(Wrong::GrantedBeforeFirstBeat);
                }
            }
            _ => {}
        }
    }

    /// The first leg is held back.
    pub fn hold(&mut self) {
        if let Some(flying) = self.world.flying.pop_front() {
            self.tell(|| format!("HOLD {:?} of {:?} of {}", flying.side(), flying.kind, name(flying.node)));
            self.world.holds += 1;
            self.world.held.push(flying);
        }
    }

    /// A held leg arrives.
    pub fn release(&mut self, index: usize) {
        let flying = self.world.held.remove(index);
        self.tell(|| format!("LET GO {:?} of {:?} of {}", flying.side(), flying.kind, name(flying.node)));
        self.arrive(&flying);
    }

    fn start(&mut self, index: usize) {
        self.tell(|| format!("{} starts", name(index)));
        let config = Arc::clone(&self.setting.configs[index]);
        self.world.lives += 1;
        self.world.nodes[index] = Some(Arc::new(Node {
            machine: Machine::new(config, self.setting.deployment.clone()),
            life: self.world.lives,
            trusted: Instant::ZERO,
            runs: BTreeMap::new(),
            paused: false,
            inbox: Vec::new(),
            drains: false,
            left: false,
        }));
    }

    fn node(&mut self, index: usize) -> &mut Node {
        Arc::make_mut(self.world.nodes[index].as_mut().expect("a node that was started"))
    }

    /// Whether a move makes sense now.
    pub fn may(world: &World, made: &Move) -> bool {
        let node = |index: usize| world.nodes[index].as_deref().filter(|node| !node.left);
        let awake = |index: usize| node(index).filter(|node| !node.paused);
        match made {
            Move::Pause(index) => awake(*index).is_some(),
            Move::Thaw(index) => node(*index).is_some_and(|node| node.paused),
            Move::Kill(all) => all.iter().all(|&index| node(index).is_some()),
            Move::Start(index) => node(*index).is_none(),
            Move::Snapshot => world.older.is_none() && world.database.cluster().is_some(),
            Move::Rollback => world.older.is_some(),
            Move::RestartDatabase => true,
            Move::Drain(index) | Move::Leave(index) => awake(*index).is_some_and(|node| !node.drains),
            Move::Stay(index) => awake(*index).is_some_and(|node| node.drains),
            Move::End(index, _) => awake(*index).is_some_and(|node| node.runs.contains_key(&job())),
            Move::Operator(_) => world.database.cluster().is_some(),
        }
    }

    pub fn make(&mut self, made: &Move) {
        self.tell(|| format!("MOVE {made:?}"));
        match made {
            Move::Pause(index) => self.node(*index).paused = true,
            Move::Thaw(index) => {
                self.node(*index).paused = false;
                for (id, answer) in std::mem::take(&mut self.node(*index).inbox) {
                    self.deliver(*index, Event::Answer { id, result: Ok(answer) });
                }
                self.deliver(*index, Event::Wake);
            }
            Move::Kill(all) => all.iter().for_each(|&index| self.world.nodes[index] = None),
            Move::Start(index) => {
                self.start(*index);
                self.deliver(*index, Event::Wake);
            }
            Move::Snapshot => self.world.older = Some(Arc::clone(&self.world.database)),
            Move::Rollback => {
                if let Some(older) = self.world.older.take() {
                    self.world.database = older;
                }
                self.restart_database();
            }
            Move::RestartDatabase => self.restart_database(),
            Move::Drain(index) => self.drain(*index, true, Event::Drain(true)),
            Move::Stay(index) => self.drain(*index, false, Event::Drain(false)),
            Move::Leave(index) => self.drain(*index, true, Event::Leave),
            Move::End(index, outcome) => self.end(*index, job(), outcome.clone()),
            Move::Operator(request) => {
                Arc::make_mut(&mut self.world.database).apply(request);
            }
        }
    }

    fn restart_database(&mut self) {
        self.world.incarnations += 1;
        let live: &str = &format!("life-{}", self.world.incarnations);
        Arc::make_mut(&mut self.world.database).restart(Incarnation::from(live));
    }

    fn drain(&mut self, index: usize, drains: bool, event: Event) {
        self.node(index).drains = drains;
        self.deliver(index, event);
    }

    fn end(&mut self, index: usize, artifact: ArtifactName, outcome: Outcome) {
        if let Some(token) = self.node(index).runs.remove(&artifact) {
            self.deliver(index, Event::Ended { artifact, token, outcome });
        }
    }

    fn deliver(&mut self, index: usize, event: Event) {
        if let Event::Answer { id, result: Ok(answer) } = &event {
            self.tell(|| format!("{} receives the answer of call {}: {answer:?}", name(index), id.0));
        }
        let fresh = SessionId::from_u128(u128::from(self.world.sessions) + 1);
        let now = self.world.clock(&self.setting.scenario, index);
        let actions = self.node(index).machine.handle(now, fresh, event);
        let joins = |action: &Action| matches!(action, Action::Call(Call { request: Request::Join { node, .. }, .. }) if node.session == fresh);
        if actions.iter().any(joins) {
            self.world.sessions += 1;
        }
        for action in actions {
            self.act(index, action);
        }
        self.check_valid();
    }

    fn act(&mut self, index: usize, action: Action) {
        if self.told.is_some() && !matches!(action, Action::Record(_)) {
            self.tell(|| format!("    {}: {action:?}", name(index)));
        }
        let slow = self.setting.scenario.slow_runs;
        match action {
            Action::Call(Call { id, request }) => {
                let (life, kind) = (self.node(index).life, Kind::of(&request));
                let flying = Flying { node: index, life, id, kind, leg: Leg::Request(request) };
                self.world.flying.push_back(Arc::new(flying));
            }
            Action::Trusted { until } => self.node(index).trusted = until,
            Action::Over { .. } => self.node(index).trusted = Instant::ZERO,
            Action::Left => {
                self.node(index).left = true;
                self.node(index).trusted = Instant::ZERO;
            }
            Action::Start { artifact, token } => {
                self.began(index, &artifact, token);
                self.node(index).runs.insert(artifact, token);
            }
            Action::Stop { artifact, .. } => _ = self.node(index).runs.remove(&artifact),
            Action::Revoke { artifact, .. } if !slow => self.end(index, artifact, Outcome::Returned),
            Action::Revoke { .. }
            | Action::Command { .. }
            | Action::Joined { .. }
            | Action::Refused(_)
            | Action::Record(_) => {}
        }
    }
}
