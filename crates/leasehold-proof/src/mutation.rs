//! Negative controls: a mechanism is switched off, and the judge must miss it. Where it convicts, the same faults on a cluster
//! with the mechanism must bring no violation.

use anyhow::{Result, ensure};
use fastrand::Rng;
use leasehold_testkit::proxy::Fault as Net;
use std::time::Duration;

use crate::brokers::{self, Brokers, QUEUE, TOPIC};
use crate::check::Violation;
use crate::clock::Pace;
use crate::database::{Database, Own, Where};
use crate::node::{Broken, HOLDS, PUSH};
use crate::plan::{Act, Plan, Way};
use crate::round::{self, Outcome, Setting};

const TTL_MS: u64 = 1500;
/// Of somebody whose trust outlasts that of the others.
const LONG_TTL_MS: u64 = 6000;
const NODES: usize = 3;

/// A mechanism, and faults under which it is needed.
struct Mutation {
    name: &'static str,
    broken: Broken,
    plan: fn(&mut Rng, u64) -> Plan,
    setting: fn() -> Setting,
    /// It takes a server that can be replaced.
    own: bool,
    /// It takes the broker of this artifact.
    broker: Option<&'static str>,
    /// And a topic that is consumed in this way.
    way: Way,
}

/// Where clusters meet, and what they consume from.
pub(crate) struct Place {
    pub(crate) database: Where,
    pub(crate) brokers: brokers::Where,
}

fn text(what: &str, by: &str) -> Broken {
    Broken::Text { what: what.to_owned(), by: by.to_owned() }
}

/// What no statement has.
const NO_TEXT: &str = "\u{0}";

fn plain() -> Setting {
    Setting {
        uneven: false,
        long_ttl_ms: None,
        rough_ms: 0,
        slack_ms: 20_000,
        ..Setting::healthy(NODES, TTL_MS)
    }
}

/// The fence of PostgreSQL, with the limit that makes a silent client lose its transaction.
const FENCE: &str = "select set_config('idle_in_transaction_session_timeout', $5, true) from leasehold_lease where cluster = $1 \
                     and artifact = $2 and token = $3 and holder = $4 for share";

fn mutations() -> Vec<Mutation> {
    let none = "select $5::text from leasehold_lease where cluster = $1 and artifact = $2 and $3::bigint > 0 and $4::uuid is not null";
    let sub_select = "select $5::text from leasehold_cluster where name = $1 and exists (select 1 from leasehold_lease \
                      where cluster = $1 and artifact = $2 and token = $3 and holder = $4)";
    let made = |name, broken, plan, setting| {
        let (own, broker, way) = (false, None, Way::default());
        Mutation { name, broken, plan, setting, own, broker, way }
    };
    vec![
        made("fence-off", text(FENCE, none), freezes, plain),
        made("fence-by-sub-select", text(FENCE, sub_select), freezes, plain),
        made(
            "checkpoint-fence-off",
            text(
                "where cluster = $1 and artifact = $2 and token = $3 and holder = $4 for share), i as",
                "where cluster = $1 and artifact = $2 and $4::uuid is not null), i as",
            ),
            held_writes,
            plain,
        ),
        made(
            "expiry-without-the-beat",
            text("and beat = $5 and", "and $5::bigint >= 0 and"),
            late_expiry,
            plain,
        ),
        made(
            "wall-clock-for-expiry",
            // Its clock is what is broken: no text.
            text(NO_TEXT, NO_TEXT),
            nothing,
            || Setting { pace: Pace::Wall(900), ..plain() },
        ),
        made(
            "wall-clock-for-trust",
            text(NO_TEXT, NO_TEXT),
            nothing,
            // As one that is set back again and again.
            || Setting { pace: Pace::PerMille(100), ..plain() },
        ),
        made("release-before-drain", Broken::ReleasesEarly, moves, plain),
        made("acknowledge-before-handle", acknowledges_first(PUSH), kills, plain),
        Mutation {
            own: true,
            ..made(
                "epoch-not-raised-after-a-rollback",
                text(
                    "epoch = greatest(epoch + 1, $5 + 1, floor((extract(epoch from clock_timestamp()) - 1577836800) * 10)::bigint)",
                    "epoch = epoch + 0 * $5",
                ),
                rollback,
                plain,
            )
        },
        Mutation {
            own: true,
            ..made(
                "adoption-without-the-longest-ttl",
                Broken::AdoptionWaitsMaxTtl,
                cut_off_and_forgotten,
                || Setting { long_ttl_ms: Some(LONG_TTL_MS), ..plain() },
            )
        },
        Mutation {
            broker: Some(QUEUE),
            ..made("acknowledge-before-handle-of-a-queue", acknowledges_first(QUEUE), kills, plain)
        },
        Mutation {
            broker: Some(QUEUE),
            ..made("queue-without-a-fence", Broken::ConsumesUnfenced, freezes, plain)
        },
        Mutation {
            broker: Some(TOPIC),
            ..made("commit-before-handle-of-a-topic", acknowledges_first(TOPIC), kills, plain)
        },
        Mutation {
            broker: Some(TOPIC),
            way: Way::InDatabase,
            ..made("offset-apart-from-the-effect", Broken::RecordsApart, kills, plain)
        },
    ]
}

