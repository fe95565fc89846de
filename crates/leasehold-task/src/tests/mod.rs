//! Tasks on real nodes and real databases. Every test runs on each database of this build.
#![allow(clippy::disallowed_methods, reason = "schedules are given by the wall clock")]

mod clocks;
mod misfires;
mod policies;
mod record;
mod runs;

use std::future::Future;
use std::time::Duration;

use leasehold_core::artifact::Artifact;
use leasehold_core::node::{Node, NodeBuilder};
use leasehold_core::store::{Target, migrate};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement};
use tokio::sync::mpsc;

use crate::Firing;

/// Far more than anything here takes, so that a machine under load fails no test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of its own in a migrated database.
struct Cluster {
    url: String,
    name: String,
    db: DatabaseConnection,
    _folder: Option<tempfile::TempDir>,
}

impl Cluster {
    async fn on_each<F: Future<Output = ()>>(test: impl Fn(Cluster) -> F) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/test.db?mode=rwc", folder.path().display());
        test(Cluster::open(url, Some(folder)).await).await;
        #[cfg(feature = "test-postgres")]
        {
            let url =
                std::env::var("LEASEHOLD_TEST_POSTGRES").expect("LEASEHOLD_TEST_POSTGRES names a server");
            test(Cluster::open(url, None).await).await;
        }
        #[cfg(feature = "test-mariadb")]
        test(Cluster::open(std::env::var("LEASEHOLD_TEST_MARIADB").expect("it names a server"), None).await)
            .await;
        #[cfg(feature = "test-mysql")]
        test(Cluster::open(std::env::var("LEASEHOLD_TEST_MYSQL").expect("it names a server"), None).await)
            .await;
    }

    async fn open(url: String, folder: Option<tempfile::TempDir>) -> Self {
        let target = Target::from_url(&url).unwrap();
        migrate(&target).await.unwrap();
        let name = format!("test-{}", uuid::Uuid::now_v7().simple());
        Self { db: target.pool(2).unwrap(), url, name, _folder: folder }
    }

    /// A node that is cut off 200 ms after it was asked to leave.
    async fn node(&self, id: &str, artifact: impl Artifact) -> Node {
        self.builder(id).artifact(artifact).start().await.unwrap()
    }

    fn builder(&self, id: &str) -> NodeBuilder {
        let node = Node::builder(self.url.as_str()).cluster(self.name.as_str()).node_id(id);
        node.ttl(Duration::from_millis(1600)).drain_timeout(Duration::from_millis(200))
    }

    /// Rows of a statement in which `:c` stands for the cluster's name, and `:key` for a column's, which MySQL reserves.
    async fn sql(&self, text: &str) -> Vec<QueryResult> {
        let key = if self.db.get_database_backend() == DbBackend::MySql { "`key`" } else { "key" };
        let text = text.replace(":c", &format!("'{}'", self.name)).replace(":key", key);
        self.db.query_all_raw(Statement::from_string(self.db.get_database_backend(), text)).await.unwrap()
    }

    /// Slot, attempt and outcome of all firings of task `t`, in order.
    async fn history(&self) -> Vec<(i64, i64, Option<String>)> {
        let text = "select slot, attempt, outcome from leasehold_firing where cluster = :c and artifact = 't' order by slot";
        let read = |row: &QueryResult| {
            (
                row.try_get("", "slot").unwrap(),
                row.try_get("", "attempt").unwrap(),
                row.try_get("", "outcome").unwrap(),
            )
        };
        self.sql(text).await.iter().map(read).collect()
    }

    /// The first slot of task `t`, as if it had run before.
    async fn set_anchor(&self, anchor: i64) {
        self.sql(&format!(
            "insert into leasehold_checkpoint (cluster, artifact, :key, token, value) \
             values (:c, 't', 'schedule', 0, '{{\"anchor\":{anchor}}}')"
        ))
        .await;
    }
}

/// A firing that a handler saw.
type Seen = (i64, u32);

fn seen(firing: &Firing) -> Seen {
    (firing.slot().timestamp_millis(), firing.attempt())
}

async fn next<T>(inbox: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, inbox.recv()).await.expect("in time").expect("a sender")
}
