//! What a poller must do, as a suite of tests over real nodes: for whoever implements [`Poller`](crate::Poller).
//!
//! Each case gets something to poll that holds nothing yet, and the database in which its nodes meet.
// A case that fails panics, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::control::Control;
use leasehold_core::dispatch::Order;
use leasehold_core::handler::{Handler, HandlerError};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::name::ArtifactName;
use leasehold_core::node::Node;
use leasehold_core::protocol::request::Desired;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{Endpoint, Exhausted, Progress};

/// Far more than anything here takes, so that a machine under load fails no test.
const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(20);

/// Something to poll.
#[async_trait]
pub trait Polled: Send + Sync + 'static {
    /// An endpoint that polls it, as of one process more, with this handler. Each text is a message of its own, whose payload
    /// contains it.
    fn endpoint(&self, probe: Probe) -> Endpoint;

    /// Puts these texts there, after those that were put before.
    async fn put(&self, texts: Vec<String>);
}

/// Something to poll, and the cluster whose nodes do.
pub struct Bed<P> {
    /// What is polled.
    pub polled: P,
    /// The database of the leases.
    pub database: String,
    /// The cluster.
    pub cluster: String,
    /// What is to live as long as the case.
    pub keep: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// The suite as tests, one per case: `poller_conformance!(EXPRESSION)`, where the expression is a future that brings a [`Bed`]. The
/// crate that says so needs `tokio` with the features `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! poller_conformance {
    ($bed:expr) => {
        $crate::poller_conformance!(@cases $bed;
            each_item_comes_once_in_its_order,
            the_next_holder_goes_on_after_a_polite_stop,
            what_was_in_flight_comes_again_and_nothing_else,
            strict_order_waits_for_what_fails,
            what_fails_holds_up_nothing_where_no_order_is_asked_for,
            what_fails_for_good_is_parked_and_told_why,
            attempts_survive_failover,
            effect_and_progress_commit_together,
            what_fails_after_its_commit_is_not_handled_again,
            an_item_that_stops_the_endpoint_stays_where_it_is,
            it_polls_when_it_is_told_to,
            what_is_paused_hands_nothing_over,
        );
    };
    (@cases $bed:expr; $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$case($bed.await).await;
            }
        )*
    };
}

type Judge = Arc<dyn Fn(&str, u32) -> Fate + Send + Sync>;

/// What becomes of a message.
enum Fate {
    Done,
    Fails,
    Rejected,
    /// For ever.
    Hangs,
    /// In a transaction that records its progress; it hangs afterwards, if told so.
    Books(Arc<AtomicBool>),
    /// After such a transaction.
    FailsLate,
}

/// The handler of a case.
pub struct Probe {
    judge: Judge,
    seen: UnboundedSender<(String, u32)>,
}

#[async_trait]
impl Handler for Probe {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        lease.check()?;
        let body = message.text()?;
        // The text that was put, whatever is around it.
        let from = body.find("item-").ok_or_else(|| HandlerError::reject("no item"))?;
        let text: String =
            body[from..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let fate = (self.judge)(&text, message.attempt());
        let tell = || self.seen.send((text.clone(), message.attempt()));
        if !matches!(fate, Fate::Books(_)) {
            // The case may have seen enough.
            let _ = tell();
        }
        let book = async || {
            let db = lease.database().clone();
            let booking = lease
                .transaction(&db, async |txn| Ok::<_, ArtifactError>(message.record(&lease, txn).await?));
            booking.await.map_err(|error| HandlerError::retry(error.to_string()))
        };
        match fate {
            Fate::Done => Ok(()),
            Fate::FailsLate => {
                book().await?;
                Err("it fails after its commit".into())
            }
            Fate::Fails => Err("it is told to fail".into()),
            Fate::Rejected => Err(HandlerError::reject("it is told to be rejected")),
            Fate::Hangs => std::future::pending().await,
            Fate::Books(hangs) => {
                book().await?;
                let _ = tell();
                if hangs.load(Ordering::Relaxed) { std::future::pending().await } else { Ok(()) }
            }
        }
    }
}

