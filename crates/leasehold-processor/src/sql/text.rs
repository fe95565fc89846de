//! The statements. Parameters are numbered, `?1` and on; what differs between databases is here.

use std::sync::OnceLock;

use sea_orm::{DbBackend, IsolationLevel, SqliteTransactionMode, Statement, TransactionOptions, Value};

use super::rows::LARGE;
use crate::error::Error;

/// So many rows go into one statement at most: a connection keeps about as many statements prepared.
pub(super) const ROWS: usize = 100;

/// Of MariaDB and MySQL, which would look through the whole store for a sub-select in an update or a deletion.
const JOINED: &str = "json_table(concat('[', ?2, ']'), '$[*]' columns (n bigint path '$')) j straight_join TABLE m \
                      on m.store = ?1 and m.id = j.n";
const COLUMNS: &str = "id, message, order_key, headers, content_type, case when length(body) <= LARGE then body end as body, \
                       cast(length(body) as LONG) as bytes, attempts, due, expires, error, ordered, appended_at";

/// What a database understands.
pub(super) struct Texts {
    backend: DbBackend,
    now: &'static str,
    /// By number of rows less one; of those that are due at once and keep for ever, and of others.
    inserts: [[OnceLock<String>; ROWS]; 2],
    /// 1 store, 2 after this id, 3 limit.
    pub(super) page: String,
    /// 1 store, 2 after this id, 3 limit, 4 up to this id, 5 without these keys.
    pub(super) page_without: String,
    /// 1 store, 2 key, 3 from this id, 4 up to this id, 5 limit.
    pub(super) key_page: String,
    /// 1 store, 2 milliseconds, 3 limit, 4 whether keys are of no account: what has become due and waits for no other.
    pub(super) due_page: String,
    /// 1 store, 2 milliseconds, 3 whether keys are of no account: `due` of the next after them.
    pub(super) next_due: String,
    /// 1 store, 2 after this id, 3 up to this id, 4 limit, 5 without these keys, 6 milliseconds: `id` of what is due by then.
    pub(super) late: String,
    /// 1 store, 2 up to this id, 3 limit, 4 milliseconds, 5 of these keys: `id` of what is due by then.
    pub(super) earlier: String,
    /// 1 store, 2 ids.
    pub(super) by_ids: String,
    /// 1 store, 2 ids: `id`, `body`.
    pub(super) bodies: String,
    /// 1 store: `id`, the highest.
    pub(super) top: String,
    /// Deletes under the fence, in one statement: 1 cluster, 2 artifact, 3 token, 4 session, 5 store, 6 ids; returns
    /// `held`. None where that cannot be one statement.
    pub(super) fenced_delete: Option<String>,
    /// 1 store, 2 ids.
    pub(super) delete: String,
    /// 1 store, 2 ids, 3 attempts: so many were made, and it is not known how the last one ended.
    pub(super) attempt: String,
    /// 1 store, 2 id, 3 attempts, 4 due, 5 error.
    pub(super) put_off: String,
    /// 1 store, 2 id, 3 attempts, 4 reason, 5 answer, 6 artifact, 7 token.
    pub(super) park: String,
    /// 1 store, 2 cluster, 3 artifact: makes the store known.
    pub(super) open: String,
    /// 1 store, 2 cluster, 3 artifact: this processor reads it, unless another one does.
    pub(super) bind: String,
    /// 1 store: `cluster` and `artifact` of its reader.
    pub(super) reader: String,
    /// 1 store: nobody reads it.
    pub(super) unbind: String,
    /// 1 store, 2 limit: `waiting`, `parked`, `oldest` in milliseconds.
    pub(super) depth: String,
    /// 1 store, 2 after this id, 3 limit.
    pub(super) list: String,
    /// 1 store, 2 after this id, 3 limit.
    pub(super) parked: String,
    /// 1 store, 2 id.
    pub(super) peek: String,
    /// 1 store, 2 after this id, 3 limit: `id` of what waits, and of what is parked.
    pub(super) waiting_ids: String,
    pub(super) parked_ids: String,
    /// 1 from store, 2 ids, 3 to store: appended anew and then gone; and only gone.
    pub(super) replay: [String; 2],
    pub(super) moved: [String; 2],
    pub(super) purge_parked: [String; 1],
    pub(super) purge: [String; 1],
    /// 1 store, 2 milliseconds that it is kept, 3 limit: what was parked so long ago.
    pub(super) trim: String,
    /// 1 key: a lock until the end of the transaction, which appends of that key share; none where one is held anyway.
    pub(super) order: Option<String>,
}

