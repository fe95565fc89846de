//! Forwarding to endpoints that behave, and to some that do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use leasehold_core::node::Node;
use leasehold_testkit::cluster::Cluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{bed, builder};
use crate::breaker::Breaker;
use crate::conformance::Bed;
use crate::outgoing::Outgoing;
use crate::store::{MessageStore, Parked};
use crate::{Forward, Processor, SqlStore};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What an endpoint got.
#[derive(Debug)]
struct Got {
    path: String,
    headers: HeaderMap,
    body: String,
}

#[derive(Clone)]
struct Endpoint {
    got: UnboundedSender<Got>,
    status: Arc<AtomicU16>,
}

async fn take(
    State(endpoint): State<Endpoint>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let _ = endpoint.got.send(Got { path, headers, body });
    let status = StatusCode::from_u16(endpoint.status.load(Ordering::Relaxed)).unwrap();
    let answer =
        Response::builder().status(status).header("location", "/elsewhere").header("retry-after", "0");
    answer.body(Body::from("what the endpoint says")).unwrap()
}

/// An endpoint that answers with this status, which may be changed.
async fn endpoint(status: u16) -> (SocketAddr, UnboundedReceiver<Got>, Arc<AtomicU16>) {
    let (send, got) = unbounded_channel();
    let status = Arc::new(AtomicU16::new(status));
    let endpoint = Endpoint { got: send, status: Arc::clone(&status) };
    let app = Router::new().route("/{*path}", axum::routing::any(take)).with_state(endpoint);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, got, status)
}

/// An endpoint that does this with each connection after it has read a request.
async fn raw<F: Future<Output = ()> + Send>(
    answer: impl Fn(tokio::net::TcpStream) -> F + Send + Sync + Copy + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                answer(stream).await;
            });
        }
    });
    (address, count)
}

async fn next(got: &mut UnboundedReceiver<Got>) -> Got {
    tokio::time::timeout(PATIENCE, got.recv()).await.expect("in time").expect("an endpoint")
}

pub(super) async fn node(bed: &Bed<SqlStore>, id: &str, processor: Processor) -> Node {
    let node = builder(bed, id);
    let processor = processor.poll(Duration::from_millis(20));
    node.ttl(Duration::from_millis(1600)).artifact(processor).start().await.unwrap()
}

pub(super) fn push(bed: &Bed<SqlStore>, forward: Forward) -> Processor {
    let millis = Duration::from_millis;
    Processor::new("push", bed.store.clone(), forward)
        .unwrap()
        .attempts(2)
        .backoff(millis(20), millis(50))
        .park()
}

