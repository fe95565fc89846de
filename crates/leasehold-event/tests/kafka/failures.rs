//! What becomes of messages that are not handled.

use std::time::Duration;

use leasehold_core::dispatch::RetryPolicy;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use leasehold_event::dead;
use leasehold_event::kafka::Kafka;
use rdkafka::Message as _;
use rdkafka::producer::FutureRecord;
use tokio::sync::mpsc;

use crate::broker::{Broker, brokers, header};
use crate::common::{Cluster, condition, impaired, next, seen};

fn quick() -> RetryPolicy {
    let pause = Duration::from_millis(10);
    RetryPolicy { backoff: pause, max_backoff: pause, ..RetryPolicy::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_attempts_a_message_is_a_dead_letter_that_tells_why_and_the_others_go_on() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let topic = format!("{}.dead", broker.topic);
    broker.create(&topic, 1).await;
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let handler = move |message: Message, _: Lease| {
        let saw = saw.clone();
        async move {
            saw.send(seen(&message))?;
            match message.text()? {
                "bad" => Err("no such customer".into()),
                "worse" => Err(HandlerError::reject("no order at all")),
                _ => Ok(()),
            }
        }
    };
    let kafka = broker.consume().retry(quick()).attempts(2).dead_letter(topic.as_str());
    let node = cluster.node("a", kafka.handler(handler)).await;
    for body in ["bad", "worse", "good"] {
        broker.put(0, "customer-7", body).await;
    }
    for expected in [("bad", 1), ("bad", 2), ("worse", 1), ("good", 1)] {
        let (body, attempt) = next(&mut inbox).await;
        assert_eq!((body.as_str(), attempt), expected);
    }
    broker.until_committed(0, 3).await;
    let dead = broker.read(&topic, 2);
    assert_eq!((dead[0].key(), dead[0].payload()), (Some(&b"customer-7"[..]), Some(&b"bad"[..])));
    assert_eq!(header(&dead[0], dead::REASON), "no such customer");
    assert_eq!(header(&dead[0], dead::ATTEMPTS), "2");
    assert_eq!(header(&dead[0], dead::SOURCE), format!("{}/0/0", broker.topic));
    assert_eq!(header(&dead[1], dead::REASON), "no order at all");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_does_not_bring_dead_letters_back() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let dead = format!("{}.dead", broker.topic);
    broker.create(&dead, 1).await;
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let handler = move |message: Message, _: Lease| {
        let saw = saw.clone();
        async move {
            saw.send((message.source().to_owned(), message.text()?.to_owned()))?;
            if message.text()? == "bad" { Err(HandlerError::reject("no order at all")) } else { Ok(()) }
        }
    };
    let kafka = Kafka::consume("payments-in", brokers(), [format!("^{}.*", broker.topic)]).unwrap();
    let kafka = kafka.group(broker.group.as_str()).dead_letter(dead.as_str());
    let node = cluster.node("a", kafka.handler(handler)).await;
    broker.put(0, "k", "bad").await;
    let source = format!("{}/0", broker.topic);
    assert_eq!(next(&mut inbox).await, (source.clone(), "bad".to_owned()));
    broker.until_committed(0, 1).await;
    assert_eq!(broker.read(&dead, 1)[0].payload(), Some(&b"bad"[..]));
    // What the pattern finds was assigned as a whole, before the first message.
    let shown = condition(&node, Condition::is_working).await;
    assert!(format!("{shown:?}").contains("consumes 1 partitions"), "{shown:?}");
    broker.put(0, "k", "good").await;
    assert_eq!(next(&mut inbox).await, (source, "good".to_owned()));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_do_not_move_past_a_message_whose_dead_letter_topic_is_missing() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let topic = format!("{}.dead", broker.topic);
    let kafka = broker.consume().dead_letter(topic.as_str()).timeout(Duration::from_secs(2));
    let node = cluster
        .node("a", kafka.handler(|_: Message, _: Lease| async { Err(HandlerError::reject("no")) }))
        .await;
    broker.put(0, "k", "x").await;
    condition(&node, |shown| impaired(shown).contains("dead letter cannot go to its topic")).await;
    assert_eq!(broker.committed(0), None);
    broker.create(&topic, 1).await;
    assert_eq!(broker.read(&topic, 1)[0].payload(), Some(&b"x"[..]));
    broker.until_committed(0, 1).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_dead_letter_has_nowhere_to_go_tells_what_was_handled_before_it() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let handler = move |message: Message, _: Lease| {
        let saw = saw.clone();
        async move {
            saw.send(seen(&message))?;
            if message.text()? == "bad" { Err(HandlerError::reject("no")) } else { Ok(()) }
        }
    };
    let kafka = broker.consume().dead_letter(format!("{}.dead", broker.topic));
    // Nothing is committed before the end.
    let kafka = kafka.timeout(Duration::from_secs(1)).commit_every(Duration::from_secs(300));
    let node = cluster.node("a", kafka.handler(handler)).await;
    broker.put(0, "k", "good").await;
    assert_eq!(next(&mut inbox).await.0, "good");
    broker.put(0, "l", "bad").await;
    condition(&node, |shown| impaired(shown).contains("dead letter cannot go to its topic")).await;
    assert_eq!(broker.committed(0), None);
    node.shutdown().await;
    assert_eq!(broker.committed(0), Some(1), "the next holder begins with the one that was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_more_than_a_megabyte_can_be_a_dead_letter() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let (topic, dead) = (format!("{}.large", broker.topic), format!("{}.dead", broker.topic));
    broker.create_large(&topic).await;
    broker.create_large(&dead).await;
    let kafka = Kafka::consume("payments-in", brokers(), [topic.as_str()]).unwrap();
    let kafka = kafka.group(broker.group.as_str()).dead_letter(dead.as_str());
    let handler = |_: Message, _: Lease| async { Err(HandlerError::reject("too much")) };
    let node = cluster.node("a", kafka.handler(handler)).await;
    let body = "x".repeat(1_500_000);
    broker.put_record(FutureRecord::to(&topic).key("k").payload(&body)).await;
    assert_eq!(broker.read(&dead, 1)[0].payload().unwrap().len(), body.len());
    node.shutdown().await;
}
