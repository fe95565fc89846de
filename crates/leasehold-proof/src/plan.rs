//! What is done to a cluster, and when: drawn from a seed.

mod brokers;
mod points;
mod wall;
mod way;

pub(crate) use brokers::{Hurt, Kinds};
pub(crate) use wall::Wall;
pub(crate) use way::Way;

use fastrand::Rng;
use leasehold_testkit::proxy::Fault as Net;
use std::fmt;
use std::time::Duration;

use crate::database::Abilities;
use crate::failpoint::Failpoint;
use crate::record::Mood;
use crate::round::Setting;

/// One thing that is done. Nodes go by their numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    Kill(usize),
    /// Starts it again, with or without what a newer program has.
    Start(usize, bool),
    Stop(usize),
    Freeze(usize),
    Thaw(usize),
    Net(usize, Net),
    Hold(usize),
    Release(usize),
    Terminate,
    Endpoint(Mood),
    Move(usize, usize),
    /// The server's data is copied.
    Copy,
    Crash,
    RollBack,
    Up,
    /// Starts those again that a failpoint has ended.
    Again,
    /// To what this artifact consumes.
    Broker(&'static str, Hurt),
}

/// A fault for the report: what it is called, and whom it meets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) kind: String,
    pub(crate) node: Option<usize>,
    /// The artifact whose broker it is about.
    pub(crate) artifact: Option<&'static str>,
}

/// What is done at a moment after the beginning, in milliseconds; with a name where a fault begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) at: u64,
    pub(crate) act: Act,
    pub(crate) fault: Option<Named>,
}

/// All that is done, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// The database becomes another one: adopting it takes the longest ttl.
    pub(crate) restarts: bool,
    /// Whoever runs on this node when the cluster begins is hurt there.
    pub(crate) failpoint: Option<(usize, Failpoint)>,
    /// How replicas consume a topic, where there is one.
    pub(crate) way: Option<Way>,
    /// Whose wall clock is wrong.
    pub(crate) wall: Option<(usize, Wall)>,
}

impl Plan {
    /// A fault from `at` on, that meets `node`.
    pub(crate) fn fault(
        &mut self,
        at: u64,
        kind: impl Into<String>,
        node: Option<usize>,
        act: Act,
    ) -> &mut Self {
        self.restarts |= act == Act::Crash;
        let fault = Some(Named { kind: kind.into(), node, artifact: None });
        self.steps.push(Step { at, act, fault });
        self
    }

    /// What belongs to one, such as its end.
    pub(crate) fn then(&mut self, at: u64, act: Act) -> &mut Self {
        self.steps.push(Step { at, act, fault: None });
        self
    }

    pub(crate) fn ordered(mut self) -> Self {
        self.steps.sort_by_key(|step| step.at);
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(way) = self.way {
            writeln!(f, "  topic, from the start on: {way}")?;
        }
        if let Some((node, wall)) = self.wall {
            writeln!(f, "  node {node}, from its start on: {wall}")?;
        }
        if let Some((node, point)) = &self.failpoint {
            writeln!(f, "  node {node}, from its start on: {point:?}")?;
        }
        self.steps.iter().try_for_each(|step| {
            let name = step.fault.as_ref().map(|fault| format!("  # {}", fault.kind)).unwrap_or_default();
            writeln!(f, "  {:>6} ms  {:?}{name}", step.at, step.act)
        })
    }
}

/// Kinds of faults that any database allows for.
const ANYWHERE: u64 = 7;
/// Those of connections.
const NETWORK: u64 = 8;
/// Those of a server of one's own.
const RESTARTS: u64 = 2;

