//! A cluster in one process, for people who write handlers and plugins: real nodes on an SQLite file, with clocks that a test stops.
//!
//! What goes wrong at night goes wrong here on purpose: [`freeze`](FakeCluster::freeze) a node, which believes to hold its leases while
//! others take over; [`lose`](FakeCluster::lose) a lease under the feet of its holder; [`fail_over`](FakeCluster::fail_over). A
//! [`Recorder`](crate::recorder::Recorder) tells what was done under an old token.
//!
//! `tests/planted_bug.rs` finds a mistake of a handler with it:
//!
//! ```
//! # use leasehold_core::{lead::Lead, lease::Lease};
//! # use leasehold_testkit::{fake::FakeCluster, recorder::Recorder};
//! # #[tokio::main] async fn main() {
//! let recorder = Recorder::default();
//! let effects = recorder.clone();
//! let cluster = FakeCluster::start(["a", "b"], move |node| {
//!     let effects = effects.clone();
//!     let lead = Lead::new("import", move |lease: Lease| {
//!         let effects = effects.clone();
//!         async move {
//!             effects.effect(&lease, "begins");
//!             lease.revoked().await;
//!             Ok(())
//!         }
//!     });
//!     node.artifact(lead.unwrap())
//! })
//! .await;
//! let holder = cluster.holder("import").await;
//! cluster.freeze(&holder);
//! let next = cluster.holder_other_than("import", &holder).await;
//! cluster.thaw(&holder);
//! assert_ne!(next, holder);
//! recorder.assert_no_effect_with_old_token();
//! cluster.stop().await;
//! # }
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leasehold_core::node::{Node, NodeBuilder};
use sea_orm::{ConnectionTrait, Statement, Value};

use crate::clock::ManualClock;
use crate::cluster::Cluster;

/// Long enough that a busy machine does not look dead, short enough to wait for.
pub const TTL: Duration = Duration::from_millis(1000);
/// Only a hang takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a wait looks again at what no node tells of.
const LOOK: Duration = Duration::from_millis(10);

/// Nodes of one cluster in this process.
#[derive(Debug)]
pub struct FakeCluster {
    cluster: Cluster,
    nodes: BTreeMap<String, (Node, ManualClock)>,
}

#[allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot have its cluster fails, and says why"
)]
impl FakeCluster {
    /// Starts nodes of these names; `deploy` gives each its artifacts.
    ///
    /// # Panics
    /// When a node does not start, because its artifacts are refused, for example.
    pub async fn start<'a>(
        names: impl IntoIterator<Item = &'a str>,
        deploy: impl Fn(NodeBuilder) -> NodeBuilder,
    ) -> Self {
        let cluster = Cluster::sqlite().await;
        let mut nodes = BTreeMap::new();
        for name in names {
            let clock = ManualClock::default();
            let node = cluster.builder(name).ttl(TTL).clock(Arc::new(clock.clone()));
            let node = deploy(node).start().await.expect("the node starts");
            nodes.insert(name.to_owned(), (node, clock));
        }
        Self { cluster, nodes }
    }

    fn of(&self, name: &str) -> &(Node, ManualClock) {
        self.nodes.get(name).unwrap_or_else(|| panic!("no node is called {name}"))
    }

    /// A node.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn node(&self, name: &str) -> &Node {
        &self.of(name).0
    }

    /// Waits until a node runs the artifact; which.
    ///
    /// # Panics
    /// When nobody does within a minute.
    pub async fn holder(&self, artifact: &str) -> String {
        self.holder_other_than(artifact, "").await
    }

    /// Waits until another node than this one runs the artifact; which.
    ///
    /// # Panics
    /// When nobody does within a minute.
    pub async fn holder_other_than(&self, artifact: &str, not: &str) -> String {
        let runs = |(name, (node, _)): &(&String, &(Node, ManualClock))| {
            name.as_str() != not && node.status().borrow().runs(artifact)
        };
        let looking = async {
            loop {
                if let Some((name, _)) = self.nodes.iter().find(runs) {
                    return name.clone();
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .unwrap_or_else(|_| panic!("nobody runs {artifact} within {PATIENCE:?}"))
    }

    /// Stops a node's clock. As a process that is paused it renews nothing, and believes to hold what it held; other than one, its
    /// handlers go on, which is the worst that can happen.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn freeze(&self, name: &str) {
        self.of(name).1.freeze();
    }

    /// Lets a node's clock go on, from where it would be.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn thaw(&self, name: &str) {
        self.of(name).1.thaw();
    }

    /// Sets the clocks of all nodes ahead, as after a sleep of the machine.
    pub fn advance(&self, by: Duration) {
        self.nodes.values().for_each(|(_, clock)| clock.advance(by));
    }

    /// Takes the lease away under the feet of its holder, who does not know for a moment: a higher token was granted. What it
    /// fences from now on fails.
    ///
    /// # Panics
    /// When nobody holds the artifact.
    pub async fn lose(&self, artifact: &str) {
        let text = "update leasehold_lease set token = token + 1, holder = null \
                    where cluster = ?1 and artifact = ?2 and holder is not null";
        assert!(self.execute(text, [artifact.into()]).await > 0, "nobody holds {artifact}");
    }

    /// Ends the session of the artifact's holder, as if it were dead, and waits until another node runs it; which.
    ///
    /// # Panics
    /// When there is no other.
    pub async fn fail_over(&self, artifact: &str) -> String {
        let holder = self.holder(artifact).await;
        let text = "delete from leasehold_node where cluster = ?1 and node_id = ?2";
        self.execute(text, [holder.as_str().into()]).await;
        self.holder_other_than(artifact, &holder).await
    }

    async fn execute(&self, text: &str, values: impl IntoIterator<Item = Value>) -> u64 {
        let db = &self.cluster.db;
        let values = [self.cluster.name.as_str().into()].into_iter().chain(values);
        let statement = Statement::from_sql_and_values(db.get_database_backend(), text, values);
        db.execute_raw(statement).await.expect("the file is there").rows_affected()
    }

    /// The database in which the nodes meet, for tables of a test's own.
    pub fn database(&self) -> &sea_orm::DatabaseConnection {
        &self.cluster.db
    }

    /// Stops all nodes politely.
    pub async fn stop(self) {
        for (node, clock) in self.nodes.into_values() {
            clock.thaw();
            node.shutdown().await;
        }
    }
}
