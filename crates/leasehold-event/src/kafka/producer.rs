//! Producing with confirms.

use std::time::Duration;

use leasehold_core::message::Message;
use rdkafka::ClientConfig;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::client::{Access, millis};
use crate::error::{Error, ErrorKind};

/// Collects what is sent within this into one request.
const LINGER: Duration = Duration::from_millis(2);
/// As much as librdkafka allows: what a topic takes is up to the broker, and what was consumed is as large as it is.
const LARGEST: u32 = 1_000_000_000;

/// A producer that is dropped on a thread of its own: that may take as long as a broker does not answer.
pub(super) struct Producer {
    access: Access,
    inner: Option<FutureProducer>,
}

impl Producer {
    /// Connects in the background.
    pub(super) fn new(access: Access, client: &str) -> Result<Self, Error> {
        const OPERATION: &str = "make a producer";
        let settings = access.settings();
        let mut settings: ClientConfig =
            settings.map_err(|error| Error::new(ErrorKind::Config, OPERATION, error.to_string()))?;
        settings
            .set("client.id", client)
            .set("message.max.bytes", LARGEST.to_string())
            .set("enable.idempotence", "true")
            .set("linger.ms", millis(LINGER))
            .set("message.timeout.ms", millis(access.timeout.max(LINGER * 2)));
        let inner = settings.create().map_err(|error| access.explain(OPERATION, &error, ""))?;
        Ok(Self { access, inner: Some(inner) })
    }

    /// Whether it sends nothing any more: another is to be made.
    pub(super) fn is_broken(&self) -> bool {
        self.inner.as_ref().is_none_or(|producer| producer.client().fatal_error().is_some())
    }

    /// Sends a message, and waits until the broker has it. After an error of kind [`ErrorKind::Timeout`] the outcome is
    /// unknown.
    pub(super) async fn send(
        &self,
        topic: &str,
        message: &Message,
        headers: OwnedHeaders,
    ) -> Result<(), Error> {
        const OPERATION: &str = "produce";
        let Some(producer) = &self.inner else { return Ok(()) };
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
        record.key = message.key().map(|key| &key[..]);
        record.payload = message.body().map(|body| &body[..]);
        let sent = producer.send(record, self.access.timeout).await;
        sent.map(drop)
            .map_err(|(error, _)| self.access.explain(OPERATION, &error, &format!("topic {topic:?}")))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            let ending =
                std::thread::Builder::new().name("leasehold-kafka-end".to_owned()).spawn(move || drop(inner));
            if let Err(error) = ending {
                tracing::warn!(%error, "no thread to end a Kafka producer on");
            }
        }
    }
}
