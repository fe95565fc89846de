//! The builder of an SQL endpoint.

use std::sync::Arc;

use leasehold_core::Error;
use leasehold_core::handler::Handler;
use leasehold_core::name::ArtifactName;
use sea_orm::DatabaseConnection;

use super::claimed::Claimed;
use super::config::{Claim, Column, Rows, SqlConfig, Watermark};
use super::marked::Marked;
use crate::config::polling_builder;
use crate::endpoint::{Common, Endpoint};
use crate::poller::Poller;

/// Describes the poll of a query; [`handler`](Sql::handler) makes it an artifact. [`SqlConfig`] is the same from a file.
#[derive(Clone, Debug)]
pub struct Sql {
    config: SqlConfig,
    db: DatabaseConnection,
}

impl Sql {
    /// Polls this select, without order and limit, on any database: rows beyond a watermark.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn by_watermark(
        name: impl AsRef<str>,
        db: &DatabaseConnection,
        query: impl Into<String>,
        watermark: Watermark,
    ) -> Result<Self, Error> {
        let config = SqlConfig::new(ArtifactName::new(name)?, query, Rows::Watermark(watermark));
        Ok(Self { config, db: db.clone() })
    }

    /// Polls this select, without order and limit, on any database: rows are told apart by `id`, and marked when they are done by a
    /// statement, in which `{id}` stands for it: `update orders set exported = true where id = {id}`.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn by_claim(
        name: impl AsRef<str>,
        db: &DatabaseConnection,
        query: impl Into<String>,
        id: Column,
        mark: impl Into<String>,
    ) -> Result<Self, Error> {
        let rows = Rows::Claim(Claim { id, mark: mark.into() });
        Ok(Self { config: SqlConfig::new(ArtifactName::new(name)?, query, rows), db: db.clone() })
    }

    /// An endpoint that was read from a file.
    ///
    /// # Errors
    /// Those of [`SqlConfig::validate`].
    pub fn from_config(config: SqlConfig, db: &DatabaseConnection) -> Result<Self, Error> {
        config.validate(db.get_database_backend())?;
        Ok(Self { config, db: db.clone() })
    }

    /// This text column is a message's payload.
    #[must_use]
    pub fn body(mut self, column: impl Into<String>) -> Self {
        self.config.body = Some(column.into());
        self
    }

    /// Its order goes by this column.
    #[must_use]
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.config.key = Some(column.into());
        self
    }

    polling_builder!();

    /// The same as it is written in a file.
    pub fn config(&self) -> &SqlConfig {
        &self.config
    }

    /// The artifact: each row goes to this handler.
    ///
    /// # Errors
    /// None for what [`SqlConfig::validate`] refuses: that is told when the node starts.
    pub fn handler(self, handler: impl Handler) -> Result<Endpoint, Error> {
        let Self { config, db } = self;
        let common = Common {
            name: config.name.clone(),
            polling: config.polling.clone(),
            placement: config.placement.clone(),
        };
        let poller = config.problem(db.get_database_backend()).map(|()| -> Arc<dyn Poller> {
            match config.rows.clone() {
                Rows::Watermark(watermark) => Arc::new(Marked::new(config.clone(), watermark, &db)),
                Rows::Claim(claim) => Arc::new(Claimed::new(config.clone(), claim, &db)),
            }
        });
        Endpoint::made(common, &config, poller, handler)
    }
}
