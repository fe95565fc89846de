//! Connections of our own, and what is checked before.

use std::path::Path;
use std::time::Duration;

use sea_orm::sqlx;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr, SqlxSqliteConnector};

use super::file::OpenFile;
use super::{BACKEND, SqliteWire};
use crate::machine::{folder, network};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::inspect::Findings;

const BUSY: Duration = Duration::from_secs(5);

pub(super) async fn open(options: SqliteConnectOptions) -> Result<SqliteWire, StoreError> {
    let path = options.get_filename().to_owned();
    refuse_folder(&path)?;
    // The file that is noted must be the one that is opened: it is the same before and after.
    let before = OpenFile::note(&path).ok();
    let db = connect(options).await?;
    let file = OpenFile::note(&path)?;
    if before.is_some_and(|before| before.incarnation() != file.incarnation()) {
        file_changed(&path)?;
    }
    Ok(SqliteWire { db, file })
}

fn file_changed(path: &Path) -> Result<(), StoreError> {
    let message = format!("{} was replaced while it was being opened", path.display());
    Err(StoreError::new(ErrorKind::Unreachable, "open", message))
}

/// A pool for plugins' fenced writes: connects when it is used.
pub(super) fn pool(options: SqliteConnectOptions) -> DatabaseConnection {
    SqlxSqliteConnector::from_sqlx_sqlite_pool(one().connect_lazy_with(durable(options)))
}

fn durable(options: SqliteConnectOptions) -> SqliteConnectOptions {
    sqlx::ConnectOptions::disable_statement_logging(
        options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full).busy_timeout(BUSY),
    )
}

fn one() -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(0)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(BUSY * 2)
        .test_before_acquire(false)
}

async fn connect(options: SqliteConnectOptions) -> Result<DatabaseConnection, StoreError> {
    let options = durable(options);
    let pool = one();
    // The change to WAL may be refused at once, without the busy timeout, while several processes try it.
    let started = tokio::time::Instant::now();
    loop {
        let error = match pool.clone().connect_with(options.clone()).await {
            Ok(pool) => return Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)),
            Err(error) => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
        };
        let error = StoreError::database(BACKEND, "connect", error);
        if error.kind() != ErrorKind::Conflict || started.elapsed() > BUSY {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn inspect(options: &SqliteConnectOptions) -> Result<Findings, StoreError> {
    let path = options.get_filename();
    refuse_folder(path)?;
    let read_only = |what: &Path| {
        let message = format!("{} may not be written by this process; leasehold writes", what.display());
        Err(StoreError::new(ErrorKind::ReadOnly, "inspect", message))
    };
    // WAL needs to write beside the file, too.
    let folder = folder(path);
    if !writable(folder) {
        return read_only(folder);
    }
    if path.exists() && !writable(path) {
        return read_only(path);
    }
    Ok(Findings { server: "SQLite".to_owned(), doubts: Vec::new() })
}

#[cfg(unix)]
fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(not(unix))]
fn writable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_dir() || !found.permissions().readonly())
}

fn refuse_folder(path: &Path) -> Result<(), StoreError> {
    let folder = folder(path);
    let refuse = |message| Err(StoreError::new(ErrorKind::Invalid, "inspect", message));
    if !folder.is_dir() {
        return refuse(format!(
            "the folder {} of the SQLite file does not exist; create it, or correct the URL (sqlite:///absolute/path.db has \
             three slashes)",
            folder.display()
        ));
    }
    if path.is_dir() {
        return refuse(format!("{} is a folder; name a file in it", path.display()));
    }
    match network(folder) {
        None => Ok(()),
        Some(kind) => refuse(format!(
            "{} is on a network file system ({kind}), whose locks do not carry leases; use a local disk, or PostgreSQL to \
             share work between machines",
            folder.display()
        )),
    }
}
