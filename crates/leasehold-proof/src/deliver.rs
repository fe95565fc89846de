//! What brings messages to the endpoint: of a store, of a queue, or of a topic.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold::handler::HandlerError;
use leasehold::prelude::*;
use leasehold_core::failpoint::{self, Point};

use crate::node::{Broken, Options};
use crate::record::{Told, now_ms};
use crate::work::Voice;

/// The endpoint may take so long for an answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How much later than it acknowledges one that is broken delivers.
const LATE: Duration = Duration::from_millis(40);

/// Tells the recorder that it begins, and forwards to it.
pub(crate) struct Deliver {
    forward: Arc<Forward>,
    voice: Voice,
    acknowledges_first: bool,
}

impl Deliver {
    pub(crate) fn new(options: &Options, voice: &Voice, artifact: &str) -> anyhow::Result<Self> {
        let forward = Forward::post(voice.url(&format!("deliver/{artifact}")))?
            .timeouts(ANSWER, ANSWER, ANSWER)?
            .header("content-type", "application/json")?;
        let first = Broken::AcknowledgesFirst { artifact: artifact.to_owned() };
        let acknowledges_first = options.broken.as_ref() == Some(&first);
        Ok(Self { forward: Arc::new(forward), voice: voice.clone(), acknowledges_first })
    }
}

#[async_trait]
impl Handler for Deliver {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        let (artifact, token) = (lease.artifact().to_string(), lease.token().0);
        let from = now_ms();
        let valid = lease.is_valid();
        self.voice.say(Told::Begun { artifact, token, valid, from, until: now_ms() });
        if !self.acknowledges_first {
            return failpoint::sent(Point::EffectSent, self.forward.handle(message, lease)).await;
        }
        let forward = Arc::clone(&self.forward);
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            forward.handle(message, lease).await
        });
        Ok(())
    }
}

/// What has failed is tried again soon, and for ever.
#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
pub(crate) fn retry() -> RetryPolicy {
    let (backoff, max_backoff) = (Duration::from_millis(50), Duration::from_millis(200));
    RetryPolicy { backoff, max_backoff, ..RetryPolicy::default() }
}
