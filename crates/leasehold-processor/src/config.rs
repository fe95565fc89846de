//! A processor as it is written in a file.

use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::dispatch::{self, Order, Place, RetryPolicy, Then};
use leasehold_core::duration;
use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::placement::Placement;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::breaker::Breaker;
#[cfg(feature = "http")]
use crate::forward::ForwardConfig;
use crate::gate::{Sampling, Throttle, Window};
use crate::store::Reading;

/// Attempts unless set: with the default pauses, about two minutes of an endpoint that fails for one message.
pub const DEFAULT_ATTEMPTS: u32 = 8;
/// Messages kept in memory unless set: with bodies of a kilobyte, 4 MiB. Whatever is larger than 16 KiB is read when its turn comes,
/// and holds 64 MiB together at most.
pub const DEFAULT_READ_AHEAD: usize = 4000;
/// More messages than this in memory are no read-ahead.
pub const MAX_READ_AHEAD: usize = 100_000;
/// How long acknowledgements wait for each other unless set: long enough for hundreds, and hardly any duplicates.
pub const DEFAULT_LAG: Duration = Duration::from_millis(20);
/// The longest such wait.
pub const MAX_LAG: Duration = Duration::from_secs(10);
/// How often an idle processor looks for messages unless set: two small reads a second.
pub const DEFAULT_POLL: Duration = Duration::from_millis(500);
/// How long parked messages are kept unless set: a month of nights is looked at by then.
pub const DEFAULT_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longer is a mistake in the unit.
pub const MAX_KEEP: Duration = Duration::from_secs(3650 * 24 * 3600);
/// The shortest and the longest time between two looks.
pub const MIN_POLL: Duration = Duration::from_millis(10);
/// See [`MIN_POLL`].
pub const MAX_POLL: Duration = Duration::from_secs(3600);

/// A processor as it is written in a file; the twin of [`Processor`](crate::Processor). Durations are a whole number and a
/// unit.
///
/// ```toml
/// name = "crm-push"
/// store = { sql = "outbox" }
/// forward = { method = "POST", url = "https://crm.example/orders/{header.region}" }   # or a handler of the program's
/// order = { per-key = 32 }              # or "ordered" (unless set), or { unordered = 32 }
/// retry = { attempts = 8, backoff = "1s", max-backoff = "60s", then = "park" }        # "deactivate" unless set, or "drop"
/// acknowledge = { within = "20ms" }     # or "each": before the next message is handed over
/// breaker = { failures = 5, pause = "5s", max-pause = "60s" }                          # or "off"
/// # throttle = { messages = 100, per = "1s", burst = 10 }
/// # windows = [{ opens = "0 0 22 * * *", lasts = "8h", zone = "Europe/London" }]
/// # sampling = { messages = 10, every = "1m" }
/// read-ahead = 4000
/// poll = "500ms"
/// keep = "30d"                          # parked messages
/// # placement = { resolver = "round-robin" }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ProcessorConfig {
    /// The artifact's name, unique in the cluster.
    pub name: ArtifactName,
    /// Where its messages are.
    pub store: StoreConfig,
    /// Where they are forwarded to, unless a handler of the program's gets them.
    #[cfg(feature = "http")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<ForwardConfig>,
    /// How many at once, and in which order; one at a time unless set.
    #[serde(default)]
    pub order: Order,
    /// What becomes of what fails.
    #[serde(default)]
    pub retry: Retry,
    /// When deliveries are written down.
    #[serde(default)]
    pub acknowledge: Acknowledge,
    /// What happens when the endpoint fails as a whole.
    #[serde(default)]
    pub breaker: Switch,
    /// So many messages per time at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// When messages are handed over; at all times unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// So many messages of each interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Messages kept in memory at most; [`DEFAULT_READ_AHEAD`] unless set.
    #[serde(default = "read_ahead")]
    pub read_ahead: usize,
    /// How often an idle processor looks for messages; [`DEFAULT_POLL`] unless set.
    #[serde(default = "poll", with = "duration::serde")]
    pub poll: Duration,
    /// How long parked messages are kept; [`DEFAULT_KEEP`] unless set.
    #[serde(default = "keep", with = "duration::serde")]
    pub keep: Duration,
    /// How it is placed; as the node's other artifacts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

fn read_ahead() -> usize {
    DEFAULT_READ_AHEAD
}

fn poll() -> Duration {
    DEFAULT_POLL
}

fn keep() -> Duration {
    DEFAULT_KEEP
}

/// Where messages are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StoreConfig {
    /// In the database of the leases: the name of an [`SqlStore`](crate::SqlStore).
    Sql(String),
}

/// What becomes of a message that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Retry {
    /// How often it is handed over at most, by whichever holder; [`DEFAULT_ATTEMPTS`] unless set.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one, and is shortened by chance.
    #[serde(with = "duration::serde")]
    pub backoff: Duration,
    /// The longest pause.
    #[serde(with = "duration::serde")]
    pub max_backoff: Duration,
    /// What happens after the last attempt, and to what is rejected.
    pub then: Exhausted,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: DEFAULT_ATTEMPTS,
            backoff: dispatch::DEFAULT_BACKOFF,
            max_backoff: dispatch::DEFAULT_MAX_BACKOFF,
            then: Exhausted::default(),
        }
    }
}