fn acknowledges_first(artifact: &str) -> Broken {
    Broken::AcknowledgesFirst { artifact: artifact.to_owned() }
}

fn freezes(random: &mut Rng, ttl: u64) -> Plan {
    let mut plan = Plan::default();
    for n in 0..3 {
        let (node, at) = (random.usize(..NODES), n * ttl * 4 + random.u64(..ttl));
        plan.fault(at, "SIGSTOP", Some(node), Act::Freeze(node)).then(at + ttl * 5 / 2, Act::Thaw(node));
    }
    plan.ordered()
}

/// What a holder has sent is on its way until the next one has written.
fn held_writes(random: &mut Rng, ttl: u64) -> Plan {
    let mut plan = Plan::default();
    for n in 0..8 {
        let (node, at) = (random.usize(..NODES), n * ttl * 4);
        // So that most of the time something is on its way.
        plan.then(at, Act::Net(node, Net::Delay(Duration::from_millis(20))));
        let held = at + ttl / 2 + random.u64(..ttl / 2);
        plan.fault(held, "open connections held", Some(node), Act::Hold(node));
        plan.then(held + ttl * 5 / 2, Act::Release(node))
            .then(held + ttl * 5 / 2 + 1, Act::Net(node, Net::None));
    }
    plan.ordered()
}

/// Somebody is silent for a ttl, and wakes up before those who expire it are heard.
fn late_expiry(random: &mut Rng, ttl: u64) -> Plan {
    let mut plan = Plan::default();
    for n in 0..4 {
        let (node, at) = (random.usize(..NODES), n * ttl * 4);
        plan.fault(at, "SIGSTOP", Some(node), Act::Freeze(node));
        let held = at + ttl * random.u64(70..98) / 100;
        for other in (0..NODES).filter(|other| *other != node) {
            plan.then(held, Act::Hold(other))
                .then(held + ttl * random.u64(35..60) / 100, Act::Release(other));
        }
        plan.then(at + ttl * random.u64(100..115) / 100, Act::Thaw(node));
    }
    plan.ordered()
}

fn nothing(_: &mut Rng, ttl: u64) -> Plan {
    let mut plan = Plan::default();
    plan.then(ttl * 4, Act::Net(0, Net::None));
    plan
}

fn moves(random: &mut Rng, ttl: u64) -> Plan {
    let mut plan = Plan::default();
    for n in 0..40 {
        plan.fault(n * ttl / 8, "move", None, Act::Move(random.usize(..HOLDS), random.usize(..NODES)));
    }
    plan
}

fn kills(random: &mut Rng, ttl: u64) -> Plan {
    let mut plan = Plan::default();
    for n in 0..NODES as u64 * 2 {
        let (node, at) = (n as usize % NODES, n * ttl * 2 + random.u64(..ttl / 2));
        plan.fault(at, "SIGKILL", Some(node), Act::Kill(node)).then(at + ttl / 2, Act::Start(node, false));
    }
    plan.ordered()
}

/// Leases move after a copy was taken, and then the copy takes the database's place.
fn rollback(random: &mut Rng, ttl: u64) -> Plan {
    let mut plan = Plan { restarts: true, ..Plan::default() };
    plan.then(0, Act::Copy);
    for n in 0..12 {
        plan.then(ttl * 4 + n * ttl / 6, Act::Move(random.usize(..HOLDS), random.usize(..NODES)));
    }
    plan.fault(ttl * 7, "database replaced by an older copy", None, Act::Crash);
    plan.then(ttl * 7 + 1, Act::RollBack).then(ttl * 7 + 2, Act::Up);
    plan.ordered()
}

