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
pub(crate) struct Count(Arc<Counted>);

#[derive(Default)]
struct Counted {
    taken: AtomicUsize,
    /// Somebody waits until so many have come: to be woken for each one would cost what is measured.
    awaited: AtomicUsize,
    reached: Notify,
}

impl Count {
    pub(crate) fn add(&self) {
        let taken = self.0.taken.fetch_add(1, Ordering::SeqCst) + 1;
        if taken >= self.0.awaited.load(Ordering::SeqCst) {
            self.0.reached.notify_one();
        }
    }

    /// Waits until so many have come. One waits at a time.
    pub(crate) async fn reaches(&self, many: usize) {
        self.0.awaited.store(many, Ordering::SeqCst);
        while self.0.taken.load(Ordering::SeqCst) < many {
            self.0.reached.notified().await;
        }
        self.0.awaited.store(usize::MAX, Ordering::SeqCst);
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