impl<P: Polled> Bed<P> {
    fn endpoint(
        &self,
        judge: impl Fn(&str, u32) -> Fate + Send + Sync + 'static,
    ) -> (Endpoint, UnboundedReceiver<(String, u32)>) {
        let (seen, inbox) = unbounded_channel();
        let endpoint = self.polled.endpoint(Probe { judge: Arc::new(judge), seen });
        (endpoint.every(SOON).backoff(SOON, SOON).lag(Duration::ZERO), inbox)
    }

    async fn start(&self, id: &str, endpoint: Endpoint) -> Node {
        let node = Node::builder(self.database.as_str()).cluster(self.cluster.as_str()).node_id(id);
        // Long enough that a busy machine does not look like death: holders leave politely, or are cut off.
        let node = node.ttl(Duration::from_secs(5)).drain_timeout(Duration::from_secs(1));
        node.artifact(endpoint).start().await.unwrap()
    }

    async fn put(&self, range: std::ops::Range<usize>) {
        self.polled.put(range.map(item).collect()).await;
    }
}

fn item(n: usize) -> String {
    format!("item-{n:04}")
}

fn number(text: &str) -> usize {
    text.trim_start_matches("item-").parse().unwrap()
}

async fn next(inbox: &mut UnboundedReceiver<(String, u32)>) -> (String, u32) {
    tokio::time::timeout(PATIENCE, inbox.recv()).await.expect("in time").expect("a sender")
}

async fn expect(inbox: &mut UnboundedReceiver<(String, u32)>, range: std::ops::Range<usize>) {
    for n in range {
        assert_eq!(next(inbox).await, (item(n), 1));
    }
}

/// Two polls, in which nothing may come.
async fn nothing_more(inbox: &mut UnboundedReceiver<(String, u32)>) {
    tokio::time::sleep(SOON * 5).await;
    assert!(inbox.try_recv().is_err(), "something came twice");
}

pub async fn each_item_comes_once_in_its_order<P: Polled>(bed: Bed<P>) {
    bed.put(0..100).await;
    let (endpoint, mut inbox) = bed.endpoint(|_, _| Fate::Done);
    let node = bed.start("a", endpoint.batch(7)).await;
    expect(&mut inbox, 0..100).await;
    bed.put(100..130).await;
    expect(&mut inbox, 100..130).await;
    nothing_more(&mut inbox).await;
    node.shutdown().await;
}

pub async fn the_next_holder_goes_on_after_a_polite_stop<P: Polled>(bed: Bed<P>) {
    let (mut put, mut seen) = (0, 0);
    for (id, more) in [("a", 30), ("b", 30), ("c", 30), ("d", 1)] {
        bed.put(put..put + more).await;
        put += more;
        let (endpoint, mut inbox) = bed.endpoint(|_, _| Fate::Done);
        let node = bed.start(id, endpoint.batch(10)).await;
        // The first ones stop somewhere in the middle.
        let enough = if id == "d" { put } else { put / 2 };
        while seen < enough {
            assert_eq!(next(&mut inbox).await, (item(seen), 1));
            seen += 1;
        }
        node.shutdown().await;
        while let Ok((text, attempt)) = inbox.try_recv() {
            assert_eq!((text, attempt), (item(seen), 1));
            seen += 1;
        }
    }
    assert_eq!(seen, put);
}

pub async fn what_was_in_flight_comes_again_and_nothing_else<P: Polled>(bed: Bed<P>) {
    bed.put(0..20).await;
    let (endpoint, mut inbox) =
        bed.endpoint(|text, _| if number(text) == 5 { Fate::Hangs } else { Fate::Done });
    let node = bed.start("a", endpoint.progress(Progress::AfterHandler).batch(4)).await;
    expect(&mut inbox, 0..6).await;
    // It has committed what was done, and is cut off in the middle of the rest.
    node.shutdown().await;
    let (endpoint, mut inbox) = bed.endpoint(|_, _| Fate::Done);
    let node = bed.start("b", endpoint).await;
    let first = number(&next(&mut inbox).await.0);
    assert!(first <= 5, "{first} came first: something is lost");
    for n in first + 1..20 {
        assert_eq!(next(&mut inbox).await.0, item(n));
    }
    nothing_more(&mut inbox).await;
    node.shutdown().await;
}

