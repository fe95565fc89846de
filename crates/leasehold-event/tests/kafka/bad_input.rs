//! What cannot work is told: with artifact, broker and remedy.

use std::time::Duration;

use leasehold_core::artifact::Artifact;
use leasehold_core::dispatch::Order;
use leasehold_core::handler::Log;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use leasehold_event::kafka::{Kafka, KafkaConfig, Key, Mechanism, Offsets, Protocol};
use leasehold_testkit::proxy::{Fault, FaultProxy};

use crate::broker::{Broker, brokers};
use crate::common::{Cluster, Gate, condition, impaired, next};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_told_and_found_when_it_is_made() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let topic = format!("{}.missing", broker.topic);
    let (gate, mut saw) = Gate::new(10);
    let kafka = Kafka::consume("payments-in", brokers(), [topic.as_str()]).unwrap();
    let kafka = kafka.group(broker.group.as_str()).property("topic.metadata.refresh.interval.ms", "500");
    let node = cluster
        .node("a", kafka.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease)))
        .await;
    let shown = condition(&node, |shown| impaired(shown).contains("make the topic")).await;
    assert!(impaired(&shown).contains(&topic), "{shown:?}");
    broker.create(&topic, 1).await;
    condition(&node, Condition::is_working).await;
    broker.put_record(rdkafka::producer::FutureRecord::to(&topic).key("k").payload("x")).await;
    assert_eq!(next(&mut saw).await.0, "x");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_missing_topic_of_two_is_told_while_the_other_is_consumed() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let topic = format!("{}.missing", broker.topic);
    let (gate, mut saw) = Gate::new(10);
    let kafka = Kafka::consume("payments-in", brokers(), [broker.topic.as_str(), topic.as_str()]).unwrap();
    let kafka = kafka.group(broker.group.as_str()).property("topic.metadata.refresh.interval.ms", "500");
    let node = cluster
        .node("a", kafka.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease)))
        .await;
    broker.put(0, "k", "there").await;
    assert_eq!(next(&mut saw).await.0, "there");
    let shown = condition(&node, |shown| impaired(shown).contains("but none of")).await;
    assert!(impaired(&shown).contains(&format!("none of {topic}: make the topic")), "{shown:?}");
    broker.create(&topic, 1).await;
    condition(&node, Condition::is_working).await;
    broker.put_record(rdkafka::producer::FutureRecord::to(&topic).key("k").payload("found")).await;
    assert_eq!(next(&mut saw).await.0, "found");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_and_works_again_when_it_is_back() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let upstream = tokio::net::lookup_host(brokers()).await.unwrap().next().unwrap();
    let proxy = FaultProxy::start(upstream).await.unwrap();
    proxy.set(Fault::Refuse);
    let (gate, mut saw) = Gate::new(10);
    let kafka = Kafka::consume("payments-in", proxy.address().to_string(), [broker.topic.as_str()]).unwrap();
    let kafka = kafka.group(broker.group.as_str());
    let endpoint = kafka.handler(move |message: Message, lease: Lease| gate.clone().pass(message, lease));
    let node = cluster.node("a", endpoint).await;
    let shown = condition(&node, |shown| impaired(shown).contains("it is tried again")).await;
    assert!(impaired(&shown).contains(&proxy.address().to_string()), "{shown:?}");
    proxy.set(Fault::None);
    condition(&node, Condition::is_working).await;
    broker.put(0, "k", "x").await;
    assert_eq!(next(&mut saw).await.0, "x");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_answers_nothing_is_told() {
    let upstream = tokio::net::lookup_host(brokers()).await.unwrap().next().unwrap();
    let (cluster, proxy) = (Cluster::new(), FaultProxy::start(upstream).await.unwrap());
    proxy.set(Fault::BlackHole);
    let kafka = Kafka::consume("payments-in", proxy.address().to_string(), ["t"]).unwrap();
    let kafka = kafka.timeout(Duration::from_secs(1));
    let node = cluster.node("a", kafka.handler(Log)).await;
    condition(&node, |shown| impaired(shown).contains("it is tried again")).await;
    node.shutdown().await;
}

#[test]
fn what_contradicts_itself_is_refused_at_start_with_the_remedy() {
    let base = || Kafka::consume("payments-in", "broker:9092", ["payments"]).unwrap();
    let refused = |kafka: Kafka| kafka.handler(Log).validate().unwrap_err().to_string();
    let in_database = base().offsets(Offsets::InDatabase);
    assert!(
        refused(in_database.clone().order(Order::PerKey(4)))
            .contains("order ordered, or per-key with key partition")
    );
    in_database.order(Order::PerKey(4)).key(Key::Partition).handler(Log).validate().unwrap();
    let pattern =
        Kafka::consume("payments-in", "broker:9092", ["^pay.*"]).unwrap().dead_letter("payments.dead");
    pattern.clone().handler(Log).validate().unwrap();
    assert!(refused(pattern.protocol(Protocol::Consumer)).contains("give names, or use protocol classic"));
    assert!(refused(base().max_in_flight(0)).contains("max-in-flight 0"));
    assert!(refused(base().property("enable.auto.commit", "true")).contains("leasehold sets it"));
    assert!(refused(base().property("no.such.thing", "1")).contains("no.such.thing"));
    for name in ["ssl.key.password", "ssl.key.pem", "ssl.keystore.password", "sasl.oauthbearer.client.secret"]
    {
        let text = refused(base().property(name, "hunter2"));
        assert!(
            text.contains(name) && text.contains("it is a secret") && !text.contains("hunter2"),
            "{text}"
        );
    }
    assert!(refused(Kafka::consume("payments-in", "", ["payments"]).unwrap()).contains("brokers is empty"));
    let secret = base().sasl(Mechanism::Plain, "shop", "hunter2").handler(Log);
    assert!(!format!("{secret:?}").contains("hunter2"));
    secret.validate().unwrap();
}

#[test]
fn builder_and_file_are_two_doors_to_one_thing() {
    let built = Kafka::consume("payments-in", "broker:9092", ["payments"]).unwrap().group("billing");
    let built = built.order(Order::PerKey(16)).attempts(8).dead_letter("payments.dead");
    let text = "name = 'payments-in'\nbrokers = 'broker:9092'\ntopics = ['payments']\ngroup = 'billing'\n\
                order = { per-key = 16 }\nretry = { attempts = 8, then = 'dead-letter' }\ndead-letter = 'payments.dead'";
    let read: KafkaConfig = toml::from_str(text).unwrap();
    assert_eq!(built.config(), &read);
    let (built, read) = (built.handler(Log), Kafka::from_config(read).unwrap().handler(Log));
    assert_eq!(built.fingerprint(), read.fingerprint());
    let unknown = toml::from_str::<KafkaConfig>(&format!("{text}\ntopic = 'x'")).unwrap_err();
    assert!(unknown.to_string().contains("topic"), "{unknown}");
}
