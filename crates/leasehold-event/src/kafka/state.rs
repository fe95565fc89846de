//! What the client's thread and its callbacks share.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leasehold_core::dispatch::Event;
use leasehold_core::lease::Lease;
use leasehold_core::status::Condition;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

use super::client::Access;
use super::config::{KafkaConfig, Offsets, Protocol, Start};
use super::shared::{Book, checkpoint};
use crate::error::{Error, ErrorKind};

/// What the thread and the client's callbacks share.
pub(super) struct Shared {
    pub(super) config: Arc<KafkaConfig>,
    pub(super) access: Access,
    pub(super) lease: Lease,
    runtime: Handle,
    book: Mutex<Book>,
    events: UnboundedSender<Vec<Event>>,
    /// The group is to assign partitions anew.
    anew: AtomicBool,
    /// Nothing is committed any more.
    over: AtomicBool,
    /// Why the client is of no use any more.
    failed: Mutex<Option<Error>>,
    /// Commits follow one another, so that none tells less than one before it.
    committing: Mutex<()>,
    /// What the client last said of an error.
    told: Mutex<String>,
    /// Why a broker refused this client: "all brokers are down" follows it, and says less.
    refused: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(config: Arc<KafkaConfig>, lease: Lease, events: UnboundedSender<Vec<Event>>) -> Self {
        let (access, runtime) = (Access::from(&*config), Handle::current());
        let (book, anew, over, failed, committing, told, refused) = Default::default();
        Self { config, access, lease, runtime, book, events, anew, over, failed, committing, told, refused }
    }

