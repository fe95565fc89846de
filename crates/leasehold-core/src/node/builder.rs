//! Everything a node is told before it starts, checked together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::{DatabaseConnection, DbBackend};
use uuid::Uuid;

use super::Node;
use crate::artifact::{Artifact, SharedArtifact};
use crate::clock::{BootClock, Clock};
use crate::error::Error;
use crate::health::{HealthProbe, Vitals};
use crate::keeper::{self, Setup};
use crate::name::{ClusterName, NodeId};
use crate::proof::Proof;
use crate::protocol::Config;
use crate::protocol::request::{Deployed, Deployment, Labels, Placement, Request};
use crate::protocol::rules::Rules;
use crate::resolver::{Resolver, Resolvers};
use crate::status::{State, Status};
use crate::store::{self, Link, Target};
use crate::timing::Timings;

/// The most connections of the pool for plugins' fenced writes, when the node opens one itself.
const WORK_CONNECTIONS: u32 = 4;

/// A database: by URL, or as a connection that the program has already.
#[derive(Clone)]
pub enum Database {
    /// `sqlite://…` or `postgres://…`.
    Url(String),
    /// A connection of sea-orm's. The keeper opens connections of its own to the same place.
    Connection(DatabaseConnection),
}

impl From<&str> for Database {
    fn from(url: &str) -> Self {
        Self::Url(url.to_owned())
    }
}

impl From<String> for Database {
    fn from(url: String) -> Self {
        Self::Url(url)
    }
}

impl From<&DatabaseConnection> for Database {
    fn from(connection: &DatabaseConnection) -> Self {
        Self::Connection(connection.clone())
    }
}

impl From<DatabaseConnection> for Database {
    fn from(connection: DatabaseConnection) -> Self {
        Self::Connection(connection)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL holds a password.
        f.write_str(match self {
            Self::Url(_) => "Database::Url(..)",
            Self::Connection(_) => "Database::Connection(..)",
        })
    }
}

/// What artifacts get that do not say otherwise.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    placement: Placement,
    resolvers: Resolvers,
}

impl Defaults {
    /// The deployment of these artifacts.
    pub(super) fn deployment(&self, artifacts: &[SharedArtifact]) -> Result<Deployment, Error> {
        let mut all = BTreeMap::new();
        for artifact in artifacts {
            let name = artifact.name().clone();
            let placement = artifact.placement().unwrap_or(&self.placement).clone();
            let problem = |problem: String| Error::artifact(name.as_str(), format!("placement: {problem}"));
            placement.validate().map_err(problem)?;
            self.resolvers.get(&placement.resolver).map_err(|error| problem(error.to_string()))?;
            // A new placement is a new configuration, whatever the artifact says of itself.
            let placed = serde_json::to_vec(&placement).unwrap_or_default();
            let fingerprint = Uuid::new_v5(&artifact.fingerprint(), &placed);
            let deployed = Deployed { kind: artifact.kind(), fingerprint, placement };
            if all.insert(name.clone(), deployed).is_some() {
                return Err(Error::artifact(
                    name.as_str(),
                    "is deployed twice on this node; give each artifact its own name",
                ));
            }
        }
        Ok(Deployment::new(all))
    }
}

/// Everything a node is told before it starts. Nothing is checked before [`start`](NodeBuilder::start).
#[derive(Debug)]
pub struct NodeBuilder {
    database: Database,
    cluster: String,
    node: Option<String>,
    labels: Labels,
    ttl: Duration,
    renew: Option<Duration>,
    watch: Option<Duration>,
    margin: Option<Duration>,
    drain: Option<Duration>,
    stall: Option<Duration>,
    max_ttl: Option<Duration>,
    yield_when_stalled: bool,
    migrate: bool,
    lock_file: Option<PathBuf>,
    placement: Placement,
    resolvers: Resolvers,
    artifacts: Vec<PendingArtifact>,
    clock: Arc<dyn Clock>,
    rules: Rules,
}

/// An artifact, or why there is none: builders of artifacts report when the node starts.
struct PendingArtifact(Result<SharedArtifact, Error>);

impl fmt::Debug for PendingArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(artifact) => fmt::Debug::fmt(artifact.name(), f),
            Err(error) => fmt::Debug::fmt(error, f),
        }
    }
}

