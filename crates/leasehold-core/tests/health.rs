//! Whether a node is well, as probes and metrics tell it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]
#![cfg(feature = "sqlite")]

use std::time::Duration;

use leasehold_core::health::Health;
use leasehold_core::lead::Lead;
use leasehold_core::lease::Lease;
use leasehold_core::node::Node;
use metrics_exporter_prometheus::PrometheusBuilder;
use sea_orm::{Database, SqliteTransactionMode, TransactionOptions, TransactionTrait};

const TTL: Duration = Duration::from_millis(1600);
/// Only a hang takes longer.
const HANG: Duration = Duration::from_secs(60);

async fn until(node: &Node, wanted: impl Fn(&Health) -> bool) -> Health {
    let look = async {
        loop {
            let health = node.health();
            if wanted(&health) {
                return health;
            }
            // Trust runs out by itself: nothing tells of it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, look).await.unwrap_or_else(|_| panic!("never so: {:?}", node.health()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_renew_is_live_and_comes_back() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/app.db?mode=rwc", folder.path().display());
    let job = Lead::new("import", |lease: Lease| async move {
        lease.revoked().await;
        Ok(())
    });
    let node = Node::builder(url.as_str()).cluster("orders").node_id("a").ttl(TTL).artifact(job.unwrap());
    let node = node.start().await.unwrap();
    let well = until(&node, |health| health.held == 1).await;
    assert!(well.live && well.ready && !well.holds_and_cannot_renew && well.leads, "{well:?}");
    assert!(well.trust_remaining > Duration::ZERO && well.database_seen.unwrap() < TTL, "{well:?}");

    // The database takes no write any more, as in an outage.
    let db = Database::connect(&url).await.unwrap();
    let immediate = Some(SqliteTransactionMode::Immediate);
    let outage = db
        .begin_with_options(TransactionOptions { sqlite_transaction_mode: immediate, ..Default::default() })
        .await
        .unwrap();
    let worried = until(&node, |health| health.holds_and_cannot_renew).await;
    assert!(worried.live && worried.ready, "it holds and trusts still: {worried:?}");
    let unready = until(&node, |health| !health.ready).await;
    assert!(unready.live && unready.held == 0, "a restart would not help: {unready:?}");
    outage.rollback().await.unwrap();
    let back = until(&node, |health| health.ready && health.held == 1).await;
    assert!(back.live && !back.holds_and_cannot_renew);

    let text = shown.render();
    for metric in
        ["leasehold_leases_held", "leasehold_grants_total", "leasehold_renewal_seconds", "leasehold_leader"]
    {
        assert!(
            text.contains(&format!("{metric}{{cluster=\"orders\",node=\"a\"")),
            "{metric} is not in {text}"
        );
    }
    let probe = node.health_probe();
    node.shutdown().await;
    let left = probe.health();
    assert!(left.live && !left.ready, "{left:?}");
}

#[cfg(feature = "health")]
#[tokio::test]
async fn probes_ask_over_http() {
    use tower_service::Service;

    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/app.db?mode=rwc", folder.path().display());
    let node = Node::builder(url).ttl(TTL).start().await.unwrap();
    let mut service = node.health_service();
    let mut ask = async |path: &str| {
        let request = http::Request::builder().uri(path).body(()).unwrap();
        let response = service.call(request).await.unwrap();
        (response.status().as_u16(), response.into_body())
    };
    let (status, body) = ask("/health/ready").await;
    assert_eq!(status, 200, "{body}");
    let fields: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&fields["live"], &fields["ready"]), (&true.into(), &true.into()));
    assert!(fields["trust_remaining_ms"].as_u64().unwrap() > 0 && fields["database_seen_ms"].is_u64());
    assert_eq!(ask("/elsewhere").await.0, 404);
    node.shutdown().await;
    assert_eq!((ask("/live").await.0, ask("/ready").await.0), (200, 503));
}
