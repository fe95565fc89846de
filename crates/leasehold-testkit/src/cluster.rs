//! A cluster of its own in a migrated database, for tests of plugins on real nodes.

use leasehold_core::node::{Node, NodeBuilder};
use leasehold_core::store::{Target, migrate};
use sea_orm::DatabaseConnection;
use std::time::Duration;
use uuid::Uuid;

/// A cluster of its own in a migrated database.
// A test that cannot have its database fails, and says why.
#[allow(clippy::unwrap_used, clippy::panic)]
#[derive(Debug)]
pub struct Cluster {
    /// Where nodes of it meet.
    pub url: String,
    /// Its name.
    pub name: String,
    /// A connection to the database.
    pub db: DatabaseConnection,
    _folder: Option<tempfile::TempDir>,
}

#[allow(clippy::unwrap_used, clippy::panic)]
impl Cluster {
    /// In a SQLite file, deleted at the end.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/test.db?mode=rwc", folder.path().display());
        Self::open(url, Some(folder)).await
    }

    /// On the server whose URL this variable of the environment holds.
    ///
    /// # Panics
    /// When the variable is not set, or the server does not answer.
    pub async fn on(variable: &str) -> Self {
        let url = std::env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} must name a server; `scripts/test` starts one and sets it")
        });
        Self::open(url, None).await
    }

    async fn open(url: String, folder: Option<tempfile::TempDir>) -> Self {
        let target = Target::from_url(&url).unwrap();
        migrate(&target).await.unwrap();
        let name = format!("test-{}", Uuid::now_v7().simple());
        Self { db: target.pool(4).unwrap(), url, name, _folder: folder }
    }

    /// A node of it: its sessions live for 1.6 s, and 200 ms after it was asked to leave its runs are cut off.
    pub fn builder(&self, id: &str) -> NodeBuilder {
        let node = Node::builder(self.url.as_str()).cluster(self.name.as_str()).node_id(id);
        node.ttl(Duration::from_millis(1600)).drain_timeout(Duration::from_millis(200))
    }
}
