//! A replica: a node that runs the proof's work, and tells the recorder what it believes.

use std::time::Duration;

use anyhow::Result;
use leasehold::prelude::*;
use leasehold::processor::Breaker;
use leasehold_core::node::NodeBuilder;
use leasehold_core::protocol::rules::{Rule, Rules};
use leasehold_core::store::mutation;
use leasehold_core::wall;
use sea_orm::ConnectOptions;
use serde::{Deserialize, Serialize};

use crate::brokers::Consume;
use crate::clock::Pace;
use crate::deliver::Deliver;
use crate::failpoint::{self, Failpoint};
use crate::record::Told;
use crate::work::{self, Voice};

/// The cluster's name.
pub(crate) const CLUSTER: &str = "proof";
/// The processor, which delivers what is in the message store.
pub(crate) const PUSH: &str = "push";
/// So many of its messages are delivered at once.
pub(crate) const AT_ONCE: usize = 4;
/// The message store.
pub(crate) const STORE: &str = "parcels";
/// So many artifacts only hold their leases and write effects.
pub(crate) const HOLDS: usize = 4;
/// How far apart the slots of the task are.
pub(crate) const PERIOD: Duration = Duration::from_millis(250);

/// How long it waits before it starts anew.
const AGAIN: Duration = Duration::from_millis(200);

/// A mechanism that is switched off in a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Broken {
    /// A fragment of a statement stands for another.
    Text { what: String, by: String },
    /// A node adopts another database after its own ttl.
    AdoptionWaitsMaxTtl,
    /// The keeper gives a revoked lease away before the run has ended.
    ReleasesEarly,
    /// What this artifact delivers was acknowledged before.
    AcknowledgesFirst { artifact: String },
    /// No consumer waits at the broker for the one before it.
    ConsumesUnfenced,
    /// The effect of a message, and how far its topic has come, commit one after the other.
    RecordsApart,
}

/// What a replica is told by whoever starts it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) database: String,
    pub(crate) recorder: String,
    pub(crate) ttl_ms: u64,
    pub(crate) max_ttl_ms: u64,
    pub(crate) pace: Pace,
    /// An artifact that only a newer program has.
    pub(crate) newer: bool,
    /// Holds fenced transactions open for so long now and then, and empties the node's pool.
    pub(crate) rough_ms: u64,
    pub(crate) seed: u64,
    pub(crate) consume: Vec<Consume>,
    pub(crate) failpoint: Option<Failpoint>,
    /// So much its wall clock is ahead.
    pub(crate) wall_ms: i64,
    pub(crate) broken: Option<Broken>,
}

/// Runs until it is asked to end. What cannot be reached when it starts is tried again, as whoever starts services would.
pub(crate) async fn run(options: &str) -> Result<()> {
    let options: Options = serde_json::from_str(options)?;
    let voice = Voice::new(&options.name, &options.recorder);
    failpoint::arm(&options);
    wall::set_ahead(options.wall_ms);
    let mut connect = ConnectOptions::new(options.database.as_str());
    connect.max_connections(2).sqlx_logging(false).connect_lazy(true);
    let db = sea_orm::Database::connect(connect).await?;
    if let Some(Broken::Text { what, by }) = &options.broken {
        mutation::replace(what, by);
    }
    let node = loop {
        match builder(&options, &voice, &db)?.start().await {
            Ok(node) => break node,
            Err(error) if error.is_temporary() => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    };
    if options.broken.is_some() {
        let told = voice.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                // The recorder ends first.
                let _ = told.tell(vec![Told::Mutated { statements: mutation::applied() }]).await;
            }
        });
    }
    node.run_until_signal().await;
    voice.finish().await;
    Ok(())
}

fn builder(options: &Options, voice: &Voice, db: &sea_orm::DatabaseConnection) -> Result<NodeBuilder> {
    let mut node = Node::builder(options.database.as_str())
        .cluster(CLUSTER)
        .node_id(&options.name)
        .placement(Placement::round_robin())
        .clock(options.pace.clock())
        .ttl(Duration::from_millis(options.ttl_ms))
        .max_ttl(Duration::from_millis(options.max_ttl_ms))
        .drain_timeout(Duration::from_secs(2));
    node = match &options.broken {
        Some(Broken::AdoptionWaitsMaxTtl) => node.rules(Rules::without(Rule::AdoptionWaitsMaxTtl)),
        Some(Broken::ReleasesEarly) => node.rules(Rules::releasing_before_drain()),
        Some(
            Broken::Text { .. }
            | Broken::AcknowledgesFirst { .. }
            | Broken::ConsumesUnfenced
            | Broken::RecordsApart,
        )
        | None => node,
    };
    let extra = usize::from(options.newer);
    for number in 0..HOLDS + extra {
        let work = work::Hold::new(options, voice.clone(), number as u64);
        node = node.artifact(Lead::new(format!("hold-{number}"), move |lease| work.clone().run(lease))?);
    }
    let told = voice.clone();
    let task = Task::fixed_rate("tick", PERIOD)?
        .overlap(Overlap::Queue)
        .misfire(Misfire::FireAll { limit: 10_000 })
        .handler(move |firing: Firing| {
            let told = told.clone();
            async move {
                let (slot, attempt) = (firing.slot().timestamp_millis(), firing.attempt());
                Ok(told.tell(vec![Told::Fired { slot, attempt, token: firing.lease().token().0 }]).await?)
            }
        });
    node = node.artifact(task);
    let store = SqlStore::new(db, STORE)?;
    let processor = Processor::new(PUSH, store, Deliver::new(options, voice, PUSH)?)?
        .order(Order::PerKey(AT_ONCE))
        .attempts(1_000_000)
        .backoff(Duration::from_millis(50), Duration::from_millis(200))
        .breaker(Breaker { pause: Duration::from_millis(200), ..Breaker::default() })
        .poll(Duration::from_millis(50));
    node = node.artifact(processor);
    let fenced = options.broken != Some(Broken::ConsumesUnfenced);
    for consume in &options.consume {
        let handler = Deliver::new(options, voice, consume.artifact())?;
        node = consume.on(node, handler, fenced)?;
    }
    Ok(node)
}
