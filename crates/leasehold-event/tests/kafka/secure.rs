//! TLS with an authority and a client's certificate of our own, and passwords.

use std::path::PathBuf;

use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_event::kafka::{Kafka, Mechanism};
use leasehold_event::tls::Tls;

use crate::broker::Broker;
use crate::common::{Cluster, Gate, condition, impaired, next};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} must be set: run scripts/test"))
}

fn consume(broker: &Broker, mechanism: Mechanism, password: &str) -> Kafka {
    let files = PathBuf::from(variable("LEASEHOLD_TEST_TLS"));
    let tls =
        Tls::default().ca(files.join("ca.pem")).identity(files.join("client.pem"), files.join("client.key"));
    let kafka =
        Kafka::consume("payments-in", variable("LEASEHOLD_TEST_KAFKA_TLS"), [broker.topic.as_str()]).unwrap();
    kafka.group(broker.group.as_str()).tls(tls).sasl(mechanism, "shop", password)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_prove_who_they_are_by_certificate_and_password() {
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha512] {
        let (broker, cluster) = (Broker::new(1).await, Cluster::new());
        let (gate, mut saw) = Gate::new(10);
        let kafka = consume(&broker, mechanism, "secret");
        let node = cluster
            .node("a", kafka.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease)))
            .await;
        broker.put(0, "k", "x").await;
        assert_eq!(next(&mut saw).await.0, "x");
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_without_it() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let kafka = consume(&broker, Mechanism::ScramSha512, "hunter2");
    let node = cluster.node("a", kafka.handler(leasehold_core::handler::Log)).await;
    let shown = condition(&node, |shown| impaired(shown).contains("check user, password")).await;
    assert!(!impaired(&shown).contains("hunter2"), "{shown:?}");
    node.shutdown().await;
}