/// Faults from a seed, some of them at the same time.
pub(crate) fn random(seed: u64, setting: &Setting, can: Abilities) -> Plan {
    let mut random = Rng::with_seed(seed);
    let (mut plan, ttl) = (Plan::default(), setting.ttl_ms);
    // While a server is replaced nothing else happens to it.
    if can.restart && random.u64(..3) > 0 {
        restart(&mut plan, &mut random, ttl);
    } else {
        for _ in 0..random.u64(3..7) {
            let kinds = ANYWHERE + if can.network { NETWORK } else { 0 };
            let (kind, at) = (random.u64(..kinds), random.u64(..ttl * 6));
            one(&mut plan, &mut random, kind, at, setting);
        }
    }
    plan.ordered()
}

fn restart(plan: &mut Plan, random: &mut Rng, ttl: u64) {
    let (first, down) = (random.u64(..ttl), random.u64(..ttl * 2));
    if random.u64(..RESTARTS) == 0 {
        plan.fault(first, "database crashes", None, Act::Crash);
    } else {
        plan.then(0, Act::Copy);
        plan.fault(ttl * 4 + first, "database replaced by an older copy", None, Act::Crash);
        plan.then(ttl * 4 + first + 1, Act::RollBack);
    }
    plan.then(ttl * 5 + first + down, Act::Up);
}

/// For how long something is hurt: from far below the ttl to ten times as long.
fn span(random: &mut Rng, ttl: u64) -> u64 {
    let part = [50, 100, 200, 1000][random.usize(..4)];
    ttl * part / 100
}

fn one(plan: &mut Plan, random: &mut Rng, kind: u64, at: u64, setting: &Setting) {
    let (node, ttl) = (random.usize(..setting.nodes), setting.ttl_ms);
    let long = span(random, ttl).min(ttl * 4);
    let net = |plan: &mut Plan, name: &str, fault: Net, time: u64| {
        plan.fault(at, name, Some(node), Act::Net(node, fault)).then(at + time, Act::Net(node, Net::None));
    };
    match kind {
        0 => {
            plan.fault(at, "SIGKILL", Some(node), Act::Kill(node)).then(at + long, Act::Start(node, false));
        }
        1 => {
            plan.fault(at, "polite stop", Some(node), Act::Stop(node));
            // Rolling upgrade: what comes back has an artifact more.
            plan.then(at + ttl, Act::Start(node, random.bool()));
        }
        2 | 3 => {
            let frozen = span(random, ttl);
            let name = format!("SIGSTOP for {} ttl", frozen as f64 / ttl as f64);
            plan.fault(at, name, Some(node), Act::Freeze(node)).then(at + frozen, Act::Thaw(node));
        }
        4 => {
            for every in 0..setting.nodes {
                plan.fault(at, "SIGKILL of all", None, Act::Kill(every))
                    .then(at + ttl, Act::Start(every, false));
            }
        }
        5 => {
            let mood = [Mood::Fails, Mood::Hangs, Mood::Slow][random.usize(..3)];
            plan.fault(at, format!("endpoint {mood:?}").to_lowercase(), None, Act::Endpoint(mood));
            plan.then(at + long, Act::Endpoint(Mood::Well));
        }
        6 => {
            let to = random.usize(..setting.nodes);
            plan.fault(at, "move", None, Act::Move(random.usize(..crate::node::HOLDS), to));
        }
        7 => net(plan, "connections black-holed", Net::BlackHole, long),
        8 => net(plan, "connections cut", Net::Refuse, long),
        9 => net(plan, "cut before the answer", Net::CutAnswers, ttl / 10),
        10 => {
            net(plan, "connections delayed", Net::Delay(Duration::from_millis(random.u64(5..ttl / 8))), long)
        }
        11 => net(plan, "byte by byte", Net::Trickle(Duration::from_millis(1)), long.min(ttl * 2)),
        12 => {
            plan.fault(at, "open connections held", Some(node), Act::Hold(node))
                .then(at + long, Act::Release(node));
        }
        13 => {
            plan.fault(at, "backends terminated", None, Act::Terminate);
        }
        _ => {
            for every in 0..setting.nodes {
                plan.fault(at, "all cut off", None, Act::Net(every, Net::BlackHole));
                plan.then(at + long, Act::Net(every, Net::None));
            }
        }
    }
}
