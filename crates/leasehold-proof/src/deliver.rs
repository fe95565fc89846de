//! What brings messages to the endpoint: of a store, of a queue, or of a topic.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold::handler::HandlerError;
use leasehold::prelude::*;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::failpoint::{self, Point};

use crate::node::{Broken, Options};
use crate::record::{Told, now_ms};
use crate::work::{self, Voice};

/// The endpoint may take so long for an answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How much later than it acknowledges one that is broken delivers, or how much later than its effect it is done.
const LATE: Duration = Duration::from_millis(40);

/// Tells the recorder that it begins, and forwards to it.
pub(crate) struct Deliver {
    forward: Arc<Forward>,
    voice: Voice,
    acknowledges_first: bool,
    records: bool,
    records_apart: bool,
}

impl Deliver {
    pub(crate) fn new(options: &Options, voice: &Voice, artifact: &str) -> anyhow::Result<Self> {
        let forward = Forward::post(voice.url(&format!("deliver/{artifact}")))?
            .timeouts(ANSWER, ANSWER, ANSWER)?
            .header("content-type", "application/json")?;
        let first = Broken::AcknowledgesFirst { artifact: artifact.to_owned() };
        let acknowledges_first = options.broken.as_ref() == Some(&first);
        let records_apart = options.broken == Some(Broken::RecordsApart);
        let (forward, voice, records) = (Arc::new(forward), voice.clone(), false);
        Ok(Self { forward, voice, acknowledges_first, records, records_apart })
    }

    /// What has arrived has an effect in the database as well, in the transaction that moves its offset.
    #[cfg(feature = "kafka")]
    pub(crate) fn recording(mut self) -> Self {
        self.records = true;
        self
    }

    /// Goes by the partition and the offset: one that takes effect twice, or after a later one, is told like that.
    async fn record(&self, message: &Message, lease: &Lease) -> Result<(), HandlerError> {
        let (Some(progress), Some((_, partition))) =
            (&message.parts().progress, message.source().rsplit_once('/'))
        else {
            return Ok(());
        };
        let (artifact, token) = (format!("{}/{partition}", lease.artifact()), lease.token().0);
        let value = i64::try_from(progress.value())?;
        let recording = lease.transaction(lease.database(), async |txn| {
            work::insert_as(&artifact, lease, txn, value).await?;
            if !self.records_apart {
                message.record(lease, txn).await?;
            }
            // What follows is the fence, and the commit.
            Ok::<_, ArtifactError>(now_ms())
        });
        let from = recording.await.map_err(|error| HandlerError::retry(error.to_string()))?;
        self.voice.say(Told::Effect { artifact, token, value, from, until: now_ms() });
        if self.records_apart {
            tokio::time::sleep(LATE).await;
        }
        Ok(())
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
            let forwarding = self.forward.handle(message.clone(), lease.clone());
            failpoint::sent(Point::EffectSent, forwarding).await?;
            return if self.records { self.record(&message, &lease).await } else { Ok(()) };
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