impl NodeBuilder {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database,
            cluster: "default".to_owned(),
            node: None,
            labels: Labels::new(),
            ttl: crate::timing::DEFAULT_TTL,
            renew: None,
            watch: None,
            margin: None,
            drain: None,
            stall: None,
            max_ttl: None,
            yield_when_stalled: false,
            migrate: true,
            lock_file: None,
            placement: Placement::active_passive(),
            resolvers: Resolvers::default(),
            artifacts: Vec::new(),
            clock: Arc::new(BootClock),
            rules: Rules::default(),
        }
    }

    /// The cluster to join; `default` unless set.
    #[must_use]
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.cluster = name.into();
        self
    }

    /// The node's id; random unless set. Two live nodes of a cluster never have the same.
    #[must_use]
    pub fn node_id(mut self, id: impl Into<String>) -> Self {
        self.node = Some(id.into());
        self
    }

    /// A label, for selection.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// How long the session lives in the eyes of others after a renewal; 5 s unless set, at least 500 ms. The other
    /// timings follow from it unless they are set.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Time between renewals; `ttl / 4` unless set.
    #[must_use]
    pub fn renew(mut self, renew: Duration) -> Self {
        self.renew = Some(renew);
        self
    }

    /// Time between reads of the cluster; the smaller of 250 ms and `ttl / 8` unless set.
    #[must_use]
    pub fn watch(mut self, watch: Duration) -> Self {
        self.watch = Some(watch);
        self
    }

    /// How much earlier than `ttl` the node stops trusting its session; `ttl / 5` unless set.
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(margin);
        self
    }

    /// How long a run may finish its work after a polite revocation; 20 s unless set.
    #[must_use]
    pub fn drain_timeout(mut self, drain: Duration) -> Self {
        self.drain = Some(drain);
        self
    }

    /// How long the runtime may not run tasks before that is reported; 60 s unless set.
    #[must_use]
    pub fn stall(mut self, stall: Duration) -> Self {
        self.stall = Some(stall);
        self
    }

    /// Gives the leases up while the runtime is stalled. Off unless set.
    #[must_use]
    pub fn yield_when_stalled(mut self, yields: bool) -> Self {
        self.yield_when_stalled = yields;
        self
    }

    /// The longest ttl of the cluster, if this node creates it; the node's own ttl unless set.
    #[must_use]
    pub fn max_ttl(mut self, max_ttl: Duration) -> Self {
        self.max_ttl = Some(max_ttl);
        self
    }

    /// Whether the node brings the schema up to date when it starts; it does unless set. Otherwise it runs on a
    /// prepared one.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// A file that this node locks for as long as its process lives, on a local file system (Unix only). When the process
    /// dies, the next one that takes the lock knows it, ends its session at once and need not wait out its ttl: a restart with the
    /// same [`node_id`](NodeBuilder::node_id) comes back in milliseconds. Each replica of a machine needs a file of its own.
    #[must_use]
    pub fn lock_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.lock_file = Some(path.into());
        self
    }

    /// How artifacts are placed that do not say so themselves; [`Placement::active_passive`] unless set.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// One more resolver, for placements [by its name](Placement::by). Every node should have it: a leader without it
    /// plans nothing, until another node takes its place.
    #[must_use]
    pub fn add_resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolvers.add(Arc::new(resolver));
        self
    }

    /// An artifact.
    #[must_use]
    pub fn artifact(mut self, artifact: impl Artifact) -> Self {
        let checked = artifact.validate().map(|()| Arc::new(artifact) as SharedArtifact);
        self.artifacts.push(PendingArtifact(checked));
        self
    }

    /// Another monotonic clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Leaves a rule of the protocol out, for the proof: its checks must be able to fail.
    #[cfg(feature = "mutations")]
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    fn timings(&self) -> Timings {
        let derived = Timings::derived(self.ttl);
        Timings {
            ttl: self.ttl,
            renew: self.renew.unwrap_or(derived.renew),
            watch: self.watch.unwrap_or(derived.watch),
            margin: self.margin.unwrap_or(derived.margin),
            drain: self.drain.unwrap_or(derived.drain),
            stall: self.stall.unwrap_or(derived.stall),
        }
    }

    /// Checks everything, brings the schema up to date, joins the cluster. Artifacts run on the runtime on which this
    /// is called. Not cancellation safe in the sense that a dropped call may leave a session that expires by itself.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Timing`], [`Error::Artifact`] for what cannot work, with nothing changed in the
    /// database. [`Error::Store`] for a database that cannot be reached, is read-only, not durable, or holds tables
    /// of another program. [`Error::Refused`] when the cluster does not take the node: its id is in use, its ttl is
    /// too long, the program is too old. [`Error::Unproven`] when the supervisor that the environment names takes this process
    /// for no child of its own, or when another process holds the lock file. [`Error::NotJoined`] when there is no session after
    /// a while.
    pub async fn start(self) -> Result<Node, Error> {
        let cluster = ClusterName::new(&self.cluster)?;
        let random = || format!("node-{}", Uuid::now_v7().simple());
        let node = NodeId::new(self.node.clone().unwrap_or_else(random))?;
        let timings = self.timings().validate()?;
        let defaults = Defaults { placement: self.placement, resolvers: self.resolvers.clone() };
        let artifacts: Result<Vec<_>, _> = self.artifacts.into_iter().map(|pending| pending.0).collect();
        let artifacts = artifacts?;
        let deployment = defaults.deployment(&artifacts)?;

        let target = match &self.database {
            Database::Url(url) => Target::from_url(url)?,
            Database::Connection(connection) => Target::from_connection(connection).await?,
        };
        let reach = match &self.database {
            Database::Url(url) if target.backend() != DbBackend::Sqlite => url.clone(),
            _ => target.reach(),
        };
        let proof = Proof::gather(reach, &cluster, &node, self.lock_file.as_deref()).await?;
        prepare(&target, self.migrate).await?;
        let work = match self.database {
            Database::Connection(connection) => connection,
            Database::Url(_) => target.pool(WORK_CONNECTIONS)?,
        };
        // Kinds and names are checked against the cluster's before anything runs.
        let link = Link::open(&target).await?;
        let max_ttl = self.max_ttl.unwrap_or(timings.ttl);
        link.call(&cluster, &Request::Open { node: node.clone(), max_ttl }).await?;
        link.call(&cluster, &Request::Register { deployment: deployment.clone() }).await?;
        link.close().await;

        let config = Config {
            node,
            timings,
            max_ttl: self.max_ttl,
            labels: Arc::new(self.labels),
            resolvers: self.resolvers,
            rules: self.rules,
        };
        let (clock, vitals) = (self.clock, Arc::<Vitals>::default());
        let (inputs, status) = keeper::spawn(Setup {
            cluster: cluster.clone(),
            target: target.clone(),
            work,
            config,
            clock: Arc::clone(&clock),
            artifacts: artifacts.clone(),
            deployment,
            vitals: Arc::clone(&vitals),
            proof,
            runtime: tokio::runtime::Handle::current(),
            yield_when_stalled: self.yield_when_stalled,
        })?;
        let artifacts = Mutex::new(artifacts);
        let probe = HealthProbe { status, vitals, clock, timings };
        let node = Node { cluster, target, inputs, probe, artifacts, defaults };
        node.joined(timings).await?;
        Ok(node)
    }
}