async fn parked(bed: &Bed<SqlStore>) -> Parked {
    let parked = async {
        loop {
            if let Some(parked) = bed.store.parked(i64::MIN, 1).await.unwrap().pop() {
                return parked;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, parked).await.expect("parked in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_with_its_id_and_the_token() {
    let bed = bed(Cluster::sqlite().await);
    let (address, mut got, _) = endpoint(200).await;
    let forward = Forward::post(format!("http://{address}/orders/{{header.region}}/{{key}}")).unwrap();
    let (replied, mut replies) = unbounded_channel();
    // A message does not choose its token, whatever the configuration says.
    let forward = forward.header("leasehold-token", "{header.region}").unwrap();
    let forward = forward.header("x-id", "<{id}>").unwrap().on_reply(move |message, answer, _| {
        let sent = replied.send((message.id().into_owned(), answer.text()));
        async move { Ok(sent?) }
    });
    let message =
        Outgoing::json(&serde_json::json!({ "n": 1 })).unwrap().id("m1").key("a/b").header("region", "eu");
    bed.store.append_all(&[message]).await.unwrap();
    let node = node(&bed, "a", push(&bed, forward)).await;
    let got = next(&mut got).await;
    assert_eq!((got.path.as_str(), got.body.as_str()), ("orders/eu/a/b", "{\"n\":1}"));
    let header = |name: &str| got.headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header("idempotency-key"), header("x-id"), header("leasehold-attempt")),
        ("m1".into(), "<m1>".into(), "1".into())
    );
    assert_eq!(header("content-type"), "application/json");
    assert!(header("leasehold-token").parse::<i64>().unwrap() > 0);
    assert_eq!(got.headers.get_all("leasehold-token").iter().count(), 1);
    let reply = tokio::time::timeout(PATIENCE, replies.recv()).await.expect("in time").unwrap();
    assert_eq!(reply, ("m1".to_owned(), "what the endpoint says".to_owned()));
    node.shutdown().await;
    assert_eq!(bed.store.depth().await.unwrap().waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_sorted_into_classes() {
    for (status, attempts) in [(422, 1), (500, 2), (302, 1)] {
        let bed = bed(Cluster::sqlite().await);
        let (address, mut got, _) = endpoint(status).await;
        bed.store.append_all(&[Outgoing::text("x")]).await.unwrap();
        let node = node(&bed, "a", push(&bed, Forward::post(format!("http://{address}/in")).unwrap())).await;
        let parked = parked(&bed).await;
        node.shutdown().await;
        assert_eq!(parked.attempts, attempts, "{parked:?}");
        assert!(parked.reason.contains(&format!("answered {status}")), "{parked:?}");
        assert_eq!(parked.answer.as_deref(), Some("what the endpoint says"));
        for _ in 0..attempts {
            assert_eq!(next(&mut got).await.path, "in", "no redirect is followed");
        }
        assert!(got.try_recv().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_endpoint_is_down_messages_wait_and_none_is_parked() {
    let bed = bed(Cluster::sqlite().await);
    let (address, mut got, status) = endpoint(503).await;
    bed.store.append_all(&(0..20).map(|n| Outgoing::text(n.to_string())).collect::<Vec<_>>()).await.unwrap();
    let breaker =
        Breaker { failures: 3, pause: Duration::from_millis(200), max_pause: Duration::from_millis(400) };
    let processor = push(&bed, Forward::post(format!("http://{address}/in")).unwrap()).breaker(breaker);
    let a = node(&bed, "a", processor.clone()).await;
    for _ in 0..6 {
        next(&mut got).await;
    }
    a.wait(|status| {
        status.running.values().any(|run| run.condition.as_ref().is_some_and(|c| !c.is_working()))
    })
    .await
    .unwrap();
    a.shutdown().await;
    while got.try_recv().is_ok() {}
    status.store(200, Ordering::Relaxed);
    let b = node(&bed, "b", processor).await;
    for n in 0..20 {
        assert_eq!(next(&mut got).await.body, n.to_string());
    }
    b.shutdown().await;
    let depth = bed.store.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.parked), (0, 0));
}

/// One attempt at an endpoint, as it is told of what was parked.
pub(super) async fn once(forward: Forward) -> Parked {
    let bed = bed(Cluster::sqlite().await);
    bed.store.append_all(&[Outgoing::text("x")]).await.unwrap();
    let node = node(&bed, "a", push(&bed, forward).attempts(1).without_breaker()).await;
    let parked = parked(&bed).await;
    node.shutdown().await;
    parked
}

fn impatient(address: SocketAddr) -> Forward {
    let millis = Duration::from_millis;
    Forward::post(format!("http://{address}/in"))
        .unwrap()
        .timeouts(millis(200), millis(200), millis(600))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_misbehaves_costs_a_bounded_time_and_loses_nothing() {
    let (silent, _) = raw(async |_stream| std::future::pending().await).await;
    let text = once(impatient(silent)).await.reason;
    assert!(text.contains("gave no answer") && text.contains("timed out"), "{text}");

    let (trickling, _) = raw(async |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let text = once(impatient(trickling)).await.reason;
    assert!(text.contains("gave no answer"), "{text}");

    let (closing, _) = raw(async |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    })
    .await;
    let text = once(impatient(closing)).await.reason;
    assert!(text.contains("gave no answer"), "{text}");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let text = once(impatient(free)).await.reason;
    assert!(text.contains("was not reached"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_holds_up_no_other_processor_of_its_node() {
    const MANY: usize = 200;
    let cluster = Cluster::sqlite().await;
    let other = SqlStore::new(&cluster.db, format!("{}-other", cluster.name)).unwrap();
    let bed = bed(cluster);
    let (silent, asked) = raw(async |_stream| std::future::pending().await).await;
    let (well, mut got, _) = endpoint(200).await;
    let forward = |to: SocketAddr| Forward::post(format!("http://{to}/in")).unwrap();
    bed.store.append_all(&[Outgoing::text("x")]).await.unwrap();
    let pull = Processor::new("pull", other.clone(), forward(well)).unwrap();
    let node = builder(&bed, "a");
    let node = node.ttl(Duration::from_millis(1600)).drain_timeout(Duration::from_millis(200));
    let node = node
        .artifact(push(&bed, forward(silent)))
        .artifact(pull.poll(Duration::from_millis(20)))
        .start()
        .await
        .unwrap();
    while asked.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.append_all(&vec![Outgoing::text("y"); MANY]).await.unwrap();
    for _ in 0..MANY {
        next(&mut got).await;
    }
    assert_eq!(
        (asked.load(Ordering::Relaxed), bed.store.depth().await.unwrap().waiting),
        (1, 1),
        "it hangs still"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_gigabyte_of_answer_no_more_is_read_than_was_asked_for() {
    let (endless, count) = raw(async |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await;
        let chunk = vec![b'x'; 65_536];
        while stream.write_all(&chunk).await.is_ok() {}
    })
    .await;
    let bed = bed(Cluster::sqlite().await);
    bed.store.append_all(&[Outgoing::text("x")]).await.unwrap();
    let (replied, mut replies) = unbounded_channel();
    let forward = Forward::post(format!("http://{endless}/in")).unwrap().on_reply(move |_, answer, _| {
        let sent = replied.send((answer.body.len(), answer.is_cut));
        async move { Ok(sent?) }
    });
    let node = node(&bed, "a", push(&bed, forward)).await;
    let reply = tokio::time::timeout(PATIENCE, replies.recv()).await.expect("in time").unwrap();
    assert_eq!(reply, (crate::forward::DEFAULT_MAX_ANSWER, true));
    node.shutdown().await;
    assert_eq!((bed.store.depth().await.unwrap().waiting, count.load(Ordering::Relaxed)), (0, 1));
}
