//! What becomes of messages that are not handled.

use std::time::Duration;

use leasehold_core::dispatch::RetryPolicy;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_event::dead;
use rdkafka::Message as _;
use tokio::sync::mpsc;

use crate::broker::{Broker, header};
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