/// Somebody whose trust lasts long joins after a copy was taken, and is cut off when the copy takes the database's place: nothing is
/// known of it there.
fn cut_off_and_forgotten(random: &mut Rng, ttl: u64) -> Plan {
    const LONG: usize = 2;
    let mut plan = Plan { restarts: true, ..Plan::default() };
    plan.then(0, Act::Copy).then(ttl * 5, Act::Kill(LONG)).then(ttl * 5 + 1, Act::Start(LONG, false));
    let joined = ttl * 12;
    for hold in 0..HOLDS {
        plan.then(joined, Act::Move(hold, LONG));
    }
    let cut = joined + ttl + random.u64(..ttl);
    plan.then(cut, Act::Net(LONG, Net::BlackHole));
    plan.fault(cut + 1, "database replaced by an older copy", None, Act::Crash);
    plan.then(cut + 2, Act::RollBack).then(cut + 3, Act::Up).then(cut + ttl * 6, Act::Net(LONG, Net::None));
    plan.ordered()
}

/// Whether all were convicted, each within so many seeds.
pub(crate) async fn all(place: &Place, seed: u64, seeds: u64, only: &[String]) -> Result<bool> {
    let Where { database, own } = &place.database;
    let postgres =
        *own == Some(Own::Postgres) || database.as_ref().is_some_and(|url| url.starts_with("postgres"));
    ensure!(postgres, "statements are broken in PostgreSQL's words: give a URL of one, or --own postgres");
    let known = mutations();
    for name in only {
        ensure!(
            known.iter().any(|mutation| mutation.name == name),
            "no mutation is called {name}; there are {}",
            known.iter().map(|mutation| mutation.name).collect::<Vec<_>>().join(", ")
        );
    }
    let is_asked = |mutation: &Mutation| only.is_empty() || only.iter().any(|name| name == mutation.name);
    let (asked, without): (Vec<_>, Vec<_>) = known
        .into_iter()
        .filter(is_asked)
        .partition(|mutation| mutation.broker.is_none_or(|of| place.has(of)));
    for mutation in without {
        ensure!(only.is_empty(), "{}: give --rabbitmq or --kafka, which it consumes from", mutation.name);
        eprintln!("{} is left out: it takes a broker", mutation.name);
    }
    println!("| mechanism switched off | convicted of | with seed |\n|---|---|---:|");
    let mut survivors = Vec::new();
    for mutation in asked {
        if !mutation.is_convicted(place, seed, seeds).await? {
            survivors.push(mutation.name);
        }
    }
    if survivors.is_empty() {
        println!("\nevery mechanism is missed when it is switched off");
    } else {
        println!("\nnot convicted: {}", survivors.join(", "));
    }
    Ok(survivors.is_empty())
}

impl Place {
    fn has(&self, artifact: &str) -> bool {
        match artifact {
            QUEUE => self.brokers.rabbitmq.is_some(),
            _ => self.brokers.kafka.is_some(),
        }
    }
}

impl Mutation {
    async fn round(&self, place: &Place, setting: &Setting, plan: &Plan, seed: u64) -> Result<Outcome> {
        let own = Where { database: None, own: Some(Own::Postgres) };
        let database = Database::create(if self.own { &own } else { &place.database }).await?;
        let brokers = place.brokers.only(self.broker.unwrap_or_default());
        let brokers = Brokers::create(&brokers, setting.nodes, self.way).await?;
        round::run(&database, &brokers, setting, plan, seed).await
    }

    async fn is_convicted(&self, place: &Place, seed: u64, seeds: u64) -> Result<bool> {
        let healthy = (self.setting)();
        let broken = Setting { broken: Some(self.broken.clone()), ..healthy.clone() };
        for seed in seed..seed + seeds {
            let plan = (self.plan)(&mut Rng::with_seed(seed), healthy.ttl_ms);
            let outcome = self.round(place, &broken, &plan, seed).await?;
            if let Broken::Text { what, .. } = &self.broken
                && what != NO_TEXT
            {
                ensure!(
                    outcome.mutated > 0,
                    "{}: no statement has the text that was to be replaced",
                    self.name
                );
            }
            // That something takes longer is no conviction: a machine may be busy.
            let safety = |found: &&Violation| !round::LIVENESS.contains(&found.promise);
            let Some(found) = outcome.violations.iter().find(safety) else { continue };
            println!("| {} | {}: {} | {seed} |", self.name, found.promise, found.what);
            let control = Setting { pace: Pace::True, ..healthy };
            let outcome = self.round(place, &control, &plan, seed).await?;
            if let Some(found) = outcome.violations.first() {
                outcome.explain(&plan);
                anyhow::bail!("{}: with the mechanism, too: {}", self.name, found.promise);
            }
            return Ok(true);
        }
        println!("| {} | NOT CONVICTED | |", self.name);
        Ok(false)
    }
}
