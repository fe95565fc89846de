//! One consumer at a time, whatever becomes of it.

use std::time::Duration;

use leasehold_core::dispatch::Order;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::name::ArtifactName;
use leasehold_event::kafka::{Kafka, KafkaEndpoint, Protocol, Start};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message as _};
use tokio::sync::mpsc;

use crate::broker::{Broker, brokers};
use crate::common::{Cluster, Gate, PATIENCE, next};

fn gated(kafka: Kafka, gate: &Gate) -> KafkaEndpoint {
    let gate = gate.clone();
    kafka.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_nodes_consumes_and_a_polite_stop_hands_over_without_a_duplicate() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let (on_a, mut saw_a) = Gate::new(100);
    let (on_b, mut saw_b) = Gate::new(100);
    let a = cluster.node("a", gated(broker.consume(), &on_a)).await;
    let b = cluster.node("b", gated(broker.consume(), &on_b)).await;
    for n in 0..20 {
        broker.put(0, "k", &n.to_string()).await;
    }
    for n in 0..20 {
        assert_eq!(next(&mut saw_a).await, (n.to_string(), 1));
    }
    a.shutdown().await;
    assert_eq!(broker.committed(0), Some(20), "committed before the lease was handed over");
    broker.put(0, "k", "20").await;
    assert_eq!(next(&mut saw_b).await, ("20".to_owned(), 1));
    assert!(saw_a.try_recv().is_err() && saw_b.try_recv().is_err());
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handled_is_committed_the_lowest_gap_first() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let (open, gate) = tokio::sync::watch::channel(false);
    let handler = move |message: Message, _: Lease| {
        let (saw, mut gate) = (saw.clone(), gate.clone());
        async move {
            let body = message.text()?.to_owned();
            if body == "slow" {
                gate.wait_for(|open| *open).await?;
            }
            saw.send(body)?;
            Ok::<_, HandlerError>(())
        }
    };
    let kafka = broker.consume().order(Order::PerKey(4)).commit_every(Duration::from_millis(50));
    let node = cluster.node("a", kafka.handler(handler)).await;
    for (key, body) in [("a", "first"), ("b", "slow"), ("c", "third")] {
        broker.put(0, key, body).await;
    }
    assert_eq!(next(&mut inbox).await, "first");
    assert_eq!(next(&mut inbox).await, "third");
    broker.until_committed(0, 1).await;
    open.send(true).unwrap();
    assert_eq!(next(&mut inbox).await, "slow");
    broker.until_committed(0, 3).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_over_after_paused_is_acknowledged_and_resuming_goes_on() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let (gate, mut saw) = Gate::new(1_000);
    let node = cluster.node("a", gated(broker.consume(), &gate)).await;
    broker.put(0, "k", "before").await;
    assert_eq!(next(&mut saw).await.0, "before");
    let (control, name) = (node.control(), ArtifactName::new("payments-in").unwrap());
    control.pause(&name).await.unwrap();
    node.wait(|status| status.running.is_empty()).await.unwrap();
    broker.put(0, "k", "while paused").await;
    assert_eq!(broker.committed(0), Some(1));
    assert!(saw.try_recv().is_err());
    control.resume(&name).await.unwrap();
    assert_eq!(next(&mut saw).await, ("while paused".to_owned(), 1));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_slower_than_the_group_allows_is_not_evicted() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let (gate, mut saw) = Gate::new(0);
    let kafka = broker.consume().session(Duration::from_secs(6)).max_in_flight(2);
    let kafka = kafka.property("max.poll.interval.ms", "6000");
    let node = cluster.node("a", gated(kafka, &gate)).await;
    for body in ["1", "2", "3", "4"] {
        broker.put(0, "k", body).await;
    }
    assert_eq!(next(&mut saw).await.0, "1");
    // It is the passing of time that would evict it.
    tokio::time::sleep(Duration::from_secs(8)).await;
    gate.permits.add_permits(10);
    for body in ["2", "3", "4"] {
        assert_eq!(next(&mut saw).await, (body.to_owned(), 1));
    }
    broker.until_committed(0, 4).await;
    assert!(saw.try_recv().is_err(), "nothing came twice");
    node.shutdown().await;
}

/// A consumer of the client's own, in this group; `more` is what else it is told.
fn stranger(group: &str, topic: &str, more: &[(&str, &str)]) -> BaseConsumer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers()).set("group.id", group);
    settings.set("partition.assignment.strategy", "range").set("enable.auto.commit", "false");
    for (name, value) in more {
        settings.set(*name, *value);
    }
    let consumer: BaseConsumer = settings.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    consumer
}

