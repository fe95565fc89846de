//! What a message store must do, as a suite of tests over real nodes: for whoever implements [`MessageStore`].
//!
//! Each case gets a store that is empty, and the database in which its nodes meet.
// A case that fails panics, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leasehold_core::clock::{BootClock, Clock};
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::node::{Node, NodeBuilder};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::breaker::Breaker;
use crate::outgoing::Outgoing;
use crate::store::{MessageStore, Parked, Waiting, Which};
use crate::{Order, Processor};

/// Far more than anything here takes, so that a machine under load fails no test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store, and the cluster whose nodes read it.
pub struct Bed<S> {
    /// An empty store.
    pub store: S,
    /// The database of the leases.
    pub database: String,
    /// The cluster.
    pub cluster: String,
    /// What is to live as long as the case.
    pub keep: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// The suite as tests, one per case: `message_store_conformance!(EXPRESSION)`, where the expression is a future that brings
/// a [`Bed`]. The crate that says so needs `tokio` with the features `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! message_store_conformance {
    ($bed:expr) => {
        $crate::message_store_conformance!(@cases $bed;
            what_is_appended_is_delivered_in_order,
            a_message_that_fails_holds_up_its_key_and_no_other,
            strict_order_waits_for_what_fails,
            without_an_order_what_fails_comes_back_later,
            what_cannot_be_delivered_is_parked_and_can_be_replayed,
            attempts_survive_failover,
            what_is_delayed_waits_and_what_has_expired_is_parked,
            a_store_has_one_reader,
            depth_and_lists_tell_what_waits,
            what_is_exhausted_may_deactivate_the_processor_or_be_dropped,
            what_a_store_cannot_keep_is_refused_as_a_whole,
            each_is_acknowledged_before_the_next_if_so_asked,
            a_fault_handler_gets_what_is_given_up_before_that_happens,
            a_sample_is_so_many_of_each_interval_and_acknowledged_after_its_handler,
            an_open_circuit_is_open_for_the_next_holder,
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

impl<S: MessageStore + Clone> Bed<S> {
    fn builder(&self, id: &str) -> NodeBuilder {
        Node::builder(self.database.as_str())
            .cluster(self.cluster.as_str())
            .node_id(id)
            .ttl(Duration::from_millis(1600))
            .drain_timeout(Duration::from_millis(500))
    }

    /// A processor over the store, whose handler is told of each message and says what becomes of it.
    fn processor(
        &self,
        judge: impl Fn(&Message) -> Result<(), HandlerError> + Send + Sync + 'static,
    ) -> (Processor, UnboundedReceiver<Seen>) {
        let (send, seen) = unbounded_channel();
        let judge: Judge = Arc::new(judge);
        let handler =
            move |message: Message, lease: Lease| handle(Arc::clone(&judge), send.clone(), message, lease);
        let processor = Processor::new("p", self.store.clone(), handler).unwrap();
        (
            processor
                .backoff(Duration::from_millis(100), Duration::from_millis(200))
                .poll(Duration::from_millis(20)),
            seen,
        )
    }

    async fn append(&self, messages: impl IntoIterator<Item = Outgoing>) {
        let messages: Vec<Outgoing> = messages.into_iter().collect();
        self.store.append_all(&messages).await.unwrap();
    }

    pub(crate) async fn until_empty(&self) {
        self.until_waiting(0).await;
    }

    async fn until_waiting(&self, count: u64) -> Vec<Waiting> {
        let fewer = async {
            while self.store.depth().await.unwrap().waiting > count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.store.list(i64::MIN, 1000).await.unwrap()
        };
        tokio::time::timeout(PATIENCE, fewer).await.expect("the others are delivered in time")
    }

    pub(crate) async fn until_parked(&self, count: usize) -> Vec<Parked> {
        let parked = async {
            loop {
                let parked = self.store.parked(i64::MIN, 1000).await.unwrap();
                if parked.len() >= count {
                    return parked;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, parked).await.expect("parked in time")
    }
}

type Judge = Arc<dyn Fn(&Message) -> Result<(), HandlerError> + Send + Sync>;

/// What a handler saw: text and attempt.
type Seen = (String, u32);

async fn handle(
    judge: Judge,
    send: UnboundedSender<Seen>,
    message: Message,
    lease: Lease,
) -> Result<(), HandlerError> {
    lease.check()?;
    // The test may have seen enough.
    let _ = send.send((message.text()?.to_owned(), message.attempt()));
    judge(&message)
}

fn text(text: impl Into<String>) -> Outgoing {
    Outgoing::text(text)
}

fn keyed(key: &str, words: &str) -> Outgoing {
    text(words).key(key)
}

async fn next<T>(seen: &mut UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, seen.recv()).await.expect("in time").expect("a handler")
}

async fn texts(seen: &mut UnboundedReceiver<Seen>, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(next(seen).await.0);
    }
    all
}

pub async fn what_is_appended_is_delivered_in_order<S: MessageStore + Clone>(bed: Bed<S>) {
    let (processor, mut seen) = bed.processor(|_| Ok(()));
    bed.append((0..500).map(|n| text(n.to_string()).header("n", n.to_string()))).await;
    let node = bed.builder("a").artifact(processor).start().await.unwrap();
    assert_eq!(texts(&mut seen, 500).await, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    bed.append([text("later")]).await;
    assert_eq!(next(&mut seen).await, ("later".to_owned(), 1));
    bed.until_empty().await;
    node.shutdown().await;
    assert!(seen.try_recv().is_err(), "nothing comes twice");
}

pub async fn a_message_that_fails_holds_up_its_key_and_no_other<S: MessageStore + Clone>(bed: Bed<S>) {
    // Until the other key is through: it did not wait, or the test does not end.
    let through = AtomicUsize::new(0);
    let (processor, mut seen) = bed.processor(move |message| {
        let text = message.text().unwrap();
        through.fetch_add(usize::from(text == "b199"), Ordering::Relaxed);
        let fails = text == "a0" && through.load(Ordering::Relaxed) == 0;
        if fails { Err("not yet".into()) } else { Ok(()) }
    });
    let processor = processor.attempts(1000);
    let of_a = (0..200).map(|n| keyed("a", &format!("a{n}")));
    bed.append(of_a.chain((0..200).map(|n| keyed("b", &format!("b{n}"))))).await;
    let node =
        bed.builder("a").artifact(processor.order(Order::PerKey(4)).without_breaker()).start().await.unwrap();
    let mut all = Vec::new();
    while all.iter().filter(|(text, _): &&Seen| text == "a199" || text == "b199").count() < 2 {
        all.push(next(&mut seen).await);
    }
    node.shutdown().await;
    let of = |key: &str| {
        all.iter().filter(|(text, _)| text.starts_with(key)).map(|(text, _)| text.clone()).collect::<Vec<_>>()
    };
    let in_order = |key: &str| (0..200).map(|n| format!("{key}{n}")).collect::<Vec<_>>();
    let mut of_a = of("a");
    of_a.dedup();
    assert_eq!(of_a, in_order("a"));
    assert_eq!(of("b"), in_order("b"));
    let attempts: Vec<u32> =
        all.iter().filter(|(text, _)| text == "a0").map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts, (1..=u32::try_from(attempts.len()).unwrap()).collect::<Vec<_>>());
}

pub async fn strict_order_waits_for_what_fails<S: MessageStore + Clone>(bed: Bed<S>) {
    let failures = AtomicUsize::new(0);
    let (processor, mut seen) = bed.processor(move |message| {
        let fails = message.text().unwrap() == "0" && failures.fetch_add(1, Ordering::Relaxed) < 2;
        if fails { Err("not yet".into()) } else { Ok(()) }
    });
    bed.append((0..3).map(|n| text(n.to_string()))).await;
    let node = bed.builder("a").artifact(processor).start().await.unwrap();
    assert_eq!(texts(&mut seen, 5).await, ["0", "0", "0", "1", "2"]);
    bed.until_empty().await;
    node.shutdown().await;
}

pub async fn without_an_order_what_fails_comes_back_later<S: MessageStore + Clone>(bed: Bed<S>) {
    let (processor, mut seen) = bed.processor(|message| {
        if message.text().unwrap() == "0" && message.attempt() < 3 { Err("not yet".into()) } else { Ok(()) }
    });
    bed.append((0..50).map(|n| text(n.to_string()))).await;
    let node = bed
        .builder("a")
        .artifact(processor.order(Order::Unordered(4)).without_breaker())
        .start()
        .await
        .unwrap();
    let mut all = Vec::new();
    for _ in 0..52 {
        all.push(next(&mut seen).await);
    }
    bed.until_empty().await;
    node.shutdown().await;
    let attempts =
        all.iter().filter(|(text, _)| text == "0").map(|(_, attempt)| *attempt).collect::<Vec<_>>();
    assert_eq!(attempts, [1, 2, 3], "{all:?}");
}

pub async fn what_cannot_be_delivered_is_parked_and_can_be_replayed<S: MessageStore + Clone>(bed: Bed<S>) {
    let healed = Arc::new(AtomicUsize::new(0));
    let works = Arc::clone(&healed);
    let (processor, mut seen) = bed.processor(move |message| match message.text().unwrap() {
        _ if works.load(Ordering::Relaxed) == 1 => Ok(()),
        "wrong" => Err(HandlerError::reject("no such customer\nthe answer")),
        "fails" => Err("the endpoint is tired".into()),
        _ => Ok(()),
    });
    let processor = processor.order(Order::PerKey(2)).attempts(2).park().without_breaker();
    bed.append([keyed("a", "wrong").header("h", "v").id("w1"), keyed("a", "fails"), keyed("a", "fine")])
        .await;
    let node = bed.builder("a").artifact(processor).start().await.unwrap();
    assert_eq!(texts(&mut seen, 4).await, ["wrong", "fails", "fails", "fine"]);
    let parked = bed.until_parked(2).await;
    bed.until_empty().await;
    let shown = |parked: &Parked| (parked.attempts, parked.reason.clone(), parked.answer.clone());
    assert_eq!(shown(&parked[0]), (1, "no such customer".to_owned(), Some("the answer".to_owned())));
    assert_eq!(shown(&parked[1]), (2, "the endpoint is tired".to_owned(), None));
    assert_eq!((parked[0].message.as_str(), parked[0].key.as_deref(), parked[0].bytes), ("w1", Some("a"), 5));
    let content = bed.store.peek(parked[0].id).await.unwrap().unwrap();
    assert_eq!(content.headers, [("h".to_owned(), "v".to_owned())]);
    assert_eq!((&content.body[..], bed.store.depth().await.unwrap().parked), (&b"wrong"[..], 2));
    assert_eq!(bed.store.purge_parked(Which::One(i64::MAX)).await.unwrap(), 0);

    healed.store(1, Ordering::Relaxed);
    assert_eq!(bed.store.replay(Which::One(parked[0].id)).await.unwrap(), 1);
    assert_eq!(next(&mut seen).await, ("wrong".to_owned(), 1));
    assert_eq!(bed.store.replay(Which::One(parked[0].id)).await.unwrap(), 0, "it is parked no more");
    assert_eq!(bed.store.replay(Which::All).await.unwrap(), 1);
    assert_eq!(next(&mut seen).await, ("fails".to_owned(), 1));
    bed.until_empty().await;
    assert_eq!(bed.store.depth().await.unwrap().parked, 0);
    healed.store(0, Ordering::Relaxed);
    bed.append([keyed("a", "wrong"), keyed("a", "wrong")]).await;
    let parked = bed.until_parked(2).await;
    assert_eq!(bed.store.purge_parked(Which::One(parked[0].id)).await.unwrap(), 1);
    assert_eq!(bed.until_parked(1).await[0].id, parked[1].id);
    assert_eq!(bed.store.purge_parked(Which::All).await.unwrap(), 1);
    node.shutdown().await;
    assert_eq!(bed.store.depth().await.unwrap().parked, 0);
}

pub async fn attempts_survive_failover<S: MessageStore + Clone>(bed: Bed<S>) {
    let (processor, mut seen) = bed.processor(|_| Err("no luck".into()));
    bed.append([text("m")]).await;
    let slow = processor
        .backoff(Duration::from_millis(1), Duration::from_secs(20))
        .attempts(4)
        .park()
        .without_breaker();
    let a = bed.builder("a").artifact(slow.clone()).start().await.unwrap();
    assert_eq!(next(&mut seen).await.1, 1);
    assert_eq!(next(&mut seen).await.1, 2);
    a.shutdown().await;
    let mut before = 2;
    while let Ok((_, attempt)) = seen.try_recv() {
        before = attempt;
    }
    let b = bed.builder("b").artifact(slow).start().await.unwrap();
    for attempt in before + 1..=4 {
        assert_eq!(next(&mut seen).await.1, attempt);
    }
    let parked = bed.until_parked(1).await;
    b.shutdown().await;
    assert_eq!(parked[0].attempts, 4);
}

pub async fn what_is_delayed_waits_and_what_has_expired_is_parked<S: MessageStore + Clone>(bed: Bed<S>) {
    bed.append([text("expired").time_to_live(Duration::from_millis(1))]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (processor, mut seen) = bed.processor(|_| Ok(()));
    let never = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(365 * 200);
    bed.append([text("delayed").delay(Duration::from_millis(1500)), text("never").deliver_at(never)]).await;
    bed.append([text("at once").deliver_at(chrono::DateTime::UNIX_EPOCH)]).await;
    let node = bed.builder("a").artifact(processor.order(Order::Unordered(2))).start().await.unwrap();
    assert_eq!(next(&mut seen).await.0, "at once");
    let waiting = bed.store.list(i64::MIN, 10).await.unwrap();
    assert!(waiting.iter().any(|waiting| waiting.due.is_some()), "{waiting:?}");
    assert_eq!(next(&mut seen).await, ("delayed".to_owned(), 1));
    let parked = bed.until_parked(1).await;
    let left = bed.until_waiting(1).await;
    node.shutdown().await;
    assert!(left[0].due.is_some_and(|due| (due - never).num_seconds().abs() <= 1), "{left:?}");
    assert!(parked[0].reason.contains("expired"), "{parked:?}");
}

pub async fn a_store_has_one_reader<S: MessageStore + Clone>(bed: Bed<S>) {
    let (processor, mut seen) = bed.processor(|_| Ok(()));
    bed.append([text("0")]).await;
    let a = bed.builder("a").artifact(processor).start().await.unwrap();
    assert_eq!(next(&mut seen).await.0, "0");
    let second =
        Processor::new("second", bed.store.clone(), |_: Message, _: Lease| async { Ok(()) }).unwrap();
    let b = bed.builder("b").artifact(second).start().await.unwrap();
    let told = b.wait(|status| status.errors.values().any(|error| error.contains("one reader")));
    tokio::time::timeout(PATIENCE, told).await.expect("in time").unwrap();
    a.shutdown().await;
    b.shutdown().await;
}

pub async fn depth_and_lists_tell_what_waits<S: MessageStore + Clone>(bed: Bed<S>) {
    assert_eq!(bed.store.depth().await.unwrap().waiting, 0);
    bed.append([text("a").id("first"), keyed("k", "bcd"), text("e")]).await;
    let depth = bed.store.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.parked), (3, 0));
    assert!(depth.oldest.unwrap() < PATIENCE);
    let all = bed.store.list(i64::MIN, 2).await.unwrap();
    assert_eq!(
        (all.len(), all[0].message.as_str(), all[1].key.as_deref(), all[1].bytes),
        (2, "first", Some("k"), 3)
    );
    let rest = bed.store.list(all[1].id, 10).await.unwrap();
    assert_eq!((rest.len(), rest[0].attempts), (1, 0));
    assert_eq!(bed.store.purge(Which::One(all[0].id)).await.unwrap(), 1);
    assert_eq!(bed.store.peek(all[0].id).await.unwrap(), None);
    assert_eq!(bed.store.purge(Which::All).await.unwrap(), 2);
    assert_eq!(bed.store.depth().await.unwrap().oldest, None);
}

pub async fn what_is_exhausted_may_deactivate_the_processor_or_be_dropped<S: MessageStore + Clone>(
    bed: Bed<S>,
) {
    let (processor, mut seen) = bed.processor(|message| match message.text().unwrap() {
        "bad" => Err(HandlerError::reject("never")),
        _ => Ok(()),
    });
    bed.append([text("bad"), text("good")]).await;
    let (told, mut why) = unbounded_channel();
    let stopping = processor.clone().on_deactivate(move |reason| told.send(reason.to_owned()).unwrap());
    let node = bed.builder("a").artifact(stopping).start().await.unwrap();
    assert_eq!(next(&mut seen).await.0, "bad");
    let why = tokio::time::timeout(PATIENCE, why.recv()).await.expect("in time").unwrap();
    assert!(why.contains("never"), "{why}");
    node.wait(|status| status.running.is_empty()).await.unwrap();
    assert_eq!(bed.store.depth().await.unwrap().waiting, 2, "nothing is lost, nothing went on");
    node.shutdown().await;

    let node = bed.builder("b").artifact(processor.drop_exhausted()).start().await.unwrap();
    let name = leasehold_core::name::ArtifactName::new("p").unwrap();
    assert!(seen.try_recv().is_err(), "it sticks: another node does not go on by itself");
    node.control().resume(&name).await.unwrap();
    assert_eq!(texts(&mut seen, 2).await, ["bad", "good"]);
    bed.until_empty().await;
    node.shutdown().await;
    assert_eq!(bed.store.depth().await.unwrap().parked, 0);
}

pub async fn what_a_store_cannot_keep_is_refused_as_a_whole<S: MessageStore + Clone>(bed: Bed<S>) {
    let large = Outgoing::new(vec![b'x'; crate::outgoing::DEFAULT_MAX_BYTES + 1]);
    let error = bed.store.append_all(&[text("small"), large]).await.unwrap_err();
    assert!(error.to_string().contains("1048577 bytes") && !error.is_temporary(), "{error}");
    assert_eq!(bed.store.depth().await.unwrap().waiting, 0);
}

/// The oldest message that waits is the one that is being handled: what was handled before is gone.
pub async fn each_is_acknowledged_before_the_next_if_so_asked<S: MessageStore + Clone>(bed: Bed<S>) {
    bed.append((0..20).map(|n| text(n.to_string()).id(n.to_string()))).await;
    let (send, mut seen) = unbounded_channel();
    let store = bed.store.clone();
    let handler = move |message: Message, _: Lease| {
        let (store, send) = (store.clone(), send.clone());
        async move {
            let oldest = store.list(i64::MIN, 1).await?.pop().map(|waiting| waiting.message);
            Ok(send.send((message.id().into_owned(), oldest))?)
        }
    };
    let processor = Processor::new("p", bed.store.clone(), handler).unwrap().acknowledge_each();
    let node = bed.builder("a").artifact(processor).start().await.unwrap();
    for n in 0..20 {
        assert_eq!(next(&mut seen).await, (n.to_string(), Some(n.to_string())));
    }
    bed.until_empty().await;
    node.shutdown().await;
}

pub async fn a_fault_handler_gets_what_is_given_up_before_that_happens<S: MessageStore + Clone>(bed: Bed<S>) {
    let (processor, mut seen) = bed.processor(|_| Err("tired".into()));
    let (send, mut faults) = unbounded_channel();
    let store = bed.store.clone();
    let fault = move |message: Message, _: Lease| {
        let (store, send) = (store.clone(), send.clone());
        async move {
            let depth = store.depth().await?;
            send.send((message.text()?.to_owned(), message.attempt(), depth.waiting, depth.parked))?;
            Err::<(), HandlerError>("that is logged, and changes nothing".into())
        }
    };
    bed.append([text("m")]).await;
    let processor = processor.attempts(2).park().without_breaker().on_fault(fault);
    let node = bed.builder("a").artifact(processor).start().await.unwrap();
    assert_eq!(texts(&mut seen, 2).await, ["m", "m"]);
    assert_eq!(next(&mut faults).await, ("m".to_owned(), 2, 1, 0));
    assert_eq!(bed.until_parked(1).await[0].reason, "tired");
    node.shutdown().await;
    assert!(faults.try_recv().is_err(), "once");
}

pub async fn a_sample_is_so_many_of_each_interval_and_acknowledged_after_its_handler<
    S: MessageStore + Clone,
>(
    bed: Bed<S>,
) {
    const EVERY: Duration = Duration::from_secs(1);
    bed.append((0..5).map(|n| text(n.to_string()).id(n.to_string()))).await;
    let (send, mut seen) = unbounded_channel();
    let store = bed.store.clone();
    let handler = move |message: Message, _: Lease| {
        let (store, send, at) = (store.clone(), send.clone(), BootClock.now());
        async move {
            let waiting = store.list(i64::MIN, 10).await?;
            let waits = waiting.iter().any(|waiting| waiting.message == *message.id());
            Ok(send.send((message.text()?.to_owned(), waits, at))?)
        }
    };
    let processor =
        Processor::new("p", bed.store.clone(), handler).unwrap().sample(2, EVERY).acknowledge_each();
    let node = bed.builder("a").artifact(processor).start().await.unwrap();
    let mut all = Vec::new();
    for n in 0..5 {
        let (text, waits, at) = next(&mut seen).await;
        assert_eq!((text, waits), (n.to_string(), true));
        all.push(at);
    }
    bed.until_empty().await;
    node.shutdown().await;
    // Five take three intervals at least; each begins when its first message is let through, a moment before that is handled.
    assert!(all[4].since(all[0]) >= EVERY * 3 / 2, "{all:?}");
}

pub async fn an_open_circuit_is_open_for_the_next_holder<S: MessageStore + Clone>(bed: Bed<S>) {
    const PAUSE: Duration = Duration::from_secs(4);
    let works = Arc::new(AtomicUsize::new(0));
    let healed = Arc::clone(&works);
    let (processor, mut seen) = bed.processor(move |_| match healed.load(Ordering::Relaxed) {
        0 => Err(HandlerError::unavailable(Duration::ZERO, "down for the night")),
        _ => Ok(()),
    });
    let processor = processor.breaker(Breaker { failures: 1, pause: PAUSE, max_pause: PAUSE });
    bed.append([text("m")]).await;
    // The state is kept after the handler has told.
    let a = bed.builder("a").drain_timeout(PATIENCE).artifact(processor.clone()).start().await.unwrap();
    assert_eq!(next(&mut seen).await.0, "m");
    let opened = BootClock.now();
    a.shutdown().await;
    works.store(1, Ordering::Relaxed);
    let b = bed.builder("b").artifact(processor).start().await.unwrap();
    assert_eq!(next(&mut seen).await.0, "m");
    let took = BootClock.now().since(opened);
    bed.until_empty().await;
    b.shutdown().await;
    // A circuit that began anew would have let it through as soon as the next holder ran.
    assert!(took >= PAUSE * 3 / 4, "{took:?}");
}
