//! What the server itself counted. Only PostgreSQL counts.

use anyhow::{Context, Result};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, QueryResult, Statement,
};

use crate::servers::Server;

/// All statements of this database but the ones of this file, which all name a view of `pg_stat_`.
const STATEMENTS: &str = "from pg_stat_statements s join pg_database d on d.oid = s.dbid \
                          where d.datname = current_database() and s.query !~ 'pg_stat_'";

/// A connection that asks for counts.
#[derive(Debug)]
pub(crate) struct Counters {
    db: DatabaseConnection,
    /// `pg_stat_statements` answers; otherwise only transactions are counted.
    by_statement: bool,
}

/// What was counted since the last reset.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) statements: f64,
    /// Updates of node rows.
    pub(crate) renewals: f64,
    pub(crate) slowest_ms: f64,
    /// Of all statements together.
    pub(crate) total_ms: f64,
    /// Statements that granted leases.
    pub(crate) grants: f64,
    pub(crate) events_written: f64,
}

impl Counters {
    /// None where the database does not count in a way that this program reads.
    pub(crate) async fn open(server: &Server) -> Result<Option<Self>> {
        if server.kind() != "PostgreSQL" {
            return Ok(None);
        }
        let mut options = ConnectOptions::new(server.url());
        options.max_connections(1).sqlx_logging(false);
        let db = Database::connect(options).await.context("connecting for the server's counters")?;
        // Whether it may be created, and was loaded when the server started.
        let made = db.execute_unprepared("create extension if not exists pg_stat_statements").await.is_ok();
        let by_statement =
            made && db.execute_unprepared("select count(*) from pg_stat_statements").await.is_ok();
        Ok(Some(Self { db, by_statement }))
    }

    pub(crate) fn by_statement(&self) -> bool {
        self.by_statement
    }

    pub(crate) async fn reset(&self) -> Result<()> {
        if self.by_statement {
            self.db.execute_unprepared("select pg_stat_statements_reset()").await?;
        }
        // One statement that names a view of pg_stat_, so that it is not counted.
        self.db.execute_unprepared("select pg_stat_reset(), (select count(*) from pg_stat_database)").await?;
        Ok(())
    }

    pub(crate) async fn read(&self) -> Result<Counts> {
        if !self.by_statement {
            let row = self.one("select xact_commit::float8 as calls from pg_stat_database where datname = current_database()");
            // The reset and this read are statements of this database, too.
            let statements = row.await?.try_get::<f64>("", "calls")? - 1.0;
            return Ok(Counts { statements, ..Counts::default() });
        }
        let row = self
            .one(&format!(
                "select coalesce(sum(s.calls), 0)::float8 as calls, coalesce(max(s.max_exec_time), 0)::float8 as slowest, \
                 coalesce(sum(s.total_exec_time), 0)::float8 as total, \
                 coalesce(sum(s.calls) filter (where s.query ~ 'update leasehold_node set beat'), 0)::float8 as renewals, \
                 coalesce(sum(s.calls) filter (where s.query ~ 'update leasehold_lease' and s.query ~ 'and term ='), 0)::float8 as grants, \
                 coalesce(sum(s.calls) filter (where s.query ~ 'insert into leasehold_event'), 0)::float8 as events, \
                 (select coalesce(sum(n_tup_ins), 0)::float8 from pg_stat_user_tables where relname = 'leasehold_event') as noted \
                 {STATEMENTS}"
            ))
            .await?;
        let get = |column| row.try_get::<f64>("", column);
        Ok(Counts {
            statements: get("calls")?,
            renewals: get("renewals")?,
            slowest_ms: get("slowest")?,
            total_ms: get("total")?,
            grants: get("grants")?,
            events_written: get("noted")? / get("events")?.max(1.0),
        })
    }

    /// The statements above a number of rows or milliseconds, for people.
    pub(crate) async fn heavy(&self, rows: f64, ms: f64) -> Result<Vec<String>> {
        let sql = format!(
            "select format('%s calls, %s rows each, slowest %s ms: %s', s.calls, s.rows / s.calls, round(s.max_exec_time::numeric), \
             left(regexp_replace(s.query, '\\s+', ' ', 'g'), 160)) as text, (s.rows::float8 / s.calls)::float8 as rows \
             {STATEMENTS} and (s.rows::float8 / s.calls > {rows} or s.max_exec_time > {ms}) order by s.max_exec_time desc"
        );
        let found = self.db.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        found.iter().map(|row| Ok(row.try_get::<String>("", "text")?)).collect()
    }

    async fn one(&self, sql: &str) -> Result<QueryResult> {
        let row = self.db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        row.context("the server's counters answer nothing")
    }
}
