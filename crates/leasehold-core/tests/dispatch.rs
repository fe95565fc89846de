//! The driver of message plugins, on a real node, over a queue in memory.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]
#![cfg(feature = "sqlite")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::artifact::{Artifact, ArtifactError};
use leasehold_core::bytes::Bytes;
use leasehold_core::dispatch::{
    self, Action, Event, Fetched, LaneId, Order, RetryPolicy, Settings, Settlement, Source, Then,
};
use leasehold_core::handler::{Handler, HandlerError, SharedHandler};
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, MessageId, Parts};
use leasehold_core::name::{ArtifactKind, ArtifactName};
use leasehold_core::node::Node;
use leasehold_core::status::Condition;
use tokio::sync::{Notify, Semaphore, mpsc};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a broker would hold.
#[derive(Default)]
struct Broker {
    waiting: VecDeque<(LaneId, u64, Message)>,
    lost: Option<LaneId>,
    acknowledged: Vec<u64>,
    dead: Vec<(u64, u32, String)>,
    stopped: bool,
    /// What each settlement waits for first.
    waits_for: Option<Arc<Semaphore>>,
}

#[derive(Clone, Default)]
struct Queue {
    broker: Arc<Mutex<Broker>>,
    changed: Arc<Notify>,
}

impl Queue {
    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap()
    }

    fn put(&self, lane: LaneId, position: u64, key: &str, attempt: u32) {
        let parts = Parts {
            id: MessageId::Position(position),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            headers: Vec::new(),
            content_type: None,
            body: None,
            source: "queue".into(),
            progress: None,
            native: None,
        };
        self.broker().waiting.push_back((lane, position, Message::new(parts, attempt)));
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    fn lose(&self, lane: LaneId) {
        self.broker().lost = Some(lane);
        self.changed.notify_one();
    }

    async fn until(&self, mut wanted: impl FnMut(&Broker) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if wanted(&self.broker()) {
                    return;
                }
                tokio::select! { () = changed => {}, () = tokio::time::sleep(Duration::from_millis(20)) => {} }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
    }
}

struct Consumer(Queue);

#[async_trait]
impl Source for Consumer {
    async fn fetch(&mut self, room: usize, events: &mut Vec<Event>) -> Result<(), ArtifactError> {
        loop {
            let changed = self.0.changed.notified();
            {
                let mut broker = self.0.broker();
                events.extend(broker.lost.take().map(Event::Lost));
                let count = room.min(broker.waiting.len());
                for (lane, position, message) in broker.waiting.drain(..count) {
                    let key = message.key().cloned();
                    events.push(Event::Message(Fetched { lane, position, key, due: None, message }));
                }
            }
            if !events.is_empty() {
                return Ok(());
            }
            changed.await;
        }
    }

    async fn settle(&mut self, settlement: &mut Settlement<Message>) -> Result<(), ArtifactError> {
        let waits_for = self.0.broker().waits_for.clone();
        if let Some(waits_for) = waits_for {
            waits_for.acquire().await?.forget();
        }
        let mut broker = self.0.broker();
        for decision in settlement.decisions.drain(..) {
            match decision.action {
                Action::DeadLetter { attempts, reason } => {
                    broker.dead.push((decision.position, attempts, reason))
                }
                _ => broker.acknowledged.push(decision.position),
            }
        }
        self.0.changed.notify_one();
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), ArtifactError> {
        self.0.broker().stopped = true;
        self.0.changed.notify_one();
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ArtifactError> {
        Ok(())
    }
}

struct Endpoint {
    name: ArtifactName,
    queue: Queue,
    handler: SharedHandler,
    settings: Settings,
}

#[async_trait]
impl Artifact for Endpoint {
    fn name(&self) -> &ArtifactName {
        &self.name
    }

    fn kind(&self) -> ArtifactKind {
        ArtifactKind::new("test").unwrap()
    }

