//! PostgreSQL: every coordination write is one autocommit statement.

mod connect;
mod fences;
mod locked;
mod reads;
mod register;
mod steer;
mod writes;

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement, Value};

use super::audit::AuditEvent;
use super::dialect::{Dialect, Wire};
use super::error::{ErrorKind, StoreError};
use super::fence::LeaseKey;
use super::inspect::Findings;
use super::locked::Locked;
use super::rows;
use super::target::{Place, Target};
use crate::name::{ArtifactName, ClusterName};
use crate::protocol::request::{Answer, Request};

pub(super) use connect::{channel, pool, with_search_path_of};

const BACKEND: DbBackend = DbBackend::Postgres;

/// Which life of the database answers. The identifier stays when a standby is promoted, the start of the server does not.
macro_rules! live {
    () => {
        "((select system_identifier::text from pg_control_system()) || '/' || extract(epoch from pg_postmaster_start_time())::text)"
    };
}
use live;

pub(super) struct Postgres;

#[async_trait]
impl Dialect for Postgres {
    async fn open(&self, target: &Target) -> Result<Box<dyn Wire>, StoreError> {
        Ok(Box::new(PostgresWire { db: connect::open(options(target)?).await? }))
    }

    fn pool(&self, target: &Target, connections: u32) -> Result<DatabaseConnection, StoreError> {
        Ok(sea_orm::SqlxPostgresConnector::from_sqlx_postgres_pool(connect::work(
            options(target)?,
            connections,
        )))
    }

    async fn inspect(&self, target: &Target) -> Result<Findings, StoreError> {
        connect::inspect(options(target)?).await
    }

    fn classify(&self, code: &str, _: &str) -> ErrorKind {
        match code {
            "40001" | "40P01" | "55P03" => ErrorKind::Conflict,
            "25006" => ErrorKind::ReadOnly,
            // Undefined table, column, schema or function.
            "42P01" | "42703" | "3F000" | "42883" => ErrorKind::Schema,
            // Statement timeout, too many connections, shutdown, starting up.
            "57014" | "53300" | "57P01" | "57P02" | "57P03" | "57P05" => ErrorKind::Unreachable,
            // Credentials, or no such database.
            "28000" | "28P01" | "3D000" => ErrorKind::Invalid,
            "42501" => ErrorKind::Denied,
            _ if code.starts_with("08") => ErrorKind::Unreachable,
            _ => ErrorKind::Other,
        }
    }

    // Above READ COMMITTED the server does not show the newer lease but fails.
    fn is_lost(&self, code: &str) -> bool {
        code == "40001"
    }

    fn fence(&self, key: &LeaseKey, remaining: Duration) -> Statement {
        fences::fence(key, remaining)
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
        format!("floor(extract(epoch from {column}) * 1000)::bigint")
    }

    fn trim_events(&self, cluster: &ClusterName, keep: Duration, limit: u64) -> Statement {
        fences::trim_events(cluster, keep, limit)
    }

    async fn isolation(&self, db: &DatabaseConnection) -> Result<Option<String>, StoreError> {
        locked::isolation(db).await
    }

    async fn lag(&self, _: &DatabaseConnection) -> Result<Option<Duration>, StoreError> {
        // A standby takes no writes: it is refused before.
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

fn options(target: &Target) -> Result<PgConnectOptions, StoreError> {
    match &target.place {
        Place::Postgres(options) => Ok((**options).clone()),
        #[allow(unreachable_patterns, reason = "the only kind of database of this build, perhaps")]
        _ => Err(StoreError::new(ErrorKind::Invalid, "open", "this is no PostgreSQL database")),
    }
}

/// Comparing each of so many rows with each lease takes no time worth two more round trips.
const FEW: usize = 50;

/// The only place that turns text and values into a statement of this database.
fn statement<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    #[cfg(feature = "mutations")]
    let sql = crate::store::mutation::mutated(sql);
    Statement::from_sql_and_values(BACKEND, sql, values)
}

#[derive(Debug)]
pub(super) struct PostgresWire {
    db: DatabaseConnection,
}

#[async_trait]
impl Wire for PostgresWire {
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

impl PostgresWire {
    async fn all<const N: usize>(
        &self,
        operation: &'static str,
        sql: &str,
        values: [Value; N],
    ) -> Result<Vec<QueryResult>, StoreError> {
        let rows = self.db.query_all_raw(statement(sql, values)).await;
        rows.map_err(|e| StoreError::database(BACKEND, operation, e))
    }

    /// A write of a set of rows, which is joined with leases. A planner that has counted an almost empty table, or the rows of
    /// another cluster, would join 10,000 leases with 2,000 rows by comparing each with each: 15 s instead of 0.1 s, until
    /// the table is analyzed again. Each of the three is a statement of its own: nothing is locked between them.
    async fn matched_set<const N: usize>(
        &self,
        operation: &'static str,
        sql: &str,
        rows: usize,
        values: [Value; N],
    ) -> Result<Answer, StoreError> {
        if rows <= FEW {
            return self.matched(operation, sql, values).await;
        }
        self.all(operation, "select set_config('enable_nestloop', 'off', false)", []).await?;
        let matched = self.matched(operation, sql, values).await;
        let restored = self.all(operation, "select set_config('enable_nestloop', 'on', false)", []).await;
        let matched = matched?;
        restored?;
        Ok(matched)
    }

    /// A write that returns how many rows it matched.
    async fn matched<const N: usize>(
        &self,
        operation: &'static str,
        sql: &str,
        values: [Value; N],
    ) -> Result<Answer, StoreError> {
        let rows = self.all(operation, sql, values).await?;
        Ok(Answer::Matched(rows::matched(rows.first())?))
    }
}
