//! TLS with an authority and a client's certificate of our own.

use std::path::PathBuf;

use leasehold_core::handler::Log;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use leasehold_event::rabbitmq::RabbitMq;
use leasehold_event::tls::Tls;

use crate::broker::{Broker, variable};
use crate::common::{Cluster, Gate, condition, impaired, next};

fn files() -> PathBuf {
    variable("LEASEHOLD_TEST_TLS").into()
}

fn consume(broker: &Broker) -> RabbitMq {
    let server = variable("LEASEHOLD_TEST_RABBITMQ_TLS");
    let (server, _) = server.rsplit_once('/').unwrap();
    let (_, vhost) = broker.url.rsplit_once('/').unwrap();
    RabbitMq::consume("orders-in", format!("{server}/{vhost}"), "in").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_prove_who_they_are() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let (gate, mut saw) = Gate::new(10);
    let files = files();
    let tls =
        Tls::default().ca(files.join("ca.pem")).identity(files.join("client.pem"), files.join("client.key"));
    let endpoint = consume(&broker).tls(tls);
    let node = cluster
        .node("a", endpoint.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease)))
        .await;
    condition(&node, Condition::is_working).await;
    broker.put("x").await;
    assert_eq!(next(&mut saw).await.0, "x");
    node.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_an_unknown_authority_is_not_spoken_to() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let node = cluster.node("a", consume(&broker).handler(Log)).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    assert!(impaired(&shown).to_lowercase().contains("certificate"), "{shown:?}");
    node.shutdown().await;
    broker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_named() {
    let (broker, cluster) = (Broker::new("classic").await, Cluster::new());
    let node =
        cluster.node("a", consume(&broker).tls(Tls::default().ca("/no/such/ca.pem")).handler(Log)).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    assert!(impaired(&shown).contains("tls ca: the file /no/such/ca.pem cannot be read"), "{shown:?}");
    node.shutdown().await;
    broker.end().await;
}
