//! A service that exports its metrics for Prometheus, and answers the probes of Kubernetes.
//!
//! `cargo run --example metrics --features health`, and then `curl http://127.0.0.1:9464/metrics`, `/health/live` and
//! `/health/ready`. `docs/metrics.md` has what each metric says, `docs/kubernetes.md` which probe is to ask what.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::routing::get;
use leasehold::prelude::*;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;

/// Histograms keep what was recorded until somebody looks; this drops what is old where nobody does.
const UPKEEP: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<()> {
    // Before the node starts: what it counts is registered then.
    let recorder = PrometheusBuilder::new().install_recorder()?;
    leasehold::telemetry::describe();

    let folder = std::env::temp_dir().join(format!("leasehold-metrics-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let node = Node::builder(format!("sqlite://{}/demo.db?mode=rwc", folder.display()))
        .cluster("metrics-demo")
        .node_id("a")
        .artifact(
            Task::fixed_rate("heartbeat", Duration::from_secs(1))?.handler(|_: Firing| async { Ok(()) }),
        )
        .start()
        .await?;

    let shown = recorder.clone();
    let service = Router::new()
        .route("/metrics", get(move || std::future::ready(shown.render())))
        .nest_service("/health", node.health_service());
    let listener = TcpListener::bind("127.0.0.1:9464").await?;
    println!("http://127.0.0.1:9464/metrics, /health/live and /health/ready; Ctrl-C ends it");
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            recorder.run_upkeep();
        }
    });
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });

    node.run_until_signal().await;
    // Probes are answered until the leases are handed over.
    serving.abort();
    upkeep.abort();
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
