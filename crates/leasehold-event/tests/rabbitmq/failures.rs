//! What becomes of messages that are not handled.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use leasehold_core::dispatch::{Order, RetryPolicy};
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_event::dead;
use leasehold_event::rabbitmq::RabbitMq;
use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::common::{Cluster, condition, impaired, next, seen};

fn quick() -> RetryPolicy {
    let pause = Duration::from_millis(10);
    RetryPolicy { backoff: pause, max_backoff: pause, ..RetryPolicy::default() }
}

fn text(table: &FieldTable, name: &str) -> String {
    match table.inner().get(name) {
        Some(AMQPValue::LongString(text)) => String::from_utf8(text.as_bytes().to_vec()).unwrap(),
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_attempts_a_message_is_a_dead_letter_that_tells_why_and_its_key_goes_on() {
    let (broker, cluster) = (Broker::new("quorum").await, Cluster::new());
    broker.declare("dead", &[]).await;
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap();
    let endpoint = endpoint.retry(quick()).attempts(3).dead_letter("dead");
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
    let node = cluster.node("a", endpoint.handler(handler)).await;
    let mut table = FieldTable::default();
    table.insert("customer".into(), AMQPValue::LongInt(7));
    let properties = BasicProperties::default().with_headers(table).with_message_id("m-1".into());
    broker.put_with("bad", properties).await;
    broker.put("worse").await;
    broker.put("good").await;
    for expected in [("bad", 1), ("bad", 2), ("bad", 3), ("worse", 1), ("good", 1)] {
        let (body, attempt) = next(&mut inbox).await;
        assert_eq!((body.as_str(), attempt), expected);
    }
    let dead = broker.take("dead").await;
    assert_eq!(dead.data, b"bad");
    assert_eq!(dead.properties.message_id().as_ref().unwrap().as_str(), "m-1");
    let headers = dead.properties.headers().clone().unwrap();
    assert_eq!(headers.inner().get("customer"), Some(&AMQPValue::LongInt(7)), "as it came");
    for (name, value) in [
        (dead::REASON, "no such customer"),
        (dead::ATTEMPTS, "3"),
        (dead::SOURCE, "in"),
        (dead::ARTIFACT, "orders-in"),
        (dead::ROUTING_KEY, "in"),
    ] {
        assert_eq!(text(&headers, name), value);
    }
    let worse = broker.take("dead").await.properties.headers().clone().unwrap();
    assert_eq!(
        (text(&worse, dead::REASON), text(&worse, dead::ATTEMPTS)),
        ("no order at all".into(), "1".into())
    );
    node.shutdown().await;
    broker.until("in", (0, 0)).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_dead_letter_queue_is_missing_stays_until_there_is_one() {
    let (broker, cluster) = (Broker::new("quorum").await, Cluster::new());
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap().dead_letter("dead");
    let handler = |_: Message, _: Lease| async { Err(HandlerError::reject("no")) };
    let node = cluster.node("a", endpoint.handler(handler)).await;
    broker.put("x").await;
    condition(&node, |shown| {
        impaired(shown).contains("knows no queue for what is published to queue \"dead\"")
    })
    .await;
    broker.declare("dead", &[]).await;
    assert_eq!(broker.take("dead").await.data, b"x");
    node.shutdown().await;
    broker.until("in", (0, 0)).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeued_message_comes_again_later_and_counts_on_while_others_go_first() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let pause = Duration::from_millis(300);
    let policy = RetryPolicy { backoff: pause, max_backoff: pause, ..RetryPolicy::default() };
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap();
    let endpoint = endpoint.retry(policy).requeue().order(Order::Unordered(1)).prefetch(1);
    let handler = move |message: Message, _: Lease| {
        let saw = saw.clone();
        async move {
            saw.send(seen(&message))?;
            if message.text()? == "late" && message.attempt() < 3 { Err("not yet".into()) } else { Ok(()) }
        }
    };
    broker.put("late").await;
    broker.put("next").await;
    let node = cluster.node("a", endpoint.handler(handler)).await;
    for expected in [("late", 1), ("next", 1), ("late", 2), ("late", 3)] {
        let (body, attempt) = next(&mut inbox).await;
        assert_eq!((body.as_str(), attempt), expected);
    }
    node.shutdown().await;
    broker.until("in", (0, 0)).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_letter_destination_a_rejected_message_stops_the_endpoint_and_stays() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap();
    let handler = |_: Message, _: Lease| async { Err(HandlerError::reject("no order at all")) };
    let node = cluster.node("a", endpoint.handler(handler)).await;
    broker.put("x").await;
    let mut status = node.status();
    let told =
        status.wait_for(|status| status.errors.values().any(|error| error.contains("no order at all")));
    let told =
        tokio::time::timeout(crate::common::PATIENCE, told).await.unwrap().unwrap().errors.as_ref().clone();
    assert!(told.values().next().unwrap().contains("dead-letter destination"), "{told:?}");
    node.wait(|status| status.running.is_empty()).await.unwrap();
    let overview = node.control().overview().await.unwrap();
    assert!(
        format!("{overview:?}").contains("Paused"),
        "nobody else stops at the same message: {overview:?}"
    );
    node.shutdown().await;
    broker.until("in", (1, 0)).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_dead_letter_exchange_is_missing_nothing_is_handled_again_or_published_twice() {
    let (broker, cluster) = (Broker::new("quorum").await, Cluster::new());
    broker.declare("dead", &[]).await;
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap();
    let endpoint = endpoint.dead_letter_by("graveyard", "dead");
    let handler = move |message: Message, _: Lease| {
        let saw = saw.clone();
        async move {
            saw.send(seen(&message))?;
            if message.text()? == "bad" { Err(HandlerError::reject("no")) } else { Ok(()) }
        }
    };
    let node = cluster.node("a", endpoint.handler(handler)).await;
    broker.put("bad").await;
    assert_eq!(next(&mut inbox).await, ("bad".to_owned(), 1));
    condition(&node, |shown| impaired(shown).contains("graveyard")).await;
    // Long enough for several attempts.
    tokio::time::sleep(Duration::from_millis(700)).await;
    broker.declare_exchange("graveyard", "dead").await;
    assert_eq!(broker.take("dead").await.data, b"bad");
    condition(&node, leasehold_core::status::Condition::is_working).await;
    broker.put("good").await;
    assert_eq!(next(&mut inbox).await, ("good".to_owned(), 1), "and not the other one again");
    node.shutdown().await;
    broker.until("in", (0, 0)).await;
    assert_eq!(broker.look("dead").await.0, 0);
    broker.end().await;
}
