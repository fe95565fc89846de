//! The builder of an endpoint of files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::handler::Handler;
use leasehold_core::name::ArtifactName;

use super::config::{After, Complete, FilesConfig, Sort};
use super::folder::Folder;
use super::local::Local;
use super::records::Records;
use super::storage::Storage;
use crate::config::polling_builder;
use crate::endpoint::{Common, Endpoint};
use crate::poller::Poller;

/// Describes an endpoint of files; [`handler`](Files::handler) makes it an artifact. [`FilesConfig`] is the same from a file.
#[derive(Clone, Debug)]
pub struct Files {
    config: FilesConfig,
    storage: Option<Arc<dyn Storage>>,
}

impl Files {
    /// Watches a folder of this machine, or one that is mounted on all replicas, for files of this pattern: `*.csv`.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn watch(
        name: impl AsRef<str>,
        folder: impl Into<PathBuf>,
        pattern: impl Into<String>,
    ) -> Result<Self, Error> {
        Ok(Self { config: FilesConfig::new(ArtifactName::new(name)?, folder, pattern), storage: None })
    }

    /// An endpoint that was read from a file.
    ///
    /// # Errors
    /// Those of [`FilesConfig::validate`].
    pub fn from_config(config: FilesConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self { config, storage: None })
    }

    /// Watches this storage in place of a folder of this machine.
    #[must_use]
    pub fn storage(mut self, storage: impl Storage) -> Self {
        self.storage = Some(Arc::new(storage));
        self
    }

    /// Also files of folders below it.
    #[must_use]
    pub fn recursive(mut self) -> Self {
        self.config.recursive = true;
        self
    }

    /// What a message is made of; the whole file unless set.
    #[must_use]
    pub fn records(mut self, records: Records) -> Self {
        self.config.records = records;
        self
    }

    /// How it is known that a file is complete; stable for 2 s unless set.
    #[must_use]
    pub fn complete(mut self, complete: Complete) -> Self {
        self.config.complete = complete;
        self
    }

    /// In which order files come; by name unless set.
    #[must_use]
    pub fn sort(mut self, sort: Sort) -> Self {
        self.config.sort = sort;
        self
    }

    /// What happens to a file when all of it is done; moved to `done` unless set.
    #[must_use]
    pub fn after(mut self, after: After) -> Self {
        self.config.after = after;
        self
    }

    /// Where what failed is moved, below the folder; `failed` unless set.
    #[must_use]
    pub fn failed(mut self, folder: impl Into<String>) -> Self {
        self.config.failed = Some(folder.into());
        self
    }

    /// Files changed less than this ago are left alone for now.
    #[must_use]
    pub fn min_age(mut self, age: Duration) -> Self {
        self.config.min_age = Some(age);
        self
    }

    /// Files changed more than this ago are left alone.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.config.max_age = Some(age);
        self
    }

    /// Larger files are left alone.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.config.max_size = Some(bytes);
        self
    }

    /// The largest file that becomes one message; 16 MiB unless set.
    #[must_use]
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.config.max_body = bytes;
        self
    }

    /// The largest record; 1 MiB unless set.
    #[must_use]
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.config.max_record = bytes;
        self
    }

    polling_builder!();

    /// The same as it is written in a file.
    pub fn config(&self) -> &FilesConfig {
        &self.config
    }

    /// The artifact: each file or record goes to this handler.
    ///
    /// # Errors
    /// None for what [`FilesConfig::validate`] refuses: that is told when the node starts.
    pub fn handler(self, handler: impl Handler) -> Result<Endpoint, Error> {
        let Self { config, storage } = self;
        let storage = storage.unwrap_or_else(|| Arc::new(Local::new(&config.folder)));
        let common = Common {
            name: config.name.clone(),
            polling: config.polling.clone(),
            placement: config.placement.clone(),
        };
        let folder = Folder::new(config.clone(), storage).map(|folder| Arc::new(folder) as Arc<dyn Poller>);
        Endpoint::made(common, &config, folder, handler)
    }
}
