//! Endpoints on real nodes and real databases.

#[cfg(feature = "files")]
mod files;
#[cfg(feature = "http")]
mod http;
mod own;
#[cfg(feature = "sql")]
mod sql;

use std::time::Duration;

use leasehold_core::artifact::Artifact;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::node::Node;
use leasehold_testkit::cluster::Cluster;
pub(crate) use leasehold_testkit::condition::{impaired, shown as condition};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// Only a hang takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The pause of schedules and retries here.
pub(crate) const SOON: Duration = Duration::from_millis(20);

pub(crate) async fn next<T>(inbox: &mut UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, inbox.recv()).await.expect("in time").expect("a sender")
}

/// On each database of this build.
#[allow(dead_code, reason = "not in all feature combinations")]
pub(crate) async fn on_each<F: Future<Output = ()>>(test: impl Fn(Cluster) -> F) {
    test(Cluster::sqlite().await).await;
    #[cfg(feature = "test-postgres")]
    test(Cluster::on("LEASEHOLD_TEST_POSTGRES").await).await;
    #[cfg(feature = "test-mariadb")]
    test(Cluster::on("LEASEHOLD_TEST_MARIADB").await).await;
    #[cfg(feature = "test-mysql")]
    test(Cluster::on("LEASEHOLD_TEST_MYSQL").await).await;
}

pub(crate) async fn start(cluster: &Cluster, id: &str, artifact: impl Artifact) -> Node {
    // Long enough that a busy machine does not look like death.
    cluster.builder(id).ttl(Duration::from_secs(5)).artifact(artifact).start().await.unwrap()
}

/// A handler that tells the texts it gets, with their attempts.
pub(crate) fn teller(
    tell: UnboundedSender<(String, u32)>,
) -> impl Fn(Message, Lease) -> std::future::Ready<Result<(), HandlerError>> + Send + Sync + 'static {
    move |message: Message, _: Lease| {
        let told = message.text().map(|text| tell.send((text.to_owned(), message.attempt())));
        // A test that has ended listens no more.
        std::future::ready(told.map(drop).map_err(HandlerError::from))
    }
}

/// Waits until it is so: for what others do and nobody tells.
pub(crate) async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(SOON).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "in vain: {what}");
}