/// Joins the group, is assigned a partition, and leaves.
fn visit(group: &str, topic: &str) {
    let consumer = stranger(group, topic, &[]);
    let until = tokio::time::Instant::now() + PATIENCE;
    while consumer.assignment().unwrap().count() == 0 {
        assert!(tokio::time::Instant::now() < until, "nothing is assigned");
        let _ = consumer.poll(Duration::from_millis(100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_go_while_handlers_are_behind_are_consumed_when_they_come_back() {
    let (broker, cluster) = (Broker::new(2).await, Cluster::new());
    let (gate, mut saw) = Gate::new(0);
    let node = cluster.node("a", gated(broker.consume().max_in_flight(2), &gate)).await;
    for body in ["1", "2", "3", "4"] {
        broker.put(0, "k", body).await;
    }
    assert_eq!(next(&mut saw).await.0, "1");
    // It is the passing of time that pauses partitions.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (group, topic) = (broker.group.clone(), broker.topic.clone());
    tokio::task::spawn_blocking(move || visit(&group, &topic)).await.unwrap();
    gate.permits.add_permits(100);
    while next(&mut saw).await.0 != "4" {}
    broker.until_committed(0, 4).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_brings_topics_and_tombstones_have_no_body() {
    let (broker, cluster) = (Broker::new(2).await, Cluster::new());
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let kafka = Kafka::consume("payments-in", brokers(), [format!("^{}$", broker.topic)]).unwrap();
    let kafka = kafka.group(broker.group.as_str());
    let node = cluster
        .node(
            "a",
            kafka.handler(move |message: Message, _: Lease| {
                let saw = saw.clone();
                async move { Ok(saw.send(message)?) }
            }),
        )
        .await;
    broker.put_record(FutureRecord::to(&broker.topic).partition(1).key("gone")).await;
    let message = next(&mut inbox).await;
    assert_eq!(message.key().unwrap(), "gone");
    assert_eq!((message.body(), message.source()), (None, format!("{}/1", broker.topic).as_str()));
    assert_eq!(message.id(), format!("{}/1/0", broker.topic));
    node.shutdown().await;
}

/// A holder that wakes up: a member of the artifact's name, which has got the first message and sleeps since then.
fn sleeper(group: &str, topic: &str) -> BaseConsumer {
    let settings = [
        ("group.instance.id", "payments-in"),
        ("group.protocol", "classic"),
        ("auto.offset.reset", "earliest"),
        // Far longer than the test: it is not the broker's patience that ends.
        ("session.timeout.ms", "300000"),
        ("max.poll.interval.ms", "600000"),
    ];
    let consumer = stranger(group, topic, &settings);
    let until = tokio::time::Instant::now() + PATIENCE;
    // What is no message is told as nothing.
    let first = loop {
        assert!(tokio::time::Instant::now() < until, "nothing comes");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            break message.unwrap().offset();
        }
    };
    assert_eq!(first, 0);
    consumer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_holder_takes_the_partitions_at_once_and_the_brokers_fence_refuses_the_last_one() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    broker.put(0, "k", "first").await;
    let (group, topic) = (broker.group.clone(), broker.topic.clone());
    let old = tokio::task::spawn_blocking(move || sleeper(&group, &topic)).await.unwrap();
    let (gate, mut saw) = Gate::new(0);
    let node = cluster.node("a", gated(broker.consume(), &gate)).await;
    assert_eq!(next(&mut saw).await.0, "first", "without waiting for the old one's session to time out");
    let topic = broker.topic.clone();
    let refused = tokio::task::spawn_blocking(move || {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(1)).unwrap();
        let refused = old.commit(&list, CommitMode::Sync).unwrap_err();
        // The list does not outlive its consumer: that would hang.
        drop(list);
        (refused, old.client().fatal_error())
    });
    let (refused, fatal) = refused.await.unwrap();
    let code = fatal.map(|(code, _)| code).or(refused.rdkafka_error_code());
    assert_eq!(code, Some(RDKafkaErrorCode::FencedInstanceId), "{refused}");
    assert_eq!(broker.committed(0), None, "nothing that it commits is accepted");
    gate.permits.add_permits(1);
    broker.until_committed(0, 1).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_protocol_consumes_and_hands_over_too() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let (on_a, mut saw_a) = Gate::new(100);
    let (on_b, mut saw_b) = Gate::new(100);
    let a = cluster.node("a", gated(broker.consume().protocol(Protocol::Consumer), &on_a)).await;
    broker.put(0, "k", "0").await;
    assert_eq!(next(&mut saw_a).await.0, "0");
    let b = cluster.node("b", gated(broker.consume().protocol(Protocol::Consumer), &on_b)).await;
    a.shutdown().await;
    broker.put(0, "k", "1").await;
    assert_eq!(next(&mut saw_b).await, ("1".to_owned(), 1));
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_latest_begins_is_committed_before_the_first_message() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    broker.put(0, "k", "old").await;
    let (gate, _saw) = Gate::new(0);
    let kafka = broker.consume().start(Start::Latest);
    let handler = move |message: Message, lease: Lease| gate.clone().pass(message, lease);
    let node = cluster.node("a", kafka.clone().handler(handler)).await;
    broker.until_committed(0, 1).await;
    node.shutdown().await;
    broker.put(0, "k", "between").await;
    let (gate, mut saw) = Gate::new(10);
    let handler = move |message: Message, lease: Lease| gate.clone().pass(message, lease);
    let node = cluster.node("b", kafka.handler(handler)).await;
    assert_eq!(next(&mut saw).await.0, "between", "it came while nobody held the lease");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_latest_nothing_is_passed_over_that_is_still_there() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let kafka = broker.consume().start(Start::Latest).order(Order::Ordered);
    let (gate, mut saw) = Gate::new(1_000);
    let a = cluster.node("a", gated(kafka.clone(), &gate)).await;
    broker.until_committed(0, 0).await;
    broker.put(0, "k", "0").await;
    assert_eq!(next(&mut saw).await.0, "0");
    a.shutdown().await;
    // While nobody consumes, messages expire behind which the group is, and a partition is added.
    for n in 1..=6 {
        broker.put(0, "k", &n.to_string()).await;
    }
    broker.expire(0, 4).await;
    let (gate, mut saw) = Gate::new(1_000);
    let b = cluster.node("b", gated(kafka.clone(), &gate)).await;
    for n in 4..=6 {
        assert_eq!(next(&mut saw).await.0, n.to_string(), "the first that is still there");
    }
    b.shutdown().await;
    broker.grow(2).await;
    broker.put(1, "k", "in the new one").await;
    let (gate, mut saw) = Gate::new(1_000);
    let c = cluster.node("c", gated(kafka, &gate)).await;
    assert_eq!(next(&mut saw).await.0, "in the new one");
    c.shutdown().await;
}