    async fn run(&self, lease: Lease) -> Result<(), ArtifactError> {
        lease.report(Condition::Working("a queue in memory".into()));
        dispatch::run(&mut Consumer(self.queue.clone()), Arc::clone(&self.handler), &lease, self.settings)
            .await
    }
}

/// A node that consumes a queue.
async fn consume(
    order: Order,
    policy: RetryPolicy,
    handler: SharedHandler,
) -> (Node, Queue, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::default();
    let settings = Settings { order, policy, capacity: 10 };
    let name = ArtifactName::new("in").unwrap();
    let endpoint = Endpoint { name, queue: queue.clone(), handler, settings };
    let node = Node::builder(format!("sqlite://{}/test.db?mode=rwc", folder.path().display()))
        .ttl(Duration::from_secs(2))
        .drain_timeout(Duration::from_secs(10))
        .artifact(endpoint)
        .start()
        .await
        .unwrap();
    (node, queue, folder)
}

fn quick() -> RetryPolicy {
    let millisecond = Duration::from_millis(1);
    RetryPolicy { backoff: millisecond, max_backoff: millisecond, ..RetryPolicy::default() }
}

/// A handler that tells of each message, and then waits for a permit.
fn gated<T: Send + Sync + 'static>(
    tell: impl Fn(&Message) -> T + Copy + Send + Sync + 'static,
) -> (impl Handler, mpsc::UnboundedReceiver<T>, Arc<Semaphore>) {
    let (begun, begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let handler = move |message: Message, _: Lease| {
        let (begun, gate) = (begun.clone(), Arc::clone(&gate));
        async move {
            begun.send(tell(&message))?;
            gate.acquire().await?.forget();
            Ok(())
        }
    };
    (handler, begins, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_acknowledged_in_order_after_they_were_handled_and_panics_are_tried_again() {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&attempts);
    let handler = move |message: Message, _: Lease| {
        let seen = Arc::clone(&seen);
        async move {
            seen.lock().unwrap().push((message.id().into_owned(), message.attempt()));
            match (message.id().as_ref(), message.attempt()) {
                ("queue/2", 1) => panic!("at once"),
                ("queue/2", 2) => {
                    tokio::task::yield_now().await;
                    panic!("later")
                }
                _ => Ok::<(), HandlerError>(()),
            }
        }
    };
    let (node, queue, _folder) = consume(Order::Ordered, quick(), Arc::new(handler)).await;
    for position in 1..=3 {
        queue.put(0, position, "a", 1);
    }
    queue.until(|broker| broker.acknowledged.len() == 3).await;
    assert_eq!(queue.broker().acknowledged, [1, 2, 3]);
    let tried: Vec<_> =
        attempts.lock().unwrap().iter().map(|(id, attempt)| format!("{id}#{attempt}")).collect();
    assert_eq!(tried, ["queue/1#1", "queue/2#1", "queue/2#2", "queue/2#3", "queue/3#1"]);
    let status = node.status().borrow().clone();
    let running = status.running.values().next().unwrap();
    assert_eq!(running.condition, Some(Condition::Working("a queue in memory".into())));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_stop_finishes_what_is_in_flight_and_hands_nothing_over() {
    let (handler, mut begins, open) = gated(|message| message.id().into_owned());
    let (node, queue, _folder) = consume(Order::PerKey(2), quick(), Arc::new(handler)).await;
    for (position, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
        queue.put(0, position, key, 1);
    }
    let mut both = [begins.recv().await.unwrap(), begins.recv().await.unwrap()];
    both.sort();
    assert_eq!(both, ["queue/1", "queue/3"], "two at once, of two keys");
    let leaving = tokio::spawn(async move { node.shutdown().await });
    queue.until(|broker| broker.stopped).await;
    open.add_permits(10);
    leaving.await.unwrap();
    queue.broker().acknowledged.sort_unstable();
    assert_eq!(queue.broker().acknowledged, [1, 3]);
    assert!(begins.try_recv().is_err());
}

/// As a fenced transaction does, whose lock the acknowledgement of the message before waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_may_wait_for_what_the_next_handler_does() {
    for order in [Order::Ordered, Order::PerKey(2)] {
        let through = Arc::new(Semaphore::new(0));
        let (lets, both) = (Arc::clone(&through), Arc::new(Semaphore::new(0)));
        let queued = Arc::clone(&both);
        let handler = move |message: Message, _: Lease| {
            let (lets, queued) = (Arc::clone(&lets), Arc::clone(&queued));
            async move {
                let _ = queued.acquire().await?;
                tokio::task::yield_now().await;
                if message.id().as_ref() == "queue/2" {
                    lets.add_permits(10);
                }
                Ok::<(), HandlerError>(())
            }
        };
        let (node, queue, _folder) = consume(order, quick(), Arc::new(handler)).await;
        queue.broker().waits_for = Some(through);
        queue.put(0, 1, "a", 1);
        queue.put(0, 2, "a", 1);
        queue.until(|broker| broker.waiting.is_empty()).await;
        both.add_permits(1);
        queue.until(|broker| broker.acknowledged == [1, 2]).await;
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_good_goes_to_the_dead_letters_with_its_attempts_and_the_reason() {
    let handler = |message: Message, _: Lease| async move {
        match message.position() {
            1 => Err("never works".into()),
            2 => Err(HandlerError::reject("no JSON")),
            _ => Ok(()),
        }
    };
    let policy = RetryPolicy { attempts: Some(3), then: Then::DeadLetter, ..quick() };
    let (node, queue, _folder) = consume(Order::Ordered, policy, Arc::new(handler)).await;
    queue.put(0, 1, "a", 2);
    queue.put(0, 2, "a", 1);
    queue.put(0, 3, "a", 1);
    queue.until(|broker| broker.acknowledged == [3]).await;
    let dead = queue.broker().dead.clone();
    assert_eq!(dead, [(1, 3, "never works".to_owned()), (2, 1, "no JSON".to_owned())]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_lost_is_not_acknowledged_and_its_key_waits_for_what_is_in_flight() {
    let (handler, mut begins, open) = gated(|message| (message.position(), message.attempt()));
    let (node, queue, _folder) = consume(Order::PerKey(4), quick(), Arc::new(handler)).await;
    queue.put(0, 1, "a", 1);
    assert_eq!(begins.recv().await.unwrap(), (1, 1));
    queue.lose(0);
    queue.put(1, 1, "a", 2);
    queue.put(1, 2, "b", 1);
    assert_eq!(begins.recv().await.unwrap(), (2, 1), "key a waits");
    open.add_permits(1);
    open.add_permits(10);
    assert_eq!(begins.recv().await.unwrap(), (1, 2));
    queue.until(|broker| broker.acknowledged.len() == 2).await;
    queue.broker().acknowledged.sort_unstable();
    assert_eq!(queue.broker().acknowledged, [1, 2], "what was in flight when its lane was lost counts once");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_lost_though_there_is_room_for_no_message() {
    let (handler, mut begins, open) = gated(|message| message.position());
    let (node, queue, _folder) = consume(Order::PerKey(4), quick(), Arc::new(handler)).await;
    // As many as are kept.
    for position in 1..=10 {
        queue.put(0, position, "a", 1);
    }
    assert_eq!(begins.recv().await.unwrap(), 1);
    queue.until(|broker| broker.waiting.is_empty()).await;
    queue.lose(0);
    queue.put(1, 11, "b", 1);
    let next = tokio::time::timeout(PATIENCE, begins.recv()).await.expect("without waiting for the first");
    assert_eq!(next.unwrap(), 11);
    open.add_permits(2);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_message_stops_the_endpoint_stays_unacknowledged_and_is_told() {
    let handler = |_: Message, _: Lease| async move { Err(HandlerError::fatal("no licence")) };
    let (node, queue, _folder) = consume(Order::Ordered, quick(), Arc::new(handler)).await;
    queue.put(0, 1, "a", 1);
    let mut status = node.status();
    let told = status.wait_for(|status| status.errors.values().any(|error| error.contains("no licence")));
    tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
    assert!(queue.broker().acknowledged.is_empty());
    node.shutdown().await;
}

trait Position {
    fn position(&self) -> u64;
}

impl Position for Message {
    fn position(&self) -> u64 {
        self.id().rsplit('/').next().unwrap().parse().unwrap()
    }
}
