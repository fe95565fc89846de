//! Connections of our own, and what is checked on them.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sea_orm::sqlx::{self, Connection, Row};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};

use super::BACKEND;
use crate::name::ClusterName;
use crate::store::error::{ErrorKind, StoreError};
use crate::store::inspect::{Doubt, Findings};

/// How long a connection may take, and how long a call waits for the one before it.
const CONNECT: Duration = Duration::from_secs(5);

/// Settings of a session, not of its start: a pooler would refuse those. `lock_timeout` bounds how long one call
/// waits behind a fenced lease; `statement_timeout` is there for a server that hangs.
const SETTINGS: &str = "select set_config('lock_timeout', '1s', false), set_config('statement_timeout', '10s', false), \
                        set_config('default_transaction_isolation', 'read committed', false)";

/// A pool of one connection, which is made when it is first used.
pub(in crate::store) fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .min_connections(0)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(CONNECT)
        // A round trip before every renewal would cost more than the rare error that it avoids.
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::query(SETTINGS).execute(connection).await.map(drop) })
        })
        .connect_lazy_with(quiet(options))
}

/// A pool for plugins' fenced writes: connects when it is used, and lets idle connections go.
pub(super) fn work(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .idle_timeout(CONNECT * 12)
        .acquire_timeout(CONNECT)
        // A holder that is stopped in the middle of a transaction keeps its rows from the next one: not for longer.
        .connect_lazy_with(quiet(options).options([("idle_in_transaction_session_timeout", "5s")]))
}

/// A pool that sets its `search_path` after it has connected says nothing of that in its options; fenced transactions of
/// that pool must find the same tables as we do.
pub(in crate::store) async fn with_search_path_of(
    db: &DatabaseConnection,
    options: PgConnectOptions,
) -> Result<PgConnectOptions, StoreError> {
    let sql = "select setting from pg_settings where name = 'search_path' and setting <> reset_val";
    let read = sqlx::query(sql).fetch_optional(db.get_postgres_connection_pool()).await;
    let Some(row) = read.map_err(|e| StoreError::sqlx(BACKEND, "inspect", &e))? else { return Ok(options) };
    let path: String = row.try_get(0).map_err(|e| StoreError::sqlx(BACKEND, "inspect", &e))?;
    Ok(options.options([("search_path", path)]))
}

fn quiet(options: PgConnectOptions) -> PgConnectOptions {
    sqlx::ConnectOptions::disable_statement_logging(options.application_name("leasehold"))
}

/// One connection outside of any pool: a pool hides why it could not connect.
async fn probe(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    match tokio::time::timeout(CONNECT, PgConnection::connect_with(&quiet(options.clone()))).await {
        Ok(done) => done.map_err(|e| StoreError::sqlx(BACKEND, "connect", &e)),
        Err(_) => Err(StoreError::new(
            ErrorKind::Unreachable,
            "connect",
            format!("{}:{} did not answer within {CONNECT:?}", options.get_host(), options.get_port()),
        )),
    }
}

pub(super) async fn open(options: PgConnectOptions) -> Result<DatabaseConnection, StoreError> {
    let mut probe = probe(&options).await?;
    refuse_recovery(&mut probe).await?;
    let _ = probe.close().await;
    let pool = pool(options);
    // Connects now, so that the first call need not.
    pool.acquire().await.map_err(|e| StoreError::sqlx(BACKEND, "connect", &e))?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

async fn refuse_recovery(connection: &mut PgConnection) -> Result<(), StoreError> {
    let row = sqlx::query("select pg_is_in_recovery(), current_setting('default_transaction_read_only')");
    let row = row.fetch_one(connection).await.map_err(|e| StoreError::sqlx(BACKEND, "inspect", &e))?;
    let column = |e| StoreError::sqlx(BACKEND, "inspect", &e);
    let refuse = |message| Err(StoreError::new(ErrorKind::ReadOnly, "inspect", message));
    if row.try_get::<bool, _>(0).map_err(column)? {
        return refuse(
            "the PostgreSQL server is a standby (pg_is_in_recovery() is true); connect to the primary, for example with a \
             host name that follows it",
        );
    }
    if row.try_get::<String, _>(1).map_err(column)? == "on" {
        return refuse(
            "default_transaction_read_only is on for this user or database, but leasehold writes; run ALTER ROLE .. or ALTER \
             DATABASE .. RESET default_transaction_read_only, or use another user",
        );
    }
    Ok(())
}

pub(super) async fn inspect(options: PgConnectOptions) -> Result<Findings, StoreError> {
    let mut connection = probe(&options).await?;
    refuse_recovery(&mut connection).await?;
    let sql = "select current_setting('synchronous_commit'), current_setting('server_version'), \
               current_setting('server_version_num')::int, current_setting('fsync'), current_setting('full_page_writes')";
    let row = sqlx::query(sql).fetch_one(&mut connection).await;
    let row = row.map_err(|e| StoreError::sqlx(BACKEND, "inspect", &e))?;
    let column = |e| StoreError::sqlx(BACKEND, "inspect", &e);
    let (commit, version): (String, String) =
        (row.try_get(0).map_err(column)?, row.try_get(1).map_err(column)?);
    if commit == "off" {
        return Err(StoreError::new(
            ErrorKind::NotDurable,
            "inspect",
            "synchronous_commit is off: the server acknowledges commits that a crash loses, and with them leases; run ALTER \
             ROLE .. SET synchronous_commit = on for the user that leasehold connects as",
        ));
    }
    if row.try_get::<i32, _>(2).map_err(column)? < 150_000 {
        let message = format!("PostgreSQL {version} is too old; leasehold needs 15 or newer");
        return Err(StoreError::new(ErrorKind::Invalid, "inspect", message));
    }
    let (fsync, pages): (String, String) = (row.try_get(3).map_err(column)?, row.try_get(4).map_err(column)?);
    let _ = connection.close().await;
    Ok(Findings { server: format!("PostgreSQL {version}"), doubts: doubts(&fsync, &pages) })
}

/// A crash of the machine shows as another life of the server, and leases are safe then; what was committed is not.
fn doubts(fsync: &str, pages: &str) -> Vec<Doubt> {
    let settings = [
        ("fsync", fsync, "a crash of the machine loses commits and may destroy the database"),
        ("full_page_writes", pages, "a crash of the machine may destroy pages of the database"),
    ];
    let off = settings.into_iter().filter(|(_, value, _)| *value == "off");
    off.map(|(name, _, so)| Doubt {
        text: format!("{name} is off: {so}"),
        remedy: "set it to on, and reload the server",
    })
    .collect()
}

/// The channel on which the nodes of a cluster wake each other. The hash (FNV-1a) keeps it below 63 bytes and is part
/// of the protocol: nodes of different versions must agree on it.
pub(in crate::store) fn channel(cluster: &ClusterName) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = cluster.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix);
    format!("leasehold_{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_of_the_machine_may_lose_is_doubted() {
        assert_eq!(doubts("on", "on"), []);
        assert!(
            doubts("off", "on")[0].text.starts_with("fsync is off: a crash of the machine loses commits")
        );
        assert_eq!(doubts("off", "off").len(), 2);
    }

    #[test]
    fn the_channel_of_a_cluster_never_changes() {
        assert_eq!(channel(&ClusterName::new("a").unwrap()), "leasehold_af63dc4c8601ec8c");
    }
}
