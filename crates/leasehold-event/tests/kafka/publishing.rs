//! A handler that publishes on.

use std::sync::Arc;
use std::time::Duration;

use leasehold_core::handler::{Handler, HandlerExt, Log};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_event::dead;
use leasehold_event::kafka::KafkaPublisher;
use leasehold_testkit::proxy::{Fault, FaultProxy};
use rdkafka::Message as _;
use tokio::sync::mpsc::unbounded_channel;

use crate::broker::{Broker, brokers, header};
use crate::common::{Cluster, next};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_committed_when_the_other_topic_has_it() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let topic = format!("{}.out", broker.topic);
    broker.create(&topic, 1).await;
    let publisher = KafkaPublisher::new(brokers(), topic.as_str());
    let node = cluster.node("a", broker.consume().handler(Log.then(publisher))).await;
    broker.put(0, "customer-7", "x").await;
    let got = &broker.read(&topic, 1)[0];
    assert_eq!((got.key(), got.payload()), (Some(&b"customer-7"[..]), Some(&b"x"[..])));
    assert!(header(got, dead::TOKEN).parse::<i64>().is_ok());
    broker.until_committed(0, 1).await;
    node.shutdown().await;
}

/// The client of a broker that answers nothing is dropped with the node, which does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_nothing_is_given_up_and_the_message_stays() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let upstream = tokio::net::lookup_host(brokers()).await.unwrap().next().unwrap();
    let proxy = FaultProxy::start(upstream).await.unwrap();
    proxy.set(Fault::BlackHole);
    let publisher = KafkaPublisher::new(proxy.address().to_string(), broker.topic.as_str());
    let publisher = Arc::new(publisher.timeout(Duration::from_secs(1)));
    let (tell, mut told) = unbounded_channel();
    let handler = move |message: Message, lease: Lease| {
        let (publisher, tell) = (Arc::clone(&publisher), tell.clone());
        async move {
            let done = publisher.handle(message, lease).await;
            let _ = tell.send(done.as_ref().err().map(ToString::to_string));
            done
        }
    };
    let node = cluster.node("a", broker.consume().handler(handler)).await;
    broker.put(0, "customer-7", "x").await;
    for _ in 0..2 {
        assert!(next(&mut told).await.is_some(), "it is given up, and tried again");
    }
    node.shutdown().await;
    assert_eq!(broker.committed(0).filter(|offset| *offset > 0), None);
}
