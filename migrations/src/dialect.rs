//! What differs between databases besides the statements of the migrations: the lock, and how columns are listed.

use sea_orm_migration::sea_orm::{
    DbBackend, DbErr, IsolationLevel, SqliteTransactionMode, TransactionOptions,
};

/// Eight bytes that spell the program, so that no other program's advisory lock is this one by accident.
const LOCK: i64 = i64::from_be_bytes(*b"leaseh01");

/// Of this schema: two of one server may be migrated at once. A name has 64 characters at most.
const MYSQL_LOCK: &str = "concat('leasehold.', sha1(database()))";

/// How one database runs migrations.
pub(crate) struct Dialect {
    /// Begins the transaction that all pending migrations share: either all of them happen, or nothing.
    pub begin: TransactionOptions,
    /// Waits, inside the transaction, until no other process migrates. Bounded, so that a stopped migrator shows.
    pub lock: Option<String>,
    /// Lets others migrate, where the end of the transaction does not; and undoes what migrations have set.
    pub unlock: Option<String>,
    /// What goes before a migration that is tried again when a table was in use, and what undoes a failed one.
    pub again: Option<(&'static str, &'static str)>,
    /// A change of the schema commits by itself: one that was interrupted left a part of it.
    pub commits_changes: bool,
    /// Lists `(tbl, col)` of every table whose name starts with `leasehold_`.
    pub columns: &'static str,
    /// Makes the table of applied migrations; the columns are those that sea-orm-migration uses.
    pub versions: &'static str,
    /// Notes that a migration was applied, as text with `{}` for its name.
    pub applied: &'static str,
}

/// The dialect of `backend`.
pub(crate) fn dialect(backend: DbBackend) -> Result<Dialect, DbErr> {
    match backend {
        DbBackend::Postgres => Ok(Dialect {
            // What another process committed while this one waited for the lock must be seen.
            begin: TransactionOptions {
                isolation_level: Some(IsolationLevel::ReadCommitted),
                ..TransactionOptions::default()
            },
            lock: Some(format!(
                "set local lock_timeout = '60s'; set local statement_timeout = '120s'; select pg_advisory_xact_lock({LOCK})"
            )),
            unlock: None,
            again: Some(("savepoint leasehold_step", "rollback to savepoint leasehold_step")),
            commits_changes: false,
            columns: "select c.relname::text as tbl, a.attname::text as col from pg_class c join pg_attribute a on a.attrelid = c.oid \
                      where c.relname like 'leasehold\\_%' and c.relkind in ('r', 'p', 'v', 'm', 'f') and pg_table_is_visible(c.oid) \
                      and a.attnum > 0 and not a.attisdropped",
            versions: "create table if not exists leasehold_migration (version varchar not null primary key, applied_at bigint not null)",
            applied: "insert into leasehold_migration (version, applied_at) values ('{}', extract(epoch from now())::bigint)",
        }),
        // The transaction only keeps one connection, which holds the lock: every change commits by itself.
        DbBackend::MySql => Ok(Dialect {
            begin: TransactionOptions::default(),
            // An error, not a 0, when it cannot be had: the sub-select then has two rows.
            lock: Some(format!(
                "do (select 1 union all select 2 from dual where coalesce(get_lock({MYSQL_LOCK}, 60), 0) <> 1)"
            )),
            unlock: Some(format!(
                "do release_lock({MYSQL_LOCK}); set session lock_wait_timeout = @@global.lock_wait_timeout"
            )),
            again: Some(("do 0", "do 0")),
            commits_changes: true,
            columns: "select convert(table_name using utf8mb4) as tbl, convert(column_name using utf8mb4) as col \
                      from information_schema.columns where table_schema = database() and table_name like 'leasehold\\_%'",
            versions: "create table if not exists leasehold_migration (version varchar(255) not null primary key, \
                       applied_at bigint not null)",
            applied: "insert into leasehold_migration (version, applied_at) values ('{}', unix_timestamp())",
        }),
        DbBackend::Sqlite => Ok(Dialect {
            begin: TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            },
            lock: None, // BEGIN IMMEDIATE is the lock
            unlock: None,
            again: None, // nobody else writes
            commits_changes: false,
            columns: "select m.name as tbl, c.name as col from sqlite_master m join pragma_table_info(m.name) c \
                      where m.type in ('table', 'view') and m.name like 'leasehold\\_%' escape '\\'",
            versions: "create table if not exists leasehold_migration (version text not null primary key, applied_at integer not null)",
            applied: "insert into leasehold_migration (version, applied_at) values ('{}', unixepoch())",
        }),
        _ => Err(unsupported(backend)),
    }
}

/// The error for a database that has no statements yet.
pub(crate) fn unsupported(backend: DbBackend) -> DbErr {
    DbErr::Migration(format!(
        "leasehold has no schema for {}; use PostgreSQL, MariaDB, MySQL or SQLite",
        backend.as_str()
    ))
}
