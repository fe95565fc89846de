//! Connections of our own, and what is checked on them.

use std::time::Duration;

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sea_orm::sqlx::{self, Connection, Row};
use sea_orm::{DatabaseConnection, SqlxMySqlConnector};

use super::BACKEND;
use crate::store::error::{ErrorKind, StoreError};
use crate::store::inspect::{Doubt, Findings};

/// How long a connection may take, and how long a call waits for the one before it.
const CONNECT: Duration = Duration::from_secs(5);

/// At the default, REPEATABLE READ, statements lock gaps, and nodes that join at once block each other. The timeout bounds
/// how long one call waits behind a fenced lease.
const SETTINGS: [&str; 3] = [
    "set session transaction isolation level read committed",
    "set session innodb_lock_wait_timeout = 1",
    // A server may be told otherwise: then nothing that was acknowledged would ever be committed.
    "set session autocommit = 1",
];
/// Plugins' writes wait a little longer for a lease that somebody has fenced; the server's default is 50 s.
/// A holder that is stopped in the middle of a transaction keeps its rows from the next one, until the server closes
/// its connection: after a silence of 5 s.
const WORK_SETTINGS: [&str; 4] =
    [SETTINGS[0], "set session innodb_lock_wait_timeout = 5", SETTINGS[2], "set session wait_timeout = 5"];
/// Idle connections are let go before the server closes them.
const WORK_IDLE: Duration = Duration::from_secs(4);

/// The start of the server shows in the nonce: a start empties that table. The rest tells its copies apart.
const LIVE: &str = "(select concat_ws('/', coalesce(@@hostname, ''), @@port, @@server_id, nonce) from leasehold_life where id = 1)";
const LIVE_MYSQL: &str = "(select concat_ws('/', @@server_uuid, coalesce(@@hostname, ''), @@port, @@server_id, nonce) \
                          from leasehold_life where id = 1)";

fn quiet(options: MySqlConnectOptions) -> MySqlConnectOptions {
    sqlx::ConnectOptions::disable_statement_logging(options.charset("utf8mb4").collation("utf8mb4_bin"))
}

/// A pool of one connection, which is made when it is first used.
fn pool(options: MySqlConnectOptions) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(1)
        .min_connections(0)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(CONNECT)
        // A round trip before every renewal would cost more than the rare error that it avoids.
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                for setting in SETTINGS {
                    sqlx::query(setting).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .connect_lazy_with(quiet(options))
}

