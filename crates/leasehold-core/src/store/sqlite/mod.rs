//! SQLite: a file that the processes of one machine share. A coordination write is one statement, or a short batch that
//! begins IMMEDIATE; a writer that is stopped in between stops the others until the system resumes or ends it.

mod connect;
mod fences;
mod file;
mod locked;
mod reads;
mod register;
mod steer;
mod writes;

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, ExecResult, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};

use super::audit::AuditEvent;
use super::dialect::{Dialect, Wire};
use super::error::{ErrorKind, StoreError};
use super::fence::LeaseKey;
use super::inspect::Findings;
use super::locked::Locked;
use super::statement::run;
use super::target::{Place, Target};
use crate::name::{ArtifactName, ClusterName};
use crate::protocol::ids::Incarnation;
use crate::protocol::request::{Answer, Request};

const BACKEND: DbBackend = DbBackend::Sqlite;

pub(super) struct Sqlite;

#[async_trait]
impl Dialect for Sqlite {
    async fn open(&self, target: &Target) -> Result<Box<dyn Wire>, StoreError> {
        Ok(Box::new(connect::open(options(target)?).await?))
    }

    fn pool(&self, target: &Target, _: u32) -> Result<DatabaseConnection, StoreError> {
        // Writers take turns anyway, and a pool of one has the best tail latency.
        Ok(connect::pool(options(target)?))
    }

    async fn inspect(&self, target: &Target) -> Result<Findings, StoreError> {
        connect::inspect(&options(target)?)
    }

    fn classify(&self, code: &str, message: &str) -> ErrorKind {
        // The low byte is the primary code: BUSY, LOCKED, READONLY, IOERR, CANTOPEN, PROTOCOL.
        match code.parse::<u32>().unwrap_or(0) & 0xff {
            5 | 6 | 15 => ErrorKind::Conflict,
            8 => ErrorKind::ReadOnly,
            10 | 14 => ErrorKind::Unreachable,
            1 if message.contains("no such table") || message.contains("no such column") => ErrorKind::Schema,
            _ => ErrorKind::Other,
        }
    }

    fn is_lost(&self, _: &str) -> bool {
        false
    }

    // The server has no say in how long a client may be silent here.
    fn fence(&self, key: &LeaseKey, _: Duration) -> Statement {
        fences::fence(key)
    }

    fn put_checkpoint(&self, key: &LeaseKey, name: &str, value: &str) -> Statement {
        fences::put_checkpoint(key, name, value)
    }

    fn get_checkpoint(&self, cluster: &ClusterName, artifact: &str, name: &str) -> Statement {
        fences::get_checkpoint(cluster, artifact, name)
    }

    fn insert_events(&self, cluster: &ClusterName, events: &[AuditEvent]) -> Statement {
        fences::insert_events(cluster, events)
    }

    fn millis(&self, column: &str) -> String {
        format!("cast(round(unixepoch({column}, 'subsec') * 1000) as integer)")
    }

    fn trim_events(&self, cluster: &ClusterName, keep: Duration, limit: u64) -> Statement {
        fences::trim_events(cluster, keep, limit)
    }

    async fn isolation(&self, _: &DatabaseConnection) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn lag(&self, _: &DatabaseConnection) -> Result<Option<Duration>, StoreError> {
        Ok(None)
    }

    async fn locked(
        &self,
        db: &DatabaseConnection,
        cluster: &ClusterName,
        artifact: &ArtifactName,
    ) -> Result<Locked, StoreError> {
        locked::locked(db, cluster, artifact).await
    }
}

fn options(target: &Target) -> Result<SqliteConnectOptions, StoreError> {
    match &target.place {
        Place::Sqlite(options) => Ok((**options).clone()),
        #[allow(unreachable_patterns, reason = "the only kind of database of this build, perhaps")]
        _ => Err(StoreError::new(ErrorKind::Invalid, "open", "this is no SQLite database")),
    }
}

/// The only place that turns text and values into a statement of this database.
fn statement<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(BACKEND, sql, values)
}

#[derive(Debug)]
pub(super) struct SqliteWire {
    db: DatabaseConnection,
    file: file::OpenFile,
}

#[async_trait]
impl Wire for SqliteWire {
    async fn call(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        // A file that was replaced keeps answering those who have it open: neither its answers nor its writes count.
        self.file.check()?;
        let answer = match self.read(cluster, request).await? {
            Some(answer) => answer,
            None => self.write(cluster, request).await?,
        };
        self.file.check()?;
        Ok(answer)
    }

    fn connection(&self) -> &DatabaseConnection {
        &self.db
    }
}

impl SqliteWire {
    fn live(&self) -> &Incarnation {
        self.file.incarnation()
    }

    async fn all<const N: usize>(
        &self,
        operation: &'static str,
        sql: &str,
        values: [Value; N],
    ) -> Result<Vec<QueryResult>, StoreError> {
        let rows = self.db.query_all_raw(statement(sql, values)).await;
        rows.map_err(|e| StoreError::database(BACKEND, operation, e))
    }

    /// A write of one statement; tells how many rows it matched.
    async fn matched<const N: usize>(
        &self,
        operation: &'static str,
        sql: &str,
        values: [Value; N],
    ) -> Result<Answer, StoreError> {
        Ok(Answer::Matched(execute(&self.db, operation, sql, values).await?))
    }

    /// Begins a batch. The lock is taken now: a deferred transaction that reads first may fail when it writes.
    async fn begin(&self, operation: &'static str) -> Result<DatabaseTransaction, StoreError> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let begun = self.db.begin_with_options(options).await;
        begun.map_err(|e| StoreError::database(BACKEND, operation, e))
    }
}

async fn execute<const N: usize>(
    db: &impl ConnectionTrait,
    operation: &'static str,
    sql: &str,
    values: [Value; N],
) -> Result<u64, StoreError> {
    Ok(executed(db, operation, sql, values).await?.rows_affected())
}

async fn executed<const N: usize>(
    db: &impl ConnectionTrait,
    operation: &'static str,
    sql: &str,
    values: [Value; N],
) -> Result<ExecResult, StoreError> {
    run(db, operation, statement(sql, values)).await
}

async fn commit(txn: DatabaseTransaction, operation: &'static str) -> Result<(), StoreError> {
    txn.commit().await.map_err(|e| StoreError::database(BACKEND, operation, e))
}
