//! MariaDB and MySQL: every coordination write is one autocommit statement. What reads along follows in a second one.

mod connect;
mod fences;
mod locked;
mod reads;
mod register;
mod steer;
mod writes;

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, ExecResult, QueryResult,
    SqlxMySqlConnector, Statement, TransactionTrait, Value,
};

use super::audit::AuditEvent;
use super::dialect::{Dialect, Wire};
use super::error::{ErrorKind, StoreError};
use super::fence::LeaseKey;
use super::inspect::Findings;
use super::locked::Locked;
use super::statement::{run, statement as numbered};
use super::target::{Place, Target};
use crate::name::{ArtifactName, ClusterName};
use crate::protocol::request::{Answer, Request};

const BACKEND: DbBackend = DbBackend::MySql;

pub(super) struct MySql;

#[async_trait]
impl Dialect for MySql {
    async fn open(&self, target: &Target) -> Result<Box<dyn Wire>, StoreError> {
        let (db, live) = connect::open(options(target)?).await?;
        Ok(Box::new(MySqlWire { db, live }))
    }

    fn pool(&self, target: &Target, connections: u32) -> Result<DatabaseConnection, StoreError> {
        Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(connect::work(options(target)?, connections)))
    }

    async fn inspect(&self, target: &Target) -> Result<Findings, StoreError> {
        connect::inspect(options(target)?).await
    }

    fn classify(&self, code: &str, _: &str) -> ErrorKind {
        match code {
            // Lock wait, deadlock, a record that changed since it was read.
            "1205" | "1213" | "1020" => ErrorKind::Conflict,
            "1290" | "1792" | "1836" => ErrorKind::ReadOnly,
            // Unknown table, column or function.
            "1146" | "1054" | "1305" => ErrorKind::Schema,
            // Too many connections, shutdown, killed, read error, connection killed.
            "1040" | "1047" | "1203" | "3032" | "4031" | "1053" | "1317" | "1158" | "1159" | "1160"
            | "1161" | "1927" | "3024" | "1969" => ErrorKind::Unreachable,
            // Credentials, or no such database.
            "1044" | "1045" | "1049" | "1698" => ErrorKind::Invalid,
            // No right to a table, a column, or what only administrators may.
            "1142" | "1143" | "1227" => ErrorKind::Denied,
            _ => ErrorKind::Other,
        }
    }

    // With MariaDB's snapshot isolation a transaction that read an older lease is refused instead of shown the newer.
    fn is_lost(&self, code: &str) -> bool {
        code == "1020"
    }

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

    fn text(&self, column: &str) -> String {
        format!("convert({column} using utf8mb4)")
    }

    fn millis(&self, column: &str) -> String {
        format!("cast(floor(unix_timestamp({column}) * 1000) as signed)")
    }

    fn trim_events(&self, cluster: &ClusterName, keep: Duration, limit: u64) -> Statement {
        fences::trim_events(cluster, keep, limit)
    }

    async fn isolation(&self, db: &DatabaseConnection) -> Result<Option<String>, StoreError> {
        locked::isolation(db).await
    }

    async fn lag(&self, db: &DatabaseConnection) -> Result<Option<Duration>, StoreError> {
        locked::lag(db).await
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

fn options(target: &Target) -> Result<MySqlConnectOptions, StoreError> {
    match &target.place {
        Place::MySql(options) => Ok((**options).clone()),
        #[allow(unreachable_patterns, reason = "the only kind of database of this build, perhaps")]
        _ => Err(StoreError::new(ErrorKind::Invalid, "open", "this is no MariaDB or MySQL database")),
    }
}

fn statement<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    numbered(BACKEND, sql, values)
}

async fn execute<C: ConnectionTrait, const N: usize>(
    db: &C,
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

#[derive(Debug)]
pub(super) struct MySqlWire {
    db: DatabaseConnection,
    /// Which life of the database answers, as an expression: MySQL has a server id that MariaDB lacks.
    live: &'static str,
}

#[async_trait]
impl Wire for MySqlWire {
    async fn call(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        match self.read(cluster, request).await? {
            Some(answer) => Ok(answer),
            None => self.write(cluster, request).await,
        }
    }

    fn connection(&self) -> &DatabaseConnection {
        &self.db
    }
}

impl MySqlWire {
    async fn all<const N: usize>(
        &self,
        operation: &'static str,
        sql: &str,
        values: [Value; N],
    ) -> Result<Vec<QueryResult>, StoreError> {
        let rows = self.db.query_all_raw(statement(sql, values)).await;
        rows.map_err(|e| StoreError::database(BACKEND, operation, e))
    }

    /// A write, and how many rows it matched.
    async fn matched<const N: usize>(
        &self,
        operation: &'static str,
        sql: &str,
        values: [Value; N],
    ) -> Result<Answer, StoreError> {
        Ok(Answer::Matched(execute(&self.db, operation, sql, values).await?))
    }

    /// Replaces `LIVE` by what the server is asked.
    fn with_live(&self, sql: &str) -> String {
        sql.replace("LIVE", self.live)
    }

    async fn begin(&self, operation: &'static str) -> Result<DatabaseTransaction, StoreError> {
        self.db.begin().await.map_err(|e| StoreError::database(BACKEND, operation, e))
    }
}

async fn commit(txn: DatabaseTransaction, operation: &'static str) -> Result<(), StoreError> {
    txn.commit().await.map_err(|e| StoreError::database(BACKEND, operation, e))
}
