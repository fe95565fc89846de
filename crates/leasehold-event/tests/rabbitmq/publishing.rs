//! A handler that publishes on.

use lapin::types::AMQPValue;
use leasehold_core::dispatch::RetryPolicy;
use leasehold_core::handler::{HandlerExt, Log};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_event::dead;
use leasehold_event::rabbitmq::{RabbitMq, RabbitMqPublisher};
use leasehold_testkit::proxy::Fault;
use std::time::Duration;
use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::common::{Cluster, condition, next};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_when_the_other_queue_has_it() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let publisher = RabbitMqPublisher::new(broker.url.as_str(), "").routing_key("out");
    let pause = Duration::from_millis(50);
    let retry = RetryPolicy { backoff: pause, max_backoff: pause, ..RetryPolicy::default() };
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap().retry(retry);
    let node = cluster.node("a", endpoint.handler(Log.then(publisher))).await;
    condition(&node, leasehold_core::status::Condition::is_working).await;
    broker.put("x").await;
    // There is no such queue yet: the message is tried again.
    tokio::time::sleep(Duration::from_millis(200)).await;
    broker.declare("out", &[]).await;
    let got = broker.take("out").await;
    assert_eq!(got.data, b"x");
    let headers = got.properties.headers().clone().unwrap();
    assert!(matches!(headers.inner().get(dead::TOKEN), Some(AMQPValue::LongString(_))));
    broker.until("in", (0, 1)).await;
    node.shutdown().await;
    broker.until("in", (0, 0)).await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_confirms_nothing_is_given_up_and_the_message_is_published_again() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    broker.declare("out", &[]).await;
    let (proxy, url) = broker.proxy().await;
    let publisher = RabbitMqPublisher::new(url, "").routing_key("out").timeout(Duration::from_secs(1));
    let (tried, mut tries) = mpsc::unbounded_channel();
    let tell = move |message: Message, _: Lease| {
        let told = tried.send(message.attempt());
        async move { Ok(told?) }
    };
    let pause = Duration::from_millis(50);
    let retry = RetryPolicy { backoff: pause, max_backoff: pause, ..RetryPolicy::default() };
    let endpoint = RabbitMq::consume("orders-in", broker.url.as_str(), "in").unwrap().retry(retry);
    let node = cluster.node("a", endpoint.handler(tell.then(publisher))).await;
    broker.put("first").await;
    assert_eq!(broker.take("out").await.data, b"first");
    assert_eq!(next(&mut tries).await, 1);
    proxy.set(Fault::BlackHole);
    broker.put("second").await;
    assert_eq!(next(&mut tries).await, 1);
    assert_eq!(next(&mut tries).await, 2, "the first attempt has ended, though nobody answers");
    proxy.set(Fault::None);
    assert_eq!(broker.take("out").await.data, b"second");
    node.shutdown().await;
    broker.end().await;
}
