//! What a topic gets.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::{ANSWER, PARTITIONS};
use crate::record::Parcel;

/// One message of those that were on their way when a topic was made anew may be in it, and its end is to be before a position.
const SPARE: u64 = 2;

/// Publishes, with confirms.
pub(super) struct Publishing {
    settings: ClientConfig,
    topic: String,
    state: Mutex<State>,
}

struct State {
    producer: FutureProducer,
    /// So many messages each partition may still get.
    room: Vec<u64>,
}

impl Publishing {
    pub(super) fn new(mut settings: ClientConfig, topic: &str) -> Result<Self> {
        settings.set("enable.idempotence", "true").set("linger.ms", "0").set("message.timeout.ms", "5000");
        let (producer, room) = (settings.create()?, vec![u64::MAX; PARTITIONS.into()]);
        Ok(Self { settings, topic: topic.to_owned(), state: Mutex::new(State { producer, room }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic was made anew, and gets less than it had: so far the group had come in each partition.
    pub(super) fn begin_anew(&self, told: &[u64]) -> Result<()> {
        let producer = self.settings.create()?;
        let room = told.iter().map(|offset| offset.saturating_sub(SPARE)).collect();
        *self.state() = State { producer, room };
        Ok(())
    }

    /// What sends to this partition, if it may get one more.
    fn take(&self, partition: u16) -> Option<FutureProducer> {
        let mut state = self.state();
        let room = state.room.get_mut(usize::from(partition))?;
        *room = room.checked_sub(1)?;
        Some(state.producer.clone())
    }

    /// Whether it is there for sure. Each partition gets as many as the others, and all of a key: keys are a multiple of them.
    pub(super) async fn publish(&self, parcel: &Parcel) -> bool {
        let Ok(body) = serde_json::to_string(parcel) else { return false };
        let partition = (parcel.number % u64::from(PARTITIONS)) as u16;
        let Some(producer) = self.take(partition) else { return false };
        let record = FutureRecord::to(&self.topic).key(&parcel.key).payload(&body);
        let record = record.partition(partition.into());
        if producer.send(record, ANSWER).await.is_ok() {
            return true;
        }
        if producer.client().fatal_error().is_some()
            && let Ok(another) = self.settings.create()
        {
            self.state().producer = another;
        }
        false
    }
}
