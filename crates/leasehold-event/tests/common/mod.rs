//! What the suites of both brokers have in common.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold_core::artifact::Artifact;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::node::{Node, NodeBuilder};
pub use leasehold_testkit::condition::{impaired, shown as condition};
use tokio::sync::{Semaphore, mpsc};

/// Only a hang takes longer.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough that a busy machine does not look like death.
pub const TTL: Duration = Duration::from_secs(2);

/// A cluster in an SQLite file of its own.
pub struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}/test.db?mode=rwc", self.folder.path().display())
    }

    pub fn builder(&self, id: &str) -> NodeBuilder {
        Node::builder(self.url()).cluster("suite").node_id(id).ttl(TTL).drain_timeout(Duration::from_secs(5))
    }

    pub async fn node(&self, id: &str, artifact: impl Artifact) -> Node {
        self.builder(id).artifact(artifact).start().await.unwrap()
    }
}

/// What a handler saw: body and attempt.
pub type Seen = (String, u32);

pub fn seen(message: &Message) -> Seen {
    (message.text().unwrap().to_owned(), message.attempt())
}

pub async fn next<T>(inbox: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, inbox.recv()).await.expect("in time").expect("a sender")
}

/// A handler that tells what it sees, and then waits for a permit.
#[derive(Clone)]
pub struct Gate {
    saw: mpsc::UnboundedSender<Seen>,
    pub permits: Arc<Semaphore>,
    pub leases: Arc<Mutex<Vec<Lease>>>,
}

impl Gate {
    /// One that lets `permits` pass.
    pub fn new(permits: usize) -> (Self, mpsc::UnboundedReceiver<Seen>) {
        let (saw, inbox) = mpsc::unbounded_channel();
        (Self { saw, permits: Arc::new(Semaphore::new(permits)), leases: Arc::default() }, inbox)
    }

    pub async fn pass(self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        self.saw.send(seen(&message))?;
        self.leases.lock().unwrap().push(lease);
        self.permits.acquire().await?.forget();
        Ok(())
    }
}