/// The statements for this database.
///
/// # Errors
/// [`Error::Invalid`] for a database that this crate has no statements for.
pub(super) fn texts(backend: DbBackend, store: &str) -> Result<&'static Texts, Error> {
    static TEXTS: [OnceLock<Texts>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    let index = match backend {
        DbBackend::Postgres => 0,
        DbBackend::MySql => 1,
        DbBackend::Sqlite => 2,
        other => {
            let name = other.as_str();
            return Err(Error::invalid(
                store,
                format!("no statements for {name}: use PostgreSQL, MariaDB, MySQL or SQLite"),
            ));
        }
    };
    Ok(TEXTS[index].get_or_init(|| Texts::new(backend)))
}

impl Texts {
    fn new(backend: DbBackend) -> Self {
        let (now, ids, keys, order) = match backend {
            DbBackend::Postgres => (
                "floor(extract(epoch from clock_timestamp()) * 1000)::bigint",
                "= any(string_to_array({}, ',')::bigint[])",
                "in (select jsonb_array_elements_text({}::jsonb))",
                Some("select pg_advisory_xact_lock(hashtextextended(?1, 7236828))"),
            ),
            DbBackend::MySql => (
                "cast(floor(unix_timestamp(sysdate(3)) * 1000) as signed)",
                "in (select n from json_table(concat('[', {}, ']'), '$[*]' columns (n bigint path '$')) j)",
                "in (select convert(k using utf8mb4) collate utf8mb4_bin from json_table({}, '$[*]' columns (k varchar(200) character set utf8mb4 path '$')) j)",
                Some("select bucket from leasehold_store_order where bucket = crc32(?1) mod 32 for update"),
            ),
            // Who writes has the only write lock.
            _ => (
                "cast(round(unixepoch('subsec') * 1000) as integer)",
                "in (select value from json_each('[' || {} || ']'))",
                "in (select value from json_each({}))",
                None,
            ),
        };
        // `ids` and `keys` are lists in one parameter: numbers with commas, and a JSON array.
        let sql = |text: &str| numbered(backend, &text.replace("NOW", now));
        let list = |text: &str, parameter: &str| sql(&text.replace("IDS", &ids.replace("{}", parameter)));
        let gone = |table: &str| {
            if backend == DbBackend::MySql {
                sql(&format!("delete m from {JOINED}").replace("TABLE", table))
            } else {
                list(&format!("delete from {table} where store = ?1 and id IDS"), "?2")
            }
        };
        let own = COLUMNS.replace("LARGE", &LARGE.to_string());
        let columns = |rest: &str| format!("select {own} from leasehold_message where store = ?1 and {rest}");
        let without = format!("(order_key is null or not order_key {})", keys.replace("{}", "?5"));
        let for_update = if backend == DbBackend::Sqlite { "" } else { " for update" };
        Self {
            backend,
            now,
            inserts: [const { [const { OnceLock::new() }; ROWS] }; 2],
            page: sql(&columns("id > ?2 order by id limit ?3")),
            page_without: sql(&columns(&format!("id > ?2 and id <= ?4 and {without} order by id limit ?3"))),
            key_page: sql(&columns("order_key = ?2 and id >= ?3 and id <= ?4 order by id limit ?5")),
            due_page: sql(&columns("due <= ?2 and (?4 = 1 or order_key is null) order by due, id limit ?3")),
            next_due: sql(
                "select min(due) as due from leasehold_message where store = ?1 and due > ?2 and (?3 = 1 or order_key is null)",
            ),
            late: sql(&format!(
                "select id from leasehold_message where store = ?1 and id > ?2 and id <= ?3 and (due is null or due <= ?6) \
                 and {without} order by id limit ?4"
            )),
            earlier: sql(&format!(
                "select id from leasehold_message where store = ?1 and id <= ?2 and order_key {} and (due is null or due <= ?4) \
                 order by id limit ?3",
                keys.replace("{}", "?5")
            )),
            bodies: list("select id, body from leasehold_message where store = ?1 and id IDS", "?2"),
            by_ids: list(&columns("id IDS order by id"), "?2"),
            top: sql("select max(id) as id from leasehold_message where store = ?1"),
            fenced_delete: fenced_delete(backend).map(|text| list(text, "?6")),
            delete: gone("leasehold_message"),
            attempt: if backend == DbBackend::MySql {
                sql(&format!("update {JOINED} set m.attempts = ?3, m.error = null")
                    .replace("TABLE", "leasehold_message"))
            } else {
                list(
                    "update leasehold_message set attempts = ?3, error = null where store = ?1 and id IDS",
                    "?2",
                )
            },
            put_off: sql(
                "update leasehold_message set attempts = ?3, due = ?4, error = ?5 where store = ?1 and id = ?2",
            ),
            park: sql(
                "insert into leasehold_parked (store, id, message, order_key, headers, content_type, body, attempts, reason, \
                 answer, artifact, token, appended_at, parked_at) select store, id, message, order_key, headers, content_type, \
                 body, ?3, ?4, ?5, ?6, ?7, appended_at, NOW from leasehold_message where store = ?1 and id = ?2",
            ),
            open: sql(if backend == DbBackend::MySql {
                "insert ignore into leasehold_store (name, cluster, artifact) values (?1, ?2, ?3)"
            } else {
                "insert into leasehold_store (name, cluster, artifact) values (?1, ?2, ?3) on conflict do nothing"
            }),
            bind: sql(
                "update leasehold_store set cluster = ?2, artifact = ?3 where name = ?1 and artifact is null",
            ),
            reader: sql("select cluster, artifact from leasehold_store where name = ?1"),
            unbind: sql("update leasehold_store set cluster = null, artifact = null where name = ?1"),
            depth: sql(
                "select (select count(*) from (select 1 from leasehold_message where store = ?1 limit ?2) w) as waiting, \
                 (select count(*) from (select 1 from leasehold_parked where store = ?1 limit ?2) p) as parked, \
                 (select NOW - appended_at from leasehold_message where store = ?1 order by id limit 1) as oldest",
            ),
            list: sql(
                "select id, message, order_key, cast(length(body) as LONG) as bytes, attempts, due, error, appended_at \
                 from leasehold_message where store = ?1 and id > ?2 order by id limit ?3",
            ),
            parked: sql(
                "select id, message, order_key, cast(length(body) as LONG) as bytes, attempts, reason, answer, appended_at, \
                 parked_at from leasehold_parked where store = ?1 and id > ?2 order by id limit ?3",
            ),
            peek: sql(
                "select headers, content_type, body from leasehold_message where store = ?1 and id = ?2 union all \
                 select headers, content_type, body from leasehold_parked where store = ?1 and id = ?2",
            ),
            waiting_ids: sql(
                "select id from leasehold_message where store = ?1 and id > ?2 order by id limit ?3",
            ) + for_update,
            parked_ids: sql(
                "select id from leasehold_parked where store = ?1 and id > ?2 order by id limit ?3",
            ) + for_update,
            replay: [list(&again("leasehold_parked", "null, null"), "?2"), gone("leasehold_parked")],
            moved: [list(&again("leasehold_message", "due, expires"), "?2"), gone("leasehold_message")],
            purge_parked: [gone("leasehold_parked")],
            purge: [gone("leasehold_message")],
            trim: sql(match backend {
                // It has no limit in a sub-select of the same table.
                DbBackend::MySql => {
                    "delete from leasehold_parked where store = ?1 and parked_at < NOW - ?2 order by parked_at limit ?3"
                }
                _ => {
                    "delete from leasehold_parked where store = ?1 and id in (select id from leasehold_parked where store = ?1 \
                     and parked_at < NOW - ?2 order by parked_at limit ?3)"
                }
            }),
            order: order.map(sql),
        }
    }

