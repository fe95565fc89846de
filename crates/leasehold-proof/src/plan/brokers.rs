//! What is done to brokers: drawn beside the rest, so that a seed does the same to the cluster with and without them.

use std::time::Duration;

use fastrand::Rng;
use leasehold_testkit::proxy::Fault as Net;

use super::{Act, Named, Plan, Step, Way, span};
use crate::brokers::TOPIC;
use crate::round::Setting;

/// One thing that is done to a broker, or to the way of a replica to it; of all replicas where there is no number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Hurt {
    Net(Option<usize>, Net),
    Hold(Option<usize>),
    Release(Option<usize>),
    /// The queue, or the topic, goes, with what is in it.
    Delete,
    /// The broker closes all connections.
    Disconnect,
    Down,
    /// Without a farewell.
    Crash,
    Up,
}

/// How a broker can be hurt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    /// There are connections to hurt,
    pub(crate) network: bool,
    /// those of each replica by themselves.
    pub(crate) of_each: bool,
    pub(crate) deletes: bool,
    /// Once in a round at most, and not before there is something in it.
    pub(crate) deletes_once: bool,
    pub(crate) disconnects: bool,
    pub(crate) restarts: bool,
    /// It can be killed, too.
    pub(crate) crashes: bool,
    /// How a topic is consumed.
    pub(crate) way: Option<Way>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    BlackHole,
    Cut,
    CutAnswers,
    Hold,
    Delay,
    Delete,
    Disconnect,
    Restart,
    Crash,
}

impl Kinds {
    fn list(self, random: &mut Rng) -> Vec<Kind> {
        let mut list = Vec::new();
        if self.network {
            list.extend([Kind::BlackHole, Kind::Cut, Kind::CutAnswers, Kind::Hold, Kind::Delay]);
        }
        if self.disconnects {
            list.push(Kind::Disconnect);
        }
        // Not both: a broker that is down deletes nothing.
        match (self.deletes, self.restarts && random.bool()) {
            (_, true) => {
                list.push(Kind::Restart);
                list.extend(self.crashes.then_some(Kind::Crash));
            }
            (true, false) => list.push(Kind::Delete),
            (false, false) => {}
        }
        list
    }
}

impl Plan {
    /// Adds faults of brokers, from the same seed.
    pub(crate) fn with_brokers(
        mut self,
        seed: u64,
        setting: &Setting,
        brokers: &[(&'static str, Kinds)],
    ) -> Self {
        for (artifact, kinds) in brokers {
            let own = artifact.bytes().fold(seed, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
            let mut random = Rng::with_seed(own);
            let mut list = kinds.list(&mut random);
            for _ in 0..random.u64(2..5) {
                let Some(kind) = random.choice(&list).copied() else { break };
                let node = kinds.of_each.then(|| random.usize(..=setting.nodes));
                let node = node.filter(|node| *node < setting.nodes);
                one(&mut self, &mut random, (kind, *artifact, node), setting.ttl_ms);
                if kinds.deletes_once && kind == Kind::Delete {
                    list.retain(|other| *other != Kind::Delete);
                }
            }
            self.way = self.way.or(kinds.way);
        }
        self.ordered()
    }
}

fn one(
    plan: &mut Plan,
    random: &mut Rng,
    (kind, artifact, node): (Kind, &'static str, Option<usize>),
    ttl: u64,
) {
    let (at, long) = (random.u64(..ttl * 6), span(random, ttl).min(ttl * 4));
    let mut hurt = |at, name: &str, hurt| {
        let named = Named { kind: format!("{artifact}: {name}"), node: None, artifact: Some(artifact) };
        plan.steps.push(Step {
            at,
            act: Act::Broker(artifact, hurt),
            fault: (!name.is_empty()).then_some(named),
        });
    };
    let mut net = |name, fault, time| {
        hurt(at, name, Hurt::Net(node, fault));
        hurt(at + time, "", Hurt::Net(node, Net::None));
    };
    match kind {
        Kind::BlackHole => net("connections black-holed", Net::BlackHole, long),
        Kind::Cut => net("connections cut", Net::Refuse, long),
        Kind::CutAnswers => net("cut before the answer", Net::CutAnswers, ttl / 10),
        Kind::Delay => {
            net("connections delayed", Net::Delay(Duration::from_millis(random.u64(5..ttl / 8))), long);
        }
        Kind::Hold => {
            hurt(at, "open connections held", Hurt::Hold(node));
            hurt(at + long, "", Hurt::Release(node));
        }
        Kind::Delete if artifact == TOPIC => hurt(at.max(ttl * 2), "deleted and made again", Hurt::Delete),
        Kind::Delete => hurt(at, "queue deleted", Hurt::Delete),
        Kind::Disconnect => hurt(at, "connections closed by the broker", Hurt::Disconnect),
        Kind::Restart => {
            hurt(at, "broker restarted", Hurt::Down);
            hurt(at + long, "", Hurt::Up);
        }
        Kind::Crash => {
            hurt(at, "broker killed", Hurt::Crash);
            hurt(at + long, "", Hurt::Up);
        }
    }
}
