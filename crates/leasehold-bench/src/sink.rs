//! An endpoint of HTTP that takes everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use tokio::sync::Notify;

/// What it has taken.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<(AtomicUsize, Notify)>);

impl Count {
    pub(crate) fn add(&self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        self.0.1.notify_one();
    }

    /// Waits until so many have come.
    pub(crate) async fn reaches(&self, many: usize) {
        while self.0.0.load(Ordering::Relaxed) < many {
            self.0.1.notified().await;
        }
    }
}

async fn take(State(count): State<Count>, body: Bytes) {
    std::hint::black_box(body);
    count.add();
}

/// Starts it on a runtime of its own, beside what is measured.
pub(crate) fn start() -> Result<(SocketAddr, Count)> {
    let count = Count::default();
    let app = Router::new().route("/", post(take)).with_state(count.clone());
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, app).await
        })
    });
    Ok((address, count))
}