/// A pool for plugins' fenced writes: connects when it is used, and lets idle connections go.
pub(super) fn work(options: MySqlConnectOptions, connections: u32) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(connections)
        .min_connections(0)
        .idle_timeout(WORK_IDLE)
        .acquire_timeout(CONNECT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                for setting in WORK_SETTINGS {
                    sqlx::query(setting).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .connect_lazy_with(quiet(options))
}

/// One connection outside of any pool: a pool hides why it could not connect.
async fn probe(options: &MySqlConnectOptions) -> Result<MySqlConnection, StoreError> {
    match tokio::time::timeout(CONNECT, MySqlConnection::connect_with(&quiet(options.clone()))).await {
        Ok(done) => done.map_err(|e| StoreError::sqlx(BACKEND, "connect", &e)),
        Err(_) => Err(StoreError::new(
            ErrorKind::Unreachable,
            "connect",
            format!("{}:{} did not answer within {CONNECT:?}", options.get_host(), options.get_port()),
        )),
    }
}

pub(super) async fn open(
    options: MySqlConnectOptions,
) -> Result<(DatabaseConnection, &'static str), StoreError> {
    let mut probe = probe(&options).await?;
    let server = refuse_read_only(&mut probe).await?;
    let _ = probe.close().await;
    let pool = pool(options);
    // Connects now, so that the first call need not.
    pool.acquire().await.map_err(|e| StoreError::sqlx(BACKEND, "connect", &e))?;
    let live = if server.is_mariadb() { LIVE } else { LIVE_MYSQL };
    Ok((SqlxMySqlConnector::from_sqlx_mysql_pool(pool), live))
}

struct Server {
    version: String,
}

impl Server {
    fn is_mariadb(&self) -> bool {
        self.version.to_ascii_lowercase().contains("mariadb")
    }

    /// Major and minor version.
    fn release(&self) -> (u32, u32) {
        let mut parts =
            self.version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// The product, if this release can carry leases.
    fn check(&self) -> Result<&'static str, StoreError> {
        let (name, (major, minor)) =
            if self.is_mariadb() { ("MariaDB", (10, 11)) } else { ("MySQL", (8, 0)) };
        if self.release() >= (major, minor) {
            return Ok(name);
        }
        let message = format!("{name} {} is too old; leasehold needs {major}.{minor} or newer", self.version);
        Err(StoreError::new(ErrorKind::Invalid, "inspect", message))
    }
}

async fn refuse_read_only(connection: &mut MySqlConnection) -> Result<Server, StoreError> {
    let column = |e| StoreError::sqlx(BACKEND, "inspect", &e);
    let row = sqlx::query("select version(), cast(@@global.read_only as signed)");
    let row = row.fetch_one(connection).await.map_err(column)?;
    if row.try_get::<i64, _>(1).map_err(column)? != 0 {
        return Err(StoreError::new(
            ErrorKind::ReadOnly,
            "inspect",
            "the server is read-only (@@global.read_only is on), as replicas are; connect to the primary, for example with a \
             host name that follows it",
        ));
    }
    Ok(Server { version: row.try_get(0).map_err(column)? })
}

/// What a server is told that decides whether it can carry leases.
#[derive(Clone, Debug)]
struct Settings {
    logs: bool,
    binlog_format: String,
    flush_at_commit: i64,
    doublewrite: String,
    database: Option<String>,
}

impl Settings {
    async fn read(connection: &mut MySqlConnection) -> Result<Self, StoreError> {
        let column = |e| StoreError::sqlx(BACKEND, "inspect", &e);
        let sql = "select cast(@@global.log_bin as signed), cast(@@session.binlog_format as char), \
                   cast(@@global.innodb_flush_log_at_trx_commit as signed), cast(@@global.innodb_doublewrite as char), \
                   database()";
        let row = sqlx::query(sql).fetch_one(connection).await.map_err(column)?;
        Ok(Self {
            logs: row.try_get::<i64, _>(0).map_err(column)? != 0,
            binlog_format: row.try_get(1).map_err(column)?,
            flush_at_commit: row.try_get(2).map_err(column)?,
            doublewrite: row.try_get(3).map_err(column)?,
            database: row.try_get(4).map_err(column)?,
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        let refuse = |kind, message: &str| Err(StoreError::new(kind, "inspect", message));
        if self.logs && self.binlog_format.eq_ignore_ascii_case("statement") {
            return refuse(
                ErrorKind::Invalid,
                "binlog_format is STATEMENT: the server then refuses writes at READ COMMITTED, which leasehold needs; set \
                 binlog_format = ROW or MIXED",
            );
        }
        // At 2 a crash of the machine loses commits, and shows as another life of the server: nobody is granted anything then.
        if self.flush_at_commit == 0 {
            return refuse(
                ErrorKind::NotDurable,
                "innodb_flush_log_at_trx_commit is 0: the server acknowledges commits that a crash loses, and with them leases; \
                 set it to 1",
            );
        }
        if self.database.is_none() {
            return refuse(
                ErrorKind::Invalid,
                "the URL names no database; it looks like mysql://user:password@host:3306/database",
            );
        }
        Ok(())
    }

    fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if self.flush_at_commit != 1 {
            doubts.push(Doubt {
                text: format!(
                    "innodb_flush_log_at_trx_commit is {}: a crash of the machine loses commits",
                    self.flush_at_commit
                ),
                remedy: "set it to 1",
            });
        }
        if ["0", "OFF", "DETECT_ONLY"].iter().any(|off| self.doublewrite.eq_ignore_ascii_case(off)) {
            doubts.push(Doubt {
                text: "innodb_doublewrite is off, or only detects: a crash of the machine may destroy pages of the database"
                    .to_owned(),
                remedy: "set it to ON",
            });
        }
        doubts
    }
}

pub(super) async fn inspect(options: MySqlConnectOptions) -> Result<Findings, StoreError> {
    let mut connection = probe(&options).await?;
    let server = refuse_read_only(&mut connection).await?;
    let name = server.check()?;
    let settings = Settings::read(&mut connection).await?;
    settings.check()?;
    let _ = connection.close().await;
    Ok(Findings { server: format!("{name} {}", server.version), doubts: settings.doubts() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_servers_and_releases_apart() {
        let of = |version: &str| {
            let server = Server { version: version.to_owned() };
            (server.is_mariadb(), server.release())
        };
        assert_eq!(of("10.11.19-MariaDB-0+deb12u1"), (true, (10, 11)));
        assert_eq!(of("8.0.15"), (false, (8, 0)));
        assert_eq!(of("8.4.3-commercial"), (false, (8, 4)));
    }

    #[test]
    fn what_cannot_carry_leases_is_refused_with_the_remedy() {
        let version = |version: &str| Server { version: version.to_owned() }.check();
        assert_eq!(version("11.4.2-MariaDB").unwrap(), "MariaDB");
        assert!(version("10.6.18-MariaDB").unwrap_err().to_string().contains("10.11 or newer"));
        assert!(version("5.7.44").unwrap_err().to_string().contains("8.0 or newer"));

        let good = Settings {
            logs: true,
            binlog_format: "MIXED".to_owned(),
            flush_at_commit: 1,
            doublewrite: "ON".to_owned(),
            database: Some("orders".to_owned()),
        };
        good.check().unwrap();
        assert_eq!(good.doubts(), []);
        let doubted = Settings { flush_at_commit: 2, doublewrite: "OFF".to_owned(), ..good.clone() };
        doubted.check().unwrap();
        assert_eq!(doubted.doubts().len(), 2);
        let detects = Settings { doublewrite: "DETECT_ONLY".to_owned(), ..good.clone() };
        assert_eq!(detects.doubts().len(), 1);
        let refused = |settings: Settings| settings.check().unwrap_err().to_string();
        let format = || "STATEMENT".to_owned();
        assert!(refused(Settings { binlog_format: format(), ..good.clone() }).contains("ROW or MIXED"));
        Settings { logs: false, binlog_format: format(), ..good.clone() }.check().unwrap();
        assert!(refused(Settings { flush_at_commit: 0, ..good.clone() }).contains("set it to 1"));
        assert!(refused(Settings { database: None, ..good }).contains("mysql://"));
    }
}