    /// How a transaction of the store's own begins.
    pub(super) fn begin(&self) -> TransactionOptions {
        let sqlite = self.backend == DbBackend::Sqlite;
        TransactionOptions {
            isolation_level: (!sqlite).then_some(IsolationLevel::ReadCommitted),
            // A write later on cannot find the lock taken then.
            sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        }
    }

    /// 1 store, 2 whether in order; then of each row: message, order_key, headers, content_type, body; and, if `timed`, due
    /// (absolute), delay, life.
    pub(super) fn insert(&self, rows: usize, timed: bool) -> &str {
        let text = &self.inserts[usize::from(timed)][rows.clamp(1, ROWS) - 1];
        text.get_or_init(|| numbered(self.backend, &insert(rows, timed).replace("NOW", self.now)))
    }

    pub(super) fn statement(&self, text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        leasehold_core::store::statement(self.backend, text, values)
    }
}

/// Appended anew, with an id of its own, and the id that its sender gave it.
fn again(table: &str, times: &str) -> String {
    format!(
        "insert into leasehold_message (store, message, order_key, headers, content_type, body, due, expires, appended_at) \
         select ?3, message, order_key, headers, content_type, body, {times}, NOW from {table} where store = ?1 and id IDS order by id"
    )
}

/// Whoever waits for nothing pays for no clock but that of `appended_at`.
fn insert(rows: usize, timed: bool) -> String {
    let (times, columns) = if timed { (", due, expires", 8) } else { ("", 5) };
    let mut text = format!(
        "insert into leasehold_message (store, ordered, message, order_key, headers, content_type, body, appended_at{times}) values "
    );
    for row in 0..rows {
        let at = |column: usize| 2 + row * columns + column;
        let separator = if row == 0 { "" } else { ", " };
        let (message, key, headers, kind, body) = (at(1), at(2), at(3), at(4), at(5));
        text.push_str(&format!("{separator}(?1, ?2, ?{message}, ?{key}, ?{headers}, ?{kind}, ?{body}, NOW"));
        if timed {
            let (due, delay, life) = (at(6), at(7), at(8));
            text.push_str(&format!(", coalesce(?{due}, NOW + ?{delay}), NOW + ?{life}"));
        }
        text.push(')');
    }
    text
}

/// Elsewhere a deletion is one of a transaction's: MySQL's takes no shared lock on another table's row, and SQLite's returns
/// nothing where there is nothing to delete, as if the lease were lost.
fn fenced_delete(backend: DbBackend) -> Option<&'static str> {
    (backend == DbBackend::Postgres).then_some(
        "with f as (select 1 from leasehold_lease where cluster = ?1 and artifact = ?2 and token = ?3 and holder = ?4 for share), \
         d as (delete from leasehold_message using f where store = ?5 and id IDS) select count(*) as held from f",
    )
}

/// As the database numbers parameters, and names its largest integer in a cast.
fn numbered(backend: DbBackend, text: &str) -> String {
    match backend {
        DbBackend::Postgres => text.replace('?', "$").replace(" as LONG", " as bigint"),
        DbBackend::MySql => text.replace(" as LONG", " as signed"),
        _ => text.replace(" as LONG", " as integer"),
    }
}