/// What happens to a message whose attempts are used up, or that was rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exhausted {
    /// The processor is paused in the whole cluster, until somebody resumes it; the message stays where it is.
    #[default]
    Deactivate,
    /// It is parked, with the reason and the last answer, where it can be looked at and replayed; those after it go on.
    Park,
    /// It is deleted; only the log tells of it.
    Drop,
}

/// When deliveries are written down: what is not comes again after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledge {
    /// Many together: each waits so long for others at most.
    #[serde(with = "duration::serde")]
    Within(Duration),
    /// Each before the next message is handed over: at most what is in flight comes again.
    Each,
}

impl Default for Acknowledge {
    fn default() -> Self {
        Self::Within(DEFAULT_LAG)
    }
}

/// A circuit breaker, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Switch {
    /// This one.
    On(Breaker),
    /// None: what cannot be reached is tried as often as anything else.
    Off(Off),
}

/// `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Off {
    /// `"off"`.
    Off,
}

impl Default for Switch {
    fn default() -> Self {
        Self::On(Breaker::default())
    }
}

impl ProcessorConfig {
    /// A processor with the defaults.
    pub fn new(name: ArtifactName, store: StoreConfig) -> Self {
        Self {
            name,
            store,
            #[cfg(feature = "http")]
            forward: None,
            order: Order::default(),
            retry: Retry::default(),
            acknowledge: Acknowledge::default(),
            breaker: Switch::default(),
            throttle: None,
            windows: Vec::new(),
            sampling: None,
            read_ahead: read_ahead(),
            poll: poll(),
            keep: keep(),
            placement: None,
        }
    }

    /// Checks that the values can work.
    ///
    /// # Errors
    /// [`Error::Artifact`] naming the processor, the field, its value and the remedy.
    pub fn validate(&self) -> Result<(), Error> {
        self.problem().map_err(|problem| Error::artifact(self.name.as_str(), problem))
    }

    fn problem(&self) -> Result<(), String> {
        self.order.validate().map_err(|problem| format!("order {problem}"))?;
        self.policy().validate()?;
        if let Some(throttle) = &self.throttle {
            throttle.validate()?;
        }
        if let Some(sampling) = &self.sampling {
            sampling.validate()?;
        }
        for window in &self.windows {
            window.parse()?;
        }
        if let Switch::On(breaker) = &self.breaker {
            breaker.validate()?;
        }
        let at_once = self.order.at_once();
        if self.read_ahead < at_once || self.read_ahead > MAX_READ_AHEAD {
            return Err(format!(
                "read-ahead {} is out of range: give at least as many as are handled at once ({at_once}), and at most {MAX_READ_AHEAD}",
                self.read_ahead
            ));
        }
        if self.poll < MIN_POLL || self.poll > MAX_POLL {
            return Err(format!("poll {:?} is out of range: give {MIN_POLL:?} to {MAX_POLL:?}", self.poll));
        }
        if self.keep.is_zero() || self.keep > MAX_KEEP {
            return Err(format!(
                "keep {:?} is out of range: give more than nothing, and at most {MAX_KEEP:?}",
                self.keep
            ));
        }
        if let Acknowledge::Within(lag) = self.acknowledge
            && (lag.is_zero() || lag > MAX_LAG)
        {
            return Err(format!(
                "acknowledge within {lag:?} is out of range: give up to {MAX_LAG:?}, or \"each\""
            ));
        }
        #[cfg(feature = "http")]
        if let Some(forward) = &self.forward {
            forward.problem()?;
        }
        Ok(())
    }

    /// What the engine goes by.
    pub(crate) fn policy(&self) -> RetryPolicy {
        let Retry { attempts, backoff, max_backoff, then } = self.retry;
        RetryPolicy {
            attempts: Some(attempts),
            backoff,
            max_backoff,
            // Without an order there is no reason to keep what waits in memory.
            place: if self.order.allows_requeue() { Place::Requeue } else { Place::InPlace },
            then: match then {
                Exhausted::Deactivate => Then::Stop,
                Exhausted::Park => Then::DeadLetter,
                Exhausted::Drop => Then::Discard,
            },
        }
    }

    /// How the store is read.
    pub(crate) fn reading(&self) -> Reading {
        let lag = match self.acknowledge {
            Acknowledge::Within(lag) => lag,
            Acknowledge::Each => Duration::ZERO,
        };
        Reading {
            order: self.order,
            attempts: self.retry.attempts,
            lag,
            poll: self.poll,
            read_ahead: self.read_ahead,
            keep: self.keep,
        }
    }

    /// Tells this configuration from another one.
    pub(crate) fn fingerprint(&self) -> Uuid {
        leasehold_core::artifact::fingerprint(self)
    }
}

#[cfg(test)]
mod tests;
