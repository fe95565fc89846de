//! The other side: an endpoint that fails now and then, and remembers what it got.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::sync::Notify;

/// What it got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) orders: usize,
    /// Numbers of orders, as they came first.
    pub(crate) by_customer: BTreeMap<String, Vec<u64>>,
    /// Replicas, as they came first.
    pub(crate) forwarders: Vec<String>,
    pub(crate) twice: usize,
    pub(crate) refused: usize,
    known: HashSet<String>,
    calls: usize,
}

#[derive(Clone, Default)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    got: Arc<(Mutex<Report>, Notify)>,
}

impl Endpoint {
    pub(crate) async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Self { url: format!("http://{}", listener.local_addr()?), ..Self::default() };
        let app = Router::new().route("/{customer}", post(take)).with_state(endpoint.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(endpoint)
    }

    fn got(&self) -> MutexGuard<'_, Report> {
        self.got.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self) -> Report {
        self.got().clone()
    }

    /// The replica that forwards at present.
    pub(crate) async fn forwarder(&self) -> String {
        loop {
            let changed = self.got.1.notified();
            if let Some(name) = self.got().forwarders.last() {
                return name.clone();
            }
            changed.await;
        }
    }

    /// Waits until so many different orders have come.
    pub(crate) async fn until(&self, orders: usize) -> Result<()> {
        let arrived = async {
            while self.got().orders < orders {
                self.got.1.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived)
            .await
            .context("not all orders arrived within a minute")
    }
}

async fn take(
    State(endpoint): State<Endpoint>,
    Path(customer): Path<String>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut got = endpoint.got();
    got.calls += 1;
    if got.calls.is_multiple_of(7) {
        got.refused += 1;
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let replica = header("x-replica");
    if !got.forwarders.contains(&replica) {
        got.forwarders.push(replica);
    }
    // The same at every delivery of a message: an endpoint that remembers it does nothing twice.
    if !got.known.insert(header("idempotency-key")) {
        got.twice += 1;
        return StatusCode::OK;
    }
    let number = body.split("\"number\":").nth(1).and_then(|rest| rest.trim_end_matches('}').parse().ok());
    got.orders += 1;
    got.by_customer.entry(customer).or_default().push(number.unwrap_or(0));
    drop(got);
    endpoint.got.1.notify_one();
    StatusCode::CREATED
}
