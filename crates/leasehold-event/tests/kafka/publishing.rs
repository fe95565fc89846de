//! A handler that publishes on.

use leasehold_core::handler::{HandlerExt, Log};
use leasehold_event::dead;
use leasehold_event::kafka::KafkaPublisher;
use rdkafka::Message as _;

use crate::broker::{Broker, brokers, header};
use crate::common::Cluster;

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
