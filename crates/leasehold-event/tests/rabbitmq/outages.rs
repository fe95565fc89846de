//! Brokers that go away and come back.

use std::time::Duration;

use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use leasehold_event::rabbitmq::RabbitMq;
use leasehold_testkit::proxy::Fault;

use crate::broker::Broker;
use crate::common::{Cluster, Gate, condition, impaired, next};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_outages_leave_one_connection_and_one_consumer() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (gate, mut saw) = Gate::new(10_000);
    let (proxy, url) = broker.proxy().await;
    let endpoint = RabbitMq::consume("orders-in", url, "in").unwrap();
    let node = cluster
        .node("a", endpoint.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease)))
        .await;
    condition(&node, Condition::is_working).await;
    for outage in 0..100 {
        proxy.set(Fault::Refuse);
        condition(&node, |shown| !shown.is_working()).await;
        proxy.set(Fault::None);
        condition(&node, Condition::is_working).await;
        broker.put(&outage.to_string()).await;
        while next(&mut saw).await.0 != outage.to_string() {}
    }
    broker.until("in", (0, 1)).await;
    broker.until_connections(1).await;
    node.shutdown().await;
    broker.until("in", (0, 0)).await;
    broker.until_connections(0).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_falls_silent_is_left_after_the_heartbeat() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (gate, mut saw) = Gate::new(100);
    let (proxy, url) = broker.proxy().await;
    let endpoint = RabbitMq::consume("orders-in", url, "in").unwrap().timeout(Duration::from_secs(1));
    let node = cluster
        .node("a", endpoint.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease)))
        .await;
    condition(&node, Condition::is_working).await;
    proxy.set(Fault::BlackHole);
    condition(&node, |shown| !shown.is_working()).await;
    proxy.set(Fault::None);
    condition(&node, Condition::is_working).await;
    broker.put("back").await;
    assert_eq!(next(&mut saw).await.0, "back");
    node.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_the_broker_cancels_subscribes_again_when_the_queue_is_back() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (gate, mut saw) = Gate::new(100);
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap();
    let node = cluster
        .node("a", endpoint.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease)))
        .await;
    condition(&node, Condition::is_working).await;
    broker.delete_queue("in").await;
    condition(&node, |shown| impaired(shown).contains("no queue 'in'")).await;
    broker.declare("in", &[]).await;
    condition(&node, Condition::is_working).await;
    broker.put("back").await;
    assert_eq!(next(&mut saw).await.0, "back");
    node.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_flight_when_the_connection_broke_comes_again_after_it_has_ended() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (gate, mut saw) = Gate::new(0);
    let passing = gate.clone();
    let (proxy, url) = broker.proxy().await;
    let endpoint = RabbitMq::consume("orders-in", url, "in").unwrap();
    let node = cluster
        .node(
            "a",
            endpoint.handler(move |message: Message, lease: Lease| passing.clone().pass(message, lease)),
        )
        .await;
    broker.put("1").await;
    broker.put("2").await;
    assert_eq!(next(&mut saw).await, ("1".to_owned(), 1));
    proxy.set(Fault::Refuse);
    condition(&node, |shown| !shown.is_working()).await;
    proxy.set(Fault::None);
    condition(&node, Condition::is_working).await;
    assert!(saw.try_recv().is_err(), "the first one is under way still");
    gate.permits.add_permits(10);
    assert_eq!(next(&mut saw).await, ("1".to_owned(), 2));
    // It had been delivered, too, and was not handed over.
    assert_eq!(next(&mut saw).await.0, "2");
    node.shutdown().await;
    broker.until("in", (0, 0)).await;
    broker.end().await;
}