pub async fn strict_order_waits_for_what_fails<P: Polled>(bed: Bed<P>) {
    bed.put(0..5).await;
    let (endpoint, mut inbox) =
        bed.endpoint(|text, attempt| if number(text) == 2 && attempt < 3 { Fate::Fails } else { Fate::Done });
    let node = bed.start("a", endpoint).await;
    for (n, attempt) in [(0, 1), (1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1)] {
        assert_eq!(next(&mut inbox).await, (item(n), attempt));
    }
    node.shutdown().await;
}

pub async fn what_fails_holds_up_nothing_where_no_order_is_asked_for<P: Polled>(bed: Bed<P>) {
    bed.put(0..40).await;
    let others = Arc::new(AtomicUsize::new(0));
    let done = Arc::clone(&others);
    let (endpoint, mut inbox) = bed.endpoint(move |text, _| {
        // Not before all others have come.
        if number(text) == 0 && done.load(Ordering::Relaxed) < 39 {
            return Fate::Fails;
        }
        done.fetch_add(1, Ordering::Relaxed);
        Fate::Done
    });
    let endpoint = endpoint.attempts(1_000_000).order(Order::Unordered(4));
    let node = bed.start("a", endpoint.batch(20)).await;
    while others.load(Ordering::Relaxed) < 40 {
        next(&mut inbox).await;
    }
    node.shutdown().await;
}

pub async fn what_fails_for_good_is_parked_and_told_why<P: Polled>(bed: Bed<P>) {
    bed.put(0..4).await;
    let (parked, mut heard) = unbounded_channel();
    let keeper = move |message: Message, _: Lease| {
        let header = |name| message.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let told = (
            message.text().unwrap_or_default().to_owned(),
            header(crate::park::REASON),
            header(crate::park::ATTEMPTS),
        );
        let sent = parked.send(told);
        async move { Ok(sent?) }
    };
    let (endpoint, mut inbox) = bed.endpoint(|text, _| match number(text) {
        1 => Fate::Fails,
        2 => Fate::Rejected,
        _ => Fate::Done,
    });
    let node = bed.start("a", endpoint.attempts(2).exhausted(Exhausted::Park).park_with(keeper)).await;
    for (n, attempt) in [(0, 1), (1, 1), (1, 2), (2, 1), (3, 1)] {
        assert_eq!(next(&mut inbox).await, (item(n), attempt));
    }
    for (n, reason, attempts) in [(1, "it is told to fail", "2"), (2, "it is told to be rejected", "1")] {
        let (text, told, tried) = tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
        assert!(text.contains(&item(n)), "{text}");
        assert_eq!((told.as_deref(), tried.as_deref()), (Some(reason), Some(attempts)));
    }
    nothing_more(&mut inbox).await;
    node.shutdown().await;
}

pub async fn attempts_survive_failover<P: Polled>(bed: Bed<P>) {
    bed.put(0..2).await;
    let (endpoint, mut inbox) =
        bed.endpoint(|_, attempt| if attempt < 3 { Fate::Fails } else { Fate::Hangs });
    let node = bed.start("a", endpoint).await;
    for attempt in 1..=3 {
        assert_eq!(next(&mut inbox).await, (item(0), attempt));
    }
    node.shutdown().await;
    let (endpoint, mut inbox) = bed.endpoint(|_, _| Fate::Done);
    let node = bed.start("b", endpoint).await;
    let (text, attempt) = next(&mut inbox).await;
    assert_eq!(text, item(0));
    // The last one before the end may not have been written.
    assert!(attempt >= 2, "attempt {attempt}: those before are forgotten");
    assert_eq!(next(&mut inbox).await, (item(1), 1));
    node.shutdown().await;
}

