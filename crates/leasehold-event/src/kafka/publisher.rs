//! A handler that publishes what it gets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::handler::{Handler, HandlerError};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;

use super::client::Access;
use super::config::{DEFAULT_TIMEOUT, Sasl};
use super::convert;
use super::producer::Producer;
use crate::dead;
use crate::error::Error;
use crate::tls::Tls;

/// Produces each message to a topic: done when the broker has it, with all replicas that it asks for. Key, payload and
/// headers stay; the token of the lease goes along in the header [`dead::TOKEN`]. Connects when it is first used, and
/// again after an outage.
///
/// A message whose confirm did not arrive is tried again by the endpoint's policy, so it may be there twice.
pub struct KafkaPublisher {
    access: Access,
    topic: String,
    producer: Mutex<Option<Arc<Producer>>>,
}

impl KafkaPublisher {
    /// Produces to `topic` of the brokers at `host:port`, separated by commas.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        let access = Access {
            artifact: String::new(),
            brokers: brokers.into(),
            timeout: DEFAULT_TIMEOUT,
            sasl: None,
            tls: None,
            properties: BTreeMap::new(),
        };
        Self { access, topic: topic.into(), producer: Mutex::new(None) }
    }

    /// Logs in.
    #[must_use]
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.access.sasl = Some(sasl);
        self
    }

    /// TLS; needs the feature `kafka-ssl`.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.access.tls = Some(tls);
        self
    }

    /// How long the broker may take for an answer; 10 s unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.access.timeout = timeout;
        self
    }

    fn producer(&self, lease: &Lease) -> Result<Arc<Producer>, Error> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = producer.as_ref().filter(|producer| !producer.is_broken()) {
            return Ok(Arc::clone(producer));
        }
        let access = Access { artifact: lease.artifact().to_string(), ..self.access.clone() };
        let made = Arc::new(Producer::new(access, &format!("leasehold-{}-publisher", lease.artifact()))?);
        *producer = Some(Arc::clone(&made));
        Ok(made)
    }
}

#[async_trait]
impl Handler for KafkaPublisher {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        let producer = self.producer(&lease)?;
        let headers = convert::headers(&message, [(dead::TOKEN, lease.token().to_string())]);
        lease.check()?;
        Ok(producer.send(&self.topic, &message, headers).await?)
    }
}

impl fmt::Debug for KafkaPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaPublisher")
            .field("brokers", &self.access.brokers)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
