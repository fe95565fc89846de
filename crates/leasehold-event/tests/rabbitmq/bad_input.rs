//! What cannot work is told: with artifact, broker and remedy.

use std::time::Duration;

use leasehold_core::artifact::Artifact;
use leasehold_core::dispatch::{Order, RetryPolicy, Then};
use leasehold_core::handler::Log;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use leasehold_event::rabbitmq::{QueueType, RabbitMq, RabbitMqConfig};

use crate::broker::{Broker, drop_all};
use crate::common::{Cluster, Gate, condition, impaired, next};

fn consume(broker: &Broker) -> RabbitMq {
    RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_queue_is_told_and_found_when_it_is_made() {
    let (broker, cluster) = (Broker::new("").await, Cluster::new());
    let node = cluster.node("a", consume(&broker).handler(Log)).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    let text = impaired(&shown);
    assert!(
        text.contains("no queue 'in'") && text.contains("set declare to active") && text.contains("amqp://"),
        "{text}"
    );
    assert!(!text.contains("guest:guest"), "{text}");
    broker.declare("in", &[]).await;
    condition(&node, Condition::is_working).await;
    node.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_told_without_the_password() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let node = cluster.node("a", consume(&broker).login("guest", "hunter2").handler(Log)).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    let text = impaired(&shown);
    assert!(text.contains("refuses user \"guest\"") && text.contains("check user, password"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    node.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_type_is_told_and_left_alone() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    broker.put("x").await;
    let node = cluster.node("a", consume(&broker).declare(QueueType::Quorum).handler(Log)).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    let text = impaired(&shown);
    assert!(text.contains("x-queue-type") && text.contains("declare it as it is"), "{text}");
    node.shutdown().await;
    broker.until("in", (1, 0)).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_consumes_exclusively_is_told_and_waited_for() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (channel, consumer) = broker.stranger("in").await;
    let (gate, mut saw) = Gate::new(10);
    let endpoint =
        consume(&broker).handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease));
    let node = cluster.node("a", endpoint).await;
    condition(&node, |shown| impaired(shown).contains("end the other consumer")).await;
    channel.close(200, "done".into()).await.unwrap();
    drop_all(consumer).await;
    condition(&node, Condition::is_working).await;
    broker.put("x").await;
    assert_eq!(next(&mut saw).await.0, "x");
    node.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_answers_nothing_is_told_after_the_timeout() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://{}/%2f", silent.local_addr().unwrap());
    let cluster = Cluster::new();
    let endpoint = RabbitMq::consume("orders-in", url, "in").unwrap().timeout(Duration::from_millis(300));
    let node = cluster.node("a", endpoint.handler(Log)).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    assert!(impaired(&shown).contains("did not answer within 300ms"), "{shown:?}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_declared() {
    let (broker, cluster) = (Broker::new("").await, Cluster::new());
    let (gate, mut saw) = Gate::new(10);
    let endpoint =
        consume(&broker).declare(QueueType::Quorum).exchange("shop", "topic").bind("shop", "order.*");
    let endpoint = endpoint.dead_letter("in.dead");
    let node = cluster
        .node("a", endpoint.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease)))
        .await;
    condition(&node, Condition::is_working).await;
    broker.publish("shop", "order.new", "x").await;
    assert_eq!(next(&mut saw).await.0, "x");
    assert_eq!(broker.look("in.dead").await, (0, 0));
    node.shutdown().await;
    broker.end().await;
}

#[test]
fn what_contradicts_itself_is_refused_at_start_with_the_remedy() {
    let base = || RabbitMq::consume("orders-in", "amqp://broker/%2f", "in").unwrap();
    let refused = |endpoint: RabbitMq| endpoint.handler(Log).validate().unwrap_err().to_string();
    assert!(refused(base().prefetch(0)).contains("prefetch 0"));
    assert!(refused(base().order(Order::PerKey(200))).contains("raise prefetch"));
    assert!(refused(base().requeue()).contains("breaks the order"));
    let dead = RetryPolicy { then: Then::DeadLetter, ..RetryPolicy::default() };
    assert!(refused(base().retry(dead)).contains("no destination"));
    assert!(refused(base().heartbeat(Duration::from_millis(1500))).contains("whole seconds"));
    assert!(refused(base().bind("shop", "x")).contains("declare is active"));
    let long = "x".repeat(256);
    assert!(refused(base().dead_letter(long.as_str())).contains("dead-letter routing-key"));
    assert!(refused(base().dead_letter_by(long.as_str(), "x")).contains("256 bytes"));
    let declared = || base().declare(QueueType::Classic);
    assert!(refused(declared().bind("shop", long.as_str())).contains("bindings routing-key"));
    assert!(refused(declared().exchange(long.as_str(), "topic")).contains("exchange name"));
    let named = RabbitMq::consume("orders-in", "amqp://broker/%2f", "x".repeat(239)).unwrap();
    named.clone().handler(Log).validate().unwrap();
    assert!(refused(named.order(Order::Unordered(1)).requeue()).contains("at most 238"));
    let text = refused(RabbitMq::consume("orders-in", "amqp://shop:a@[::1]:5672/%2f", "in").unwrap());
    assert!(text.contains("IPv6"), "{text}");
    let nonsense = RabbitMq::consume("orders-in", "http://user:hunter2@broker", "in").unwrap();
    let text = refused(nonsense);
    assert!(text.starts_with("artifact \"orders-in\": url") && !text.contains("hunter2"), "{text}");
}

#[test]
fn builder_and_file_are_two_doors_to_one_thing() {
    let built = RabbitMq::consume("orders-in", "amqp://user:hunter2@broker/%2f", "in").unwrap();
    let built = built.order(Order::PerKey(16)).attempts(8).dead_letter("in.dead").prefetch(50);
    let text = "name = 'orders-in'\nurl = 'amqp://user:hunter2@broker/%2f'\nqueue = 'in'\nprefetch = 50\n\
                order = { per-key = 16 }\nretry = { attempts = 8, then = 'dead-letter' }\n\
                dead-letter = { routing-key = 'in.dead' }";
    let read: RabbitMqConfig = toml::from_str(text).unwrap();
    assert_eq!(built.config(), &read);
    let (built, read) = (built.handler(Log), RabbitMq::from_config(read).unwrap().handler(Log));
    assert_eq!(built.fingerprint(), read.fingerprint());
    assert!(!format!("{built:?}").contains("hunter2"));
    let unknown = toml::from_str::<RabbitMqConfig>(&format!("{text}\nprefech = 1")).unwrap_err();
    assert!(unknown.to_string().contains("prefech"), "{unknown}");
}
