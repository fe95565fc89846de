//! The builder of an HTTP endpoint.

use std::sync::Arc;
use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::handler::Handler;
use leasehold_core::name::ArtifactName;

use super::config::{Auth, HttpConfig, Pages};
use super::pages::Paged;
use crate::config::polling_builder;
use crate::endpoint::{Common, Endpoint};
use crate::poller::Poller;

/// Describes the poll of a URL; [`handler`](Http::handler) makes it an artifact. [`HttpConfig`] is the same from a file.
#[derive(Clone, Debug)]
pub struct Http {
    config: HttpConfig,
}

impl Http {
    /// Polls this URL by GET.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn get(name: impl AsRef<str>, url: impl Into<String>) -> Result<Self, Error> {
        Ok(Self { config: HttpConfig::new(ArtifactName::new(name)?, url) })
    }

    /// An endpoint that was read from a file.
    ///
    /// # Errors
    /// Those of [`HttpConfig::validate`].
    pub fn from_config(config: HttpConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self { config })
    }

    /// How to log in.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.config.auth = Some(auth);
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.headers.insert(name.into(), value.into());
        self
    }

    /// Each item of the array at this JSON pointer is a message; without, the body is one.
    #[must_use]
    pub fn items(mut self, pointer: impl Into<String>) -> Self {
        self.config.items = Some(pointer.into());
        self
    }

    /// Where an item has its id.
    #[must_use]
    pub fn id(mut self, pointer: impl Into<String>) -> Self {
        self.config.id = Some(pointer.into());
        self
    }

    /// Where an item has what its order goes by.
    #[must_use]
    pub fn key(mut self, pointer: impl Into<String>) -> Self {
        self.config.key = Some(pointer.into());
        self
    }

    /// Where the next items are.
    #[must_use]
    pub fn pages(mut self, pages: Pages) -> Self {
        self.config.pages = pages;
        self
    }

    /// The largest answer; 16 MiB unless set.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.config.max_bytes = bytes;
        self
    }

    /// How the body's text is encoded, whatever the answer says.
    #[must_use]
    pub fn charset(mut self, charset: impl Into<String>) -> Self {
        self.config.charset = Some(charset.into());
        self
    }

    /// For a connection, between two parts of an answer, and for all; 10 s, 30 s and 60 s unless set.
    #[must_use]
    pub fn timeouts(mut self, connect: Duration, read: Duration, total: Duration) -> Self {
        (self.config.connect_timeout, self.config.read_timeout, self.config.timeout) = (connect, read, total);
        self
    }

    polling_builder!();

    /// The same as it is written in a file.
    pub fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// The artifact: each item goes to this handler.
    ///
    /// # Errors
    /// None for what [`HttpConfig::validate`] refuses: that is told when the node starts.
    pub fn handler(self, handler: impl Handler) -> Result<Endpoint, Error> {
        let config = self.config;
        let common = Common {
            name: config.name.clone(),
            polling: config.polling.clone(),
            placement: config.placement.clone(),
        };
        let paged = Paged::new(config.clone()).map(|paged| Arc::new(paged) as Arc<dyn Poller>);
        Endpoint::made(common, &config, paged, handler)
    }
}
