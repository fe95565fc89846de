//! Topics and a group of its own, and what a bystander sees of them.

use std::time::Duration;

use leasehold_event::kafka::Kafka;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::common::PATIENCE;

pub fn brokers() -> String {
    std::env::var("LEASEHOLD_TEST_KAFKA")
        .expect("LEASEHOLD_TEST_KAFKA must name a broker: see CONTRIBUTING.md, or run scripts/test")
}

pub struct Broker {
    pub topic: String,
    pub group: String,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
}

impl Broker {
    /// A topic with so many partitions.
    pub async fn new(partitions: i32) -> Self {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers()).set("linger.ms", "0");
        settings.set("message.max.bytes", "5000000");
        let id = uuid::Uuid::now_v7().simple();
        let broker = Self {
            topic: format!("test-{id}"),
            group: format!("group-{id}"),
            admin: settings.create().unwrap(),
            producer: settings.create().unwrap(),
        };
        broker.create(&broker.topic, partitions).await;
        broker
    }

    pub async fn create(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = self.admin.create_topics(&[new], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// The topic has so many partitions from now on.
    pub async fn grow(&self, partitions: usize) {
        let grown = NewPartitions::new(&self.topic, partitions);
        let made = self.admin.create_partitions(&[grown], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let known = || {
            let topic = self.producer.client().fetch_metadata(Some(&self.topic), PATIENCE).unwrap();
            topic.topics()[0].partitions().len()
        };
        // The producer is to know of them, too.
        while known() < partitions {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is before this offset is gone, as after the topic's retention.
    pub async fn expire(&self, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(before)).unwrap();
        self.admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    }

    /// One that takes messages of some megabytes.
    pub async fn create_large(&self, topic: &str) {
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "5000000");
        let made = self.admin.create_topics(&[new], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// A consumer of the topic.
    pub fn consume(&self) -> Kafka {
        Kafka::consume("payments-in", brokers(), [self.topic.as_str()]).unwrap().group(self.group.as_str())
    }

    pub async fn put(&self, partition: i32, key: &str, body: &str) {
        self.put_record(FutureRecord::to(&self.topic).partition(partition).key(key).payload(body)).await;
    }

    pub async fn put_record(&self, record: FutureRecord<'_, str, str>) {
        self.producer.send(record, PATIENCE).await.unwrap();
    }

    /// What the group has committed.
    pub fn committed(&self, partition: i32) -> Option<i64> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers()).set("group.id", &self.group);
        let consumer: BaseConsumer = settings.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        // The list does not outlive its consumer: that would hang.
        let offset = consumer.committed_offsets(list, PATIENCE).unwrap().elements()[0].offset();
        match offset {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// Waits until the group has committed this.
    pub async fn until_committed(&self, partition: i32, wanted: i64) {
        let looking = async {
            while self.committed(partition) != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            panic!("committed {:?}, not {wanted}", self.committed(partition));
        }
    }

    /// The first messages of a topic with one partition.
    pub fn read(&self, topic: &str, count: usize) -> Vec<OwnedMessage> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers()).set("group.id", format!("{}-reader", self.group));
        settings.set("enable.auto.commit", "false");
        let consumer: BaseConsumer = settings.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        drop(list);
        (0..count)
            .map(|_| {
                loop {
                    if let Some(message) = consumer.poll(PATIENCE) {
                        break message.unwrap().detach();
                    }
                }
            })
            .collect()
    }
}

pub fn header(message: &OwnedMessage, name: &str) -> String {
    use rdkafka::message::Headers;
    let headers = message.headers().unwrap();
    let found =
        headers.iter().find(|header| header.key == name).unwrap_or_else(|| panic!("no header {name}"));
    String::from_utf8(found.value.unwrap().to_vec()).unwrap()
}