pub async fn effect_and_progress_commit_together<P: Polled>(bed: Bed<P>) {
    bed.put(0..6).await;
    let hangs = Arc::new(AtomicBool::new(true));
    let mut booked = Vec::new();
    for id in ["a", "b", "c", "d"] {
        if id == "d" {
            hangs.store(false, Ordering::Relaxed);
        }
        let books = Arc::clone(&hangs);
        let (endpoint, mut inbox) = bed.endpoint(move |_, _| Fate::Books(Arc::clone(&books)));
        let node = bed.start(id, endpoint.progress(Progress::InHandler)).await;
        let wanted = if id == "d" { 6 } else { booked.len() + 1 };
        while booked.len() < wanted {
            booked.push(next(&mut inbox).await.0);
        }
        if id == "d" {
            nothing_more(&mut inbox).await;
        }
        // But for the last, it has committed, and nobody has heard of it.
        node.shutdown().await;
        while let Ok((text, _)) = inbox.try_recv() {
            booked.push(text);
        }
    }
    assert_eq!(booked, (0..6).map(item).collect::<Vec<_>>());
}

pub async fn what_fails_after_its_commit_is_not_handled_again<P: Polled>(bed: Bed<P>) {
    bed.put(0..5).await;
    let (endpoint, mut inbox) = bed.endpoint(|text, _| match number(text) {
        2 => Fate::FailsLate,
        _ => Fate::Books(Arc::default()),
    });
    let node = bed.start("a", endpoint.progress(Progress::InHandler)).await;
    expect(&mut inbox, 0..5).await;
    nothing_more(&mut inbox).await;
    node.shutdown().await;
}

pub async fn an_item_that_stops_the_endpoint_stays_where_it_is<P: Polled>(bed: Bed<P>) {
    bed.put(0..3).await;
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let (endpoint, mut inbox) = bed.endpoint(move |text, _| {
        if number(text) == 1 && !is_mended.load(Ordering::Relaxed) { Fate::Rejected } else { Fate::Done }
    });
    let name = endpoint.config.name.clone();
    let node = bed.start("a", endpoint.exhausted(Exhausted::Stop)).await;
    assert_eq!(next(&mut inbox).await.0, item(0));
    assert_eq!(next(&mut inbox).await.0, item(1));
    let control = Control::open(bed.database.as_str(), bed.cluster.as_str()).await.unwrap();
    let paused = async {
        while !is_paused(&control, &name).await {
            tokio::time::sleep(SOON).await;
        }
    };
    tokio::time::timeout(PATIENCE, paused).await.expect("it pauses itself");
    mended.store(true, Ordering::Relaxed);
    control.resume(&name).await.unwrap();
    assert_eq!(next(&mut inbox).await.0, item(1));
    assert_eq!(next(&mut inbox).await.0, item(2));
    node.shutdown().await;
}

async fn is_paused(control: &Control, name: &ArtifactName) -> bool {
    let overview = control.overview().await.unwrap();
    overview
        .artifacts
        .iter()
        .any(|artifact| artifact.artifact == *name && artifact.desired == Desired::Paused)
}

pub async fn it_polls_when_it_is_told_to<P: Polled>(bed: Bed<P>) {
    let (endpoint, mut inbox) = bed.endpoint(|_, _| Fate::Done);
    let name = endpoint.config.name.clone();
    bed.put(0..1).await;
    let node = bed.start("a", endpoint.every(Duration::from_secs(3600))).await;
    assert_eq!(next(&mut inbox).await.0, item(0));
    bed.put(1..2).await;
    let control = Control::open(bed.database.as_str(), bed.cluster.as_str()).await.unwrap();
    control.poll_now(&name).await.unwrap();
    assert_eq!(next(&mut inbox).await.0, item(1));
    node.shutdown().await;
}

pub async fn what_is_paused_hands_nothing_over<P: Polled>(bed: Bed<P>) {
    bed.put(0..1).await;
    let (endpoint, mut inbox) = bed.endpoint(|_, _| Fate::Done);
    let name = endpoint.config.name.clone();
    let node = bed.start("a", endpoint).await;
    assert_eq!(next(&mut inbox).await.0, item(0));
    let control = Control::open(bed.database.as_str(), bed.cluster.as_str()).await.unwrap();
    control.pause(&name).await.unwrap();
    let mut status = node.status();
    let stopped = status.wait_for(|status| status.running.is_empty());
    tokio::time::timeout(PATIENCE, stopped).await.unwrap().unwrap();
    bed.put(1..2).await;
    nothing_more(&mut inbox).await;
    control.resume(&name).await.unwrap();
    assert_eq!(next(&mut inbox).await.0, item(1));
    node.shutdown().await;
}
