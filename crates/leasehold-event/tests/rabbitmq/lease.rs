//! One consumer at a time, whatever becomes of it.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable};
use leasehold_core::dispatch::Order;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::name::ArtifactName;
use leasehold_core::status::Condition;
use leasehold_event::rabbitmq::{Fence, Key, RabbitMq};

use crate::broker::{Broker, drop_all};
use crate::common::{Cluster, Gate, PATIENCE, condition, next};

fn consume(broker: &Broker, gate: &Gate) -> leasehold_event::rabbitmq::RabbitMqEndpoint {
    let gate = gate.clone();
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap().prefetch(10);
    endpoint.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_nodes_consumes_and_a_polite_stop_hands_over_without_a_duplicate() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (on_a, mut saw_a) = Gate::new(100);
    let (on_b, mut saw_b) = Gate::new(100);
    let a = cluster.node("a", consume(&broker, &on_a)).await;
    let b = cluster.node("b", consume(&broker, &on_b)).await;
    for n in 0..20 {
        broker.put(&n.to_string()).await;
    }
    for n in 0..20 {
        assert_eq!(next(&mut saw_a).await, (n.to_string(), 1));
    }
    let tags = broker.tags().await;
    let token = on_a.leases.lock().unwrap()[0].token();
    assert_eq!(tags, [format!("orders-in.{token}")], "the management page shows who holds what");
    a.shutdown().await;
    broker.put("20").await;
    assert_eq!(next(&mut saw_b).await, ("20".to_owned(), 1));
    assert!(saw_a.try_recv().is_err() && saw_b.try_recv().is_err());
    b.shutdown().await;
    broker.until("in", (0, 0)).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_and_says_so() {
    let (broker, cluster) = (Broker::new("quorum").await, Cluster::new());
    let (on_a, mut saw_a) = Gate::new(1);
    let (on_b, mut saw_b) = Gate::new(100);
    let a = cluster
        .builder("a")
        .drain_timeout(Duration::from_millis(100))
        .artifact(consume(&broker, &on_a))
        .start()
        .await
        .unwrap();
    for body in ["first", "second", "third"] {
        broker.put(body).await;
    }
    assert_eq!(next(&mut saw_a).await.0, "first");
    assert_eq!(next(&mut saw_a).await.0, "second");
    // It ends in the middle of the second one: its drain time is shorter.
    a.shutdown().await;
    let b = cluster.node("b", consume(&broker, &on_b)).await;
    assert_eq!(next(&mut saw_b).await, ("second".to_owned(), 2), "the broker counts deliveries");
    assert_eq!(next(&mut saw_b).await.0, "third");
    broker.until("in", (0, 1)).await;
    b.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_over_after_paused_is_acknowledged_and_resuming_goes_on() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (gate, mut saw) = Gate::new(1_000);
    let node = cluster.node("a", consume(&broker, &gate)).await;
    broker.put("before").await;
    assert_eq!(next(&mut saw).await.0, "before");
    let (control, name) = (node.control(), ArtifactName::new("orders-in").unwrap());
    control.pause(&name).await.unwrap();
    node.wait(|status| status.running.is_empty()).await.unwrap();
    broker.until("in", (0, 0)).await;
    broker.put("while paused").await;
    assert_eq!(broker.look("in").await, (1, 0));
    assert!(saw.try_recv().is_err());
    control.resume(&name).await.unwrap();
    assert_eq!(next(&mut saw).await, ("while paused".to_owned(), 1));
    node.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_run_in_parallel_and_in_order_within() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (gate, mut saw) = Gate::new(0);
    let passing = gate.clone();
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap();
    let endpoint = endpoint.order(Order::PerKey(2)).key(Key::Header("customer".to_owned()));
    let endpoint =
        endpoint.handler(move |message: Message, lease: Lease| passing.clone().pass(message, lease));
    for (body, customer) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")] {
        let mut table = FieldTable::default();
        table.insert("customer".into(), AMQPValue::LongString(customer.into()));
        broker.put_with(body, BasicProperties::default().with_headers(table)).await;
    }
    let node = cluster.node("a", endpoint).await;
    let mut first = [next(&mut saw).await.0, next(&mut saw).await.0];
    first.sort();
    assert_eq!(first, ["a1", "b1"]);
    gate.permits.add_permits(4);
    let mut rest = [next(&mut saw).await.0, next(&mut saw).await.0];
    rest.sort();
    assert_eq!(rest, ["a2", "c1"]);
    node.shutdown().await;
    broker.until("in", (0, 0)).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_refuses_a_second_consumer_while_the_exclusive_one_lives() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (gate, mut saw) = Gate::new(100);
    let node = cluster.node("a", consume(&broker, &gate)).await;
    broker.put("x").await;
    assert_eq!(next(&mut saw).await.0, "x");
    let refused = broker.consume("in", BasicConsumeOptions::default()).await.unwrap_err().to_string();
    assert!(refused.contains("ACCESS_REFUSED"), "{refused}");
    node.shutdown().await;
    let (_channel, consumer) = broker.consume("in", BasicConsumeOptions::default()).await.unwrap();
    drop_all(consumer).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_single_active_consumer_a_second_one_waits_at_the_broker() {
    let (broker, cluster) = (Broker::new("").await, Cluster::new());
    broker.declare("in", &[("x-queue-type", "quorum"), ("x-single-active-consumer", "true")]).await;
    let (gate, mut saw) = Gate::new(100);
    let endpoint =
        RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap().fence(Fence::SingleActive);
    let passing = gate.clone();
    let node = cluster
        .node(
            "a",
            endpoint.handler(move |message: Message, lease: Lease| passing.clone().pass(message, lease)),
        )
        .await;
    condition(&node, Condition::is_working).await;
    let (_channel, mut second) = broker.consume("in", BasicConsumeOptions::default()).await.unwrap();
    for body in ["1", "2", "3"] {
        broker.put(body).await;
        assert_eq!(next(&mut saw).await.0, body);
    }
    node.shutdown().await;
    broker.put("4").await;
    let got = tokio::time::timeout(PATIENCE, second.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(got.data, b"4", "it had got nothing before");
    drop_all(second).await;
    broker.end().await;
}