/// Refuses what cannot carry leases, before anything is changed, and brings the schema up to date.
async fn prepare(target: &Target, migrate: bool) -> Result<(), Error> {
    for doubt in store::inspect(target).await?.doubts {
        tracing::warn!(database = %target, "{}; {}", doubt.text, doubt.remedy);
    }
    if migrate {
        store::migrate(target).await?;
    } else {
        store::verify(target).await?;
    }
    Ok(())
}

impl Node {
    /// Waits for the first renewal. A predecessor with the same node id is waited for as long as it may live.
    async fn joined(&self, timings: Timings) -> Result<(), Error> {
        let mut status = self.status();
        let done = |status: &Status| status.state == State::Joined || status.refusal.is_some();
        let limit = timings.ttl * 4;
        let refused = match tokio::time::timeout(limit, status.wait_for(done)).await {
            Ok(Ok(status)) => status.refusal.clone(),
            Ok(Err(_)) => return Err(Error::Left),
            Err(_) => {
                let last = self.probe.status.borrow().database_error.clone();
                let last = last.map_or_else(|| "none".to_owned(), |error| error.to_string());
                return Err(Error::NotJoined { cluster: self.cluster.clone(), waited: limit, last });
            }
        };
        match refused {
            Some(refusal) => Err(Error::Refused { cluster: self.cluster.clone(), refusal }),
            None => Ok(()),
        }
    }
}
