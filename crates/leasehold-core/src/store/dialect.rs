//! The seam between databases: everything that differs is behind these two traits.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{DatabaseConnection, DbBackend, Statement};

use super::audit::AuditEvent;
use super::error::{ErrorKind, StoreError};
use super::fence::LeaseKey;
use super::inspect::Findings;
use super::locked::Locked;
use super::target::Target;
use crate::name::{ArtifactName, ClusterName};
use crate::protocol::request::{Answer, Request};

/// What one kind of database understands. Statements that run inside users' transactions are plain data.
#[async_trait]
pub(crate) trait Dialect: Send + Sync {
    /// Opens one connection.
    async fn open(&self, target: &Target) -> Result<Box<dyn Wire>, StoreError>;

    /// A pool of at most `connections` for plugins' fenced writes; connects when it is first used.
    fn pool(&self, target: &Target, connections: u32) -> Result<DatabaseConnection, StoreError>;

    /// Refuses a database that cannot carry leases. Changes nothing in it.
    async fn inspect(&self, target: &Target) -> Result<Findings, StoreError>;

    /// Sorts an error by the code that the database gave it.
    fn classify(&self, code: &str, message: &str) -> ErrorKind;

    /// Whether an error with this code, of a fencing statement, means that the lease has moved on.
    fn is_lost(&self, code: &str) -> bool;

    /// A statement that locks the lease until the transaction ends, and matches or returns no row if it is lost.
    fn fence(&self, key: &LeaseKey, remaining: Duration) -> Statement;

    /// A statement that writes the checkpoint if the lease is held. It returns `held`, 0 if the lease is lost; on MariaDB
    /// and MySQL, where an insert returns no row, it affects none then.
    fn put_checkpoint(&self, key: &LeaseKey, name: &str, value: &str) -> Statement;

    /// A statement that returns `token` and `value` of a checkpoint.
    fn get_checkpoint(&self, cluster: &ClusterName, artifact: &str, name: &str) -> Statement;

    /// A statement that inserts audit events.
    fn insert_events(&self, cluster: &ClusterName, events: &[AuditEvent]) -> Statement;

    /// An expression for a column of the database's wall clock, in milliseconds since 1970.
    fn millis(&self, column: &str) -> String;

    /// An expression for a column of users' names, as text.
    fn text(&self, column: &str) -> String {
        column.to_owned()
    }

    /// A statement that deletes at most `limit` audit events older than `keep`.
    fn trim_events(&self, cluster: &ClusterName, keep: Duration, limit: u64) -> Statement;

    /// At which level of isolation this connection's transactions run, in the server's words, where there are several.
    async fn isolation(&self, db: &DatabaseConnection) -> Result<Option<String>, StoreError>;

    /// How far this server, which takes writes, is behind another one whose changes it applies as well.
    async fn lag(&self, db: &DatabaseConnection) -> Result<Option<Duration>, StoreError>;

    /// Who keeps a lease's row locked in a transaction, as far as this user may know.
    async fn locked(
        &self,
        db: &DatabaseConnection,
        cluster: &ClusterName,
        artifact: &ArtifactName,
    ) -> Result<Locked, StoreError>;
}

/// One open connection.
#[async_trait]
pub(crate) trait Wire: fmt::Debug + Send + Sync {
    /// Executes a request once.
    async fn call(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError>;

    /// The connection, for statements of other parts of leasehold.
    fn connection(&self) -> &DatabaseConnection;
}

/// The dialect of a backend.
pub(crate) fn of(backend: DbBackend) -> Result<&'static dyn Dialect, StoreError> {
    match backend {
        #[cfg(feature = "postgres")]
        DbBackend::Postgres => Ok(&super::postgres::Postgres),
        #[cfg(feature = "mysql")]
        DbBackend::MySql => Ok(&super::mysql::MySql),
        #[cfg(feature = "sqlite")]
        DbBackend::Sqlite => Ok(&super::sqlite::Sqlite),
        other => Err(StoreError::new(
            ErrorKind::Invalid,
            "open",
            format!("leasehold was built without support for {}: {}", other.as_str(), remedy(other)),
        )),
    }
}

fn remedy(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "enable its feature `postgres`",
        DbBackend::MySql => "enable its feature `mysql`",
        DbBackend::Sqlite => "enable its feature `sqlite`",
        _ => "use PostgreSQL (feature `postgres`), MariaDB or MySQL (`mysql`) or SQLite (`sqlite`)",
    }
}