    /// Nothing is committed any more.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Why the client is of no use any more, once.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the client is of no use any more.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// It cannot work at present.
    pub(super) fn impaired(&self, error: &Error) {
        let mut text = error.to_string();
        {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            match (error.kind(), &*refused) {
                (ErrorKind::Refused, _) => *refused = Some(text.clone()),
                (ErrorKind::Unreachable, Some(refused)) => text = format!("{text}; before that: {refused}"),
                _ => *refused = None,
            }
        }
        tracing::warn!(artifact = %self.lease.artifact(), error = %text, "cannot consume; trying again");
        self.lease.report(Condition::Impaired(text.into()));
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, error: Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub(super) fn explain(&self, operation: &'static str, error: &KafkaError) -> Error {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.access.explain(operation, error, &told)
    }

    pub(super) fn bring(&self, events: Vec<Event>) {
        if !events.is_empty() {
            // The source was dropped: nobody wants them.
            let _ = self.events.send(events);
        }
    }

    /// Commits what was handled, unless the lease is lost. Waits for the broker, and for a commit that is under way.
    pub(super) fn commit(&self, consumer: &BaseConsumer<Callbacks>) -> Result<(), Error> {
        let _one = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let commits = self.book().to_commit();
        let told = commits.iter().map(|commit| (&*commit.topic, commit.partition, commit.offset));
        if self.tell(consumer, told)? {
            self.book().committed(&commits);
        }
        Ok(())
    }

    /// Whether the broker was told.
    fn tell<'a>(
        &self,
        consumer: &BaseConsumer<Callbacks>,
        offsets: impl Iterator<Item = (&'a str, i32, u64)>,
    ) -> Result<bool, Error> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
            // Offsets of messages are no special values.
            let _ = list.add_partition_offset(topic, partition, offset);
        }
        if list.count() == 0 || self.over.load(Ordering::Acquire) || !self.lease.is_valid() {
            return Ok(false);
        }
        let told = consumer.commit(&list, CommitMode::Sync);
        told.map(|()| true).map_err(|error| self.explain("commit", &error))
    }

    fn patience(&self) -> Duration {
        self.config.timeout
    }

    /// The end of a partition of which nobody has handled anything, written down before anything is taken from it: the next
    /// holder would find a later one, and what came between them would be lost.
    fn pin(
        &self,
        consumer: &BaseConsumer<Callbacks>,
        topic: &str,
        partition: i32,
        name: &str,
    ) -> Result<Offset, Error> {
        const OPERATION: &str = "find the latest offset";
        let found = consumer.fetch_watermarks(topic, partition, self.patience());
        let (_, end) = found.map_err(|error| self.explain(OPERATION, &error))?;
        if self.config.offsets == Offsets::InDatabase {
            let saved = self.runtime.block_on(self.lease.save(name, end));
            saved.map_err(|error| {
                Error::new(ErrorKind::Other, OPERATION, format!("checkpoint {name}: {error}"))
            })?;
        } else {
            self.tell(consumer, [(topic, partition, end.unsigned_abs())].into_iter())?;
        }
        Ok(Offset::Offset(end))
    }

    /// Whether the group is to assign partitions anew.
    pub(super) fn is_anew(&self) -> bool {
        self.anew.load(Ordering::Acquire)
    }

    /// Whether the topics have partitions that this assignment lacks. A group gives a holder that comes back under the same
    /// instance id what the last one had, without looking at what was added meanwhile; and to the client nothing is new.
    fn lacks(&self, consumer: &BaseConsumer<Callbacks>, list: &TopicPartitionList) -> Result<bool, Error> {
        let elements = list.elements();
        for topic in self.config.topics.iter().filter(|topic| !topic.starts_with('^')) {
            let metadata = consumer.fetch_metadata(Some(topic), self.patience());
            let metadata = metadata.map_err(|error| self.explain("find partitions", &error))?;
            let there: usize = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
            if elements.iter().filter(|element| element.topic() == topic).count() < there {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn assigned(&self, consumer: &BaseConsumer<Callbacks>, list: &TopicPartitionList) -> Result<(), Error> {
        // Once: others of the group may have them by right.
        if self.config.protocol == Protocol::Classic && !self.is_anew() && self.lacks(consumer, list)? {
            self.anew.store(true, Ordering::Release);
            let text = "there are more partitions than when the group was last assigned: joining it anew";
            return Err(Error::new(ErrorKind::Other, "assign partitions", text));
        }
        let (in_database, latest) =
            (self.config.offsets == Offsets::InDatabase, self.config.start == Start::Latest);
        if (in_database || latest) && list.count() > 0 {
            let committed = if in_database {
                TopicPartitionList::new()
            } else {
                let asked = consumer.committed_offsets(list.clone(), self.patience());
                asked.map_err(|error| self.explain("read committed offsets", &error))?
            };
            let mut from = TopicPartitionList::with_capacity(list.count());
            let mut assigned = Vec::new();
            for element in list.elements() {
                let (topic, partition) = (element.topic(), element.partition());
                let name = checkpoint(topic, partition);
                let failed = |error: &dyn Display| {
                    Error::new(ErrorKind::Other, "read offsets", format!("checkpoint {name}: {error}"))
                };
                let known = if in_database {
                    let loaded = self.runtime.block_on(self.lease.load(&name));
                    let loaded = loaded.map_err(|error| failed(&error))?;
                    loaded.map(|text| text.parse()).transpose().map_err(|error| failed(&error))?
                } else {
                    committed.find_partition(topic, partition).and_then(|known| match known.offset() {
                        Offset::Offset(offset) => Some(offset),
                        _ => None,
                    })
                };
                assigned.push((topic.to_owned(), partition, name, known));
            }
            // A partition that was added to a topic of which something is known has nothing from before: all of it is new.
            let begun = |topic: &str| {
                let known =
                    |(of, _, _, known): &(String, i32, String, Option<i64>)| of == topic && known.is_some();
                assigned.iter().any(known) || self.book().has_topic(topic)
            };
            for (topic, partition, name, known) in &assigned {
                let offset = match known {
                    Some(offset) => Offset::Offset(*offset),
                    None if latest && !begun(topic) => self.pin(consumer, topic, *partition, name)?,
                    None => Offset::Beginning,
                };
                from.add_partition_offset(topic, *partition, offset).map_err(|error| {
                    Error::new(ErrorKind::Other, "assign partitions", format!("{topic}/{partition}: {error}"))
                })?;
            }
            consumer.assign(&from).map_err(|error| self.explain("assign partitions", &error))?;
        }
        self.works(list);
        Ok(())
    }

    /// It consumes what is assigned. A topic of which nothing is assigned is told of: it may be missing.
    pub(super) fn works(&self, assigned: &TopicPartitionList) {
        let KafkaConfig { topics, brokers, .. } = &*self.config;
        let (group, partitions) = (self.config.group(), assigned.count());
        let text = format!(
            "consumes {partitions} partitions of {} of {brokers}, group {group:?}",
            topics.join(", ")
        );
        let absent = |topic: &&str| !topic.starts_with('^') && assigned.elements_for_topic(topic).is_empty();
        let absent: Vec<&str> = topics.iter().map(String::as_str).filter(absent).collect();
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let condition = if absent.is_empty() {
            tracing::info!(artifact = %self.lease.artifact(), token = %self.lease.token(), "{text}");
            Condition::Working(text.into())
        } else {
            let text = format!(
                "{text}, but none of {}: make the topic, which is looked for every 10 s, or end the other member of the group that has it",
                absent.join(", ")
            );
            tracing::warn!(artifact = %self.lease.artifact(), token = %self.lease.token(), "{text}");
            Condition::Impaired(text.into())
        };
        self.lease.report(condition);
    }
}

/// The client's callbacks: called on the thread, while it polls the client or drops it.
pub(super) struct Callbacks(pub(super) Arc<Shared>);

impl ClientContext for Callbacks {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(artifact = %self.0.lease.artifact(), facility, text, "librdkafka");
    }

    fn error(&self, _: KafkaError, reason: &str) {
        *self.0.told.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_owned();
    }
}

impl ConsumerContext for Callbacks {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        if let Err(error) = self.0.commit(consumer) {
            tracing::debug!(artifact = %self.0.lease.artifact(), %error, "not committed before partitions went");
        }
        let gone = |element: &TopicPartitionListElem<'_>| {
            self.0.book().revoke(element.topic(), element.partition()).map(Event::Lost)
        };
        self.0.bring(list.elements().iter().filter_map(gone).collect());
        // The client would keep what was paused paused when it is assigned again, and until then there is nothing to resume.
        if let Err(error) = consumer.resume(list) {
            tracing::debug!(artifact = %self.0.lease.artifact(), %error, "not resumed before partitions went");
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        if let Err(error) = self.0.assigned(consumer, list) {
            self.0.fail(error);
        }
    }
}
