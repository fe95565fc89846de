//! Connections that are cut, and brokers that fall silent.

use std::net::SocketAddr;
use std::time::Duration;

use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use leasehold_event::kafka::{Kafka, KafkaEndpoint};
use leasehold_testkit::proxy::{Fault, FaultProxy};
use tokio::sync::Mutex;

use crate::broker::Broker;
use crate::common::{Cluster, Gate, PATIENCE, condition, next};

/// There is one such place.
static PLACE: Mutex<()> = Mutex::const_new(());

fn address(variable: &str) -> SocketAddr {
    let text = std::env::var(variable);
    let text =
        text.unwrap_or_else(|_| panic!("{variable} must be set: see CONTRIBUTING.md, or run scripts/test"));
    text.parse().unwrap()
}

async fn proxy() -> FaultProxy {
    let (place, behind) = (address("LEASEHOLD_TEST_KAFKA_PROXY"), address("LEASEHOLD_TEST_KAFKA_BEHIND"));
    FaultProxy::start_at(place, behind).await.unwrap()
}

fn through(proxy: &FaultProxy, broker: &Broker, gate: &Gate) -> KafkaEndpoint {
    let kafka = Kafka::consume("payments-in", proxy.address().to_string(), [broker.topic.as_str()]).unwrap();
    // The client's own pauses would be most of the time.
    let kafka = kafka.group(broker.group.as_str()).property("reconnect.backoff.max.ms", "200");
    let gate = gate.clone();
    kafka.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease))
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_outages_leave_one_client() {
    let _place = PLACE.lock().await;
    let (broker, cluster, proxy) = (Broker::new(1).await, Cluster::new(), proxy().await);
    let (gate, mut saw) = Gate::new(10_000);
    let node = cluster.node("a", through(&proxy, &broker, &gate)).await;
    condition(&node, Condition::is_working).await;
    let mut after_the_first = None;
    for outage in 0..100 {
        proxy.set(Fault::Refuse);
        condition(&node, |shown| !shown.is_working()).await;
        proxy.set(Fault::None);
        broker.put(0, "k", &outage.to_string()).await;
        while next(&mut saw).await.0 != outage.to_string() {}
        condition(&node, Condition::is_working).await;
        after_the_first.get_or_insert((proxy.connections(), threads()));
    }
    let (connections, first) = after_the_first.unwrap();
    // Bootstrap, broker and coordinator: which of them are up at a moment varies.
    assert!(proxy.connections() <= connections.max(3), "{} connections", proxy.connections());
    // Those of other tests of this process come and go.
    assert!(threads() < first + 50, "{first} threads became {}", threads());
    node.shutdown().await;
    assert_eq!(broker.committed(0), Some(100));
    let gone = async {
        while proxy.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("no connection is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_while_the_broker_was_silent_is_committed_when_it_is_back() {
    let _place = PLACE.lock().await;
    let (broker, cluster, proxy) = (Broker::new(1).await, Cluster::new(), proxy().await);
    let (gate, mut saw) = Gate::new(0);
    let node = cluster.node("a", through(&proxy, &broker, &gate)).await;
    broker.put(0, "k", "1").await;
    assert_eq!(next(&mut saw).await.0, "1");
    proxy.set(Fault::BlackHole);
    gate.permits.add_permits(10);
    broker.put(0, "k", "2").await;
    assert_eq!(broker.committed(0), None);
    proxy.set(Fault::None);
    assert_eq!(next(&mut saw).await, ("2".to_owned(), 1));
    broker.until_committed(0, 2).await;
    node.shutdown().await;
    assert!(saw.try_recv().is_err(), "nothing came twice");
}
