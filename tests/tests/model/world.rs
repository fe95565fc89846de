//! One state of the model: the machines, the database, what is between them, and what was seen from outside.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use leasehold_core::clock::Instant;
use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::request::{Answer, Request};
use leasehold_core::protocol::rules::Rules;
use leasehold_core::protocol::{CallId, Machine, MemoryDatabase, Token};

use crate::scenario::{Kind, Scenario, Side, UNIT};

/// A node as its driver and its user see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub machine: Machine,
    /// Which process of this node: answers to a killed one reach nobody.
    pub life: u8,
    /// Trust of the present session, on the node's clock.
    pub trusted: Instant,
    pub runs: BTreeMap<ArtifactName, Token>,
    pub paused: bool,
    pub inbox: Vec<(CallId, Answer)>,
    /// It was told to drain or to leave.
    pub drains: bool,
    pub left: bool,
}

impl Node {
    pub fn valid(&self, artifact: &ArtifactName, now: Instant) -> bool {
        self.runs.contains_key(artifact) && now < self.trusted
    }
}

/// One leg of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flying {
    pub node: usize,
    pub life: u8,
    pub id: CallId,
    pub kind: Kind,
    pub leg: Leg,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    Request(Request),
    Answer(Answer),
}

impl Flying {
    pub fn side(&self) -> Side {
        match self.leg {
            Leg::Request(_) => Side::Request,
            Leg::Answer(_) => Side::Answer,
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// G1: two valid leases at one instant.
    TwoHolders(Vec<usize>),
    /// G2: a run began under a token that was not higher than all before.
    TokenReused { token: Token, before: Token },
    /// A lease was given to a session that never renewed.
    GrantedBeforeFirstBeat,
    /// G3: no holder within the bound.
    Late { steps: u32 },
    /// G3: no holder at the end of the quiet time.
    NobodyRuns,
    /// Legs without end within one step: a node asks again and again without waiting for anything.
    Storm,
}

impl Wrong {
    pub const NAMES: [&str; 6] = [
        "one holder by time",
        "one holder by token",
        "granted after the first beat",
        "followed within the bound",
        "runs at the end",
        "no storm of calls",
    ];

    pub fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Self::TwoHolders(_) => 0,
            Self::TokenReused { .. } => 1,
            Self::GrantedBeforeFirstBeat => 2,
            Self::Late { .. } => 3,
            Self::NobodyRuns => 4,
            Self::Storm => 5,
        }]
    }
}

/// A state of the model.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub step: u32,
    pub nodes: Vec<Option<Arc<Node>>>,
    /// Processes started so far.
    pub lives: u8,
    pub database: Arc<MemoryDatabase>,
    pub older: Option<Arc<MemoryDatabase>>,
    /// Incarnations of the database so far.
    pub incarnations: u8,
    /// Legs that arrive now, in order.
    pub flying: VecDeque<Arc<Flying>>,
    /// Legs that the adversary holds back.
    pub held: Vec<Arc<Flying>>,
    pub holds: u8,
    /// Which moves were made, as bits.
    pub made: u32,
    /// Session ids given out so far; none is ever used twice, whatever the database forgets.
    pub sessions: u64,
    /// The highest token under which each artifact was ever run, and where; outside the database, which forgets.
    pub started: BTreeMap<ArtifactName, (Token, usize)>,
    /// For each node the step at which its last renewal was committed.
    pub renewed: Vec<u32>,
    pub wrong: Option<Wrong>,
    /// Legs that arrived in this step.
    pub landed: u16,
    /// Steps for which everything has been as it should be for good.
    pub calm: u8,
    pub over: bool,
    /// Nodes of one step act in reverse order.
    pub reversed: bool,
}

impl World {
    pub fn new(scenario: &Scenario, rules: Rules, reversed: bool) -> Self {
        Self {
            step: 0,
            nodes: scenario.nodes.iter().map(|_| None).collect(),
            lives: 0,
            database: Arc::new(MemoryDatabase::new("life-0".into(), rules)),
            older: None,
            incarnations: 0,
            flying: VecDeque::new(),
            held: Vec::new(),
            holds: 0,
            made: 0,
            sessions: 0,
            started: BTreeMap::new(),
            renewed: vec![0; scenario.nodes.len()],
            wrong: None,
            landed: 0,
            calm: 0,
            over: false,
            reversed,
        }
    }

    /// The node's own clock.
    pub fn clock(&self, scenario: &Scenario, node: usize) -> Instant {
        let unit = u64::try_from(UNIT.as_nanos()).unwrap();
        Instant::from_nanos(u64::from(self.step) * unit / 100 * u64::from(scenario.nodes[node].rate))
    }

    pub fn awake(&self) -> impl Iterator<Item = (usize, &Node)> {
        let nodes =
            self.nodes.iter().enumerate().filter_map(|(index, node)| Some((index, &**node.as_ref()?)));
        nodes.filter(|(_, node)| !node.paused && !node.left)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "step {}, {} legs held, moves {:b}, {:?}",
            self.step,
            self.held.len(),
            self.made,
            self.wrong
        )
    }
}
