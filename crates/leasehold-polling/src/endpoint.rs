//! The artifact that polls.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use leasehold_core::Error;
use leasehold_core::artifact::{self, Artifact, ArtifactError};
use leasehold_core::dispatch::{self, Settings};
use leasehold_core::handler::{Handler, SharedHandler};
use leasehold_core::lease::Lease;
use leasehold_core::name::{ArtifactKind, ArtifactName};
use leasehold_core::protocol::placement::Placement;
use serde::Serialize;
use uuid::Uuid;

use crate::config::{Polling, Progress, polling_builder};
use crate::once::Once;
use crate::poller::Poller;
use crate::source::Polled;

/// What an endpoint is made of besides its poller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Common {
    pub(crate) name: ArtifactName,
    pub(crate) polling: Polling,
    pub(crate) placement: Option<Placement>,
}

/// Polls on one replica, and brings what it finds to a handler: an artifact of kind `polling`. Made by
/// `Files`, `Http`, `Sql`, or from a [`Poller`] of one's own:
///
/// ```
/// # use leasehold_core::{Error, handler::HandlerError, lease::Lease, message::Message};
/// # use leasehold_polling::{Endpoint, Poller};
/// # fn make(mailbox: impl Poller) -> Result<Endpoint, Error> {
/// let endpoint = Endpoint::new("mailbox", mailbox, |message: Message, _: Lease| async move {
///     println!("{}", message.id());
///     Ok::<_, HandlerError>(())
/// })?;
/// # Ok(endpoint.every(std::time::Duration::from_secs(5))) }
/// ```
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) config: Common,
    kind: ArtifactKind,
    fingerprint: Uuid,
    /// Or what is wrong with its configuration.
    poller: Result<Arc<dyn Poller>, String>,
    handler: SharedHandler,
    park: Option<SharedHandler>,
}

impl Endpoint {
    /// Polls `poller` for `handler`.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn new(name: impl AsRef<str>, poller: impl Poller, handler: impl Handler) -> Result<Self, Error> {
        let config = Common { name: ArtifactName::new(name)?, polling: Polling::default(), placement: None };
        let poller: Arc<dyn Poller> = Arc::new(poller);
        let place = poller.place();
        Self::made(config, &place, Ok(poller), handler)
    }

    /// `rest` is what besides `config` tells this configuration from another one.
    pub(crate) fn made(
        config: Common,
        rest: &impl Serialize,
        poller: Result<Arc<dyn Poller>, String>,
        handler: impl Handler,
    ) -> Result<Self, Error> {
        Ok(Self {
            fingerprint: artifact::fingerprint(rest),
            config,
            kind: ArtifactKind::new("polling")?,
            poller,
            handler: Arc::new(handler),
            park: None,
        })
    }

    /// What could not be handled is parked with this handler, which gets it with the reason in its headers: one that stores it, for
    /// example. It is tried until that succeeds.
    #[must_use]
    pub fn park_with(mut self, keeper: impl Handler) -> Self {
        self.park = Some(Arc::new(keeper));
        self
    }

    polling_builder!();

    fn poller(&self) -> Result<&Arc<dyn Poller>, Error> {
        self.poller.as_ref().map_err(|problem| self.refused(problem.as_str()))
    }

    fn refused(&self, problem: &str) -> Error {
        Error::artifact(self.config.name.as_str(), problem)
    }

    fn keeps(&self, poller: &dyn Poller) -> bool {
        self.park.is_some() || poller.keeps_failed()
    }
}

#[async_trait]
impl Artifact for Endpoint {
    fn name(&self) -> &ArtifactName {
        &self.config.name
    }

    fn kind(&self) -> ArtifactKind {
        self.kind.clone()
    }

    fn placement(&self) -> Option<&Placement> {
        self.config.placement.as_ref()
    }

    fn fingerprint(&self) -> Uuid {
        // Serializing these types cannot fail.
        Uuid::new_v5(&self.fingerprint, &serde_json::to_vec(&self.config).unwrap_or_default())
    }

    fn validate(&self) -> Result<(), Error> {
        let poller = self.poller()?;
        let problem = self.config.polling.problem(self.keeps(poller.as_ref()), poller.records_itself());
        problem.map_err(|problem| self.refused(&problem))
    }

    async fn run(&self, lease: Lease) -> Result<(), ArtifactError> {
        let (poller, polling) = (Arc::clone(self.poller()?), &self.config.polling);
        let policy = polling.policy(self.keeps(poller.as_ref()));
        let handler: SharedHandler = match polling.progress {
            Progress::InHandler => Arc::new(Once(Arc::clone(&self.handler))),
            Progress::AfterHandler => Arc::clone(&self.handler),
        };
        let settings = Settings { order: polling.order, policy, capacity: polling.capacity() };
        let mut source = Polled::open(poller, polling.clone(), self.park.clone(), lease.clone()).await?;
        dispatch::run(&mut source, handler, &lease, settings).await
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("config", &self.config)
            .field("poller", &self.poller)
            .finish_non_exhaustive()
    }
}
