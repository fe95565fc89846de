//! Files that were handled, remembered in the database, where they stay where they are.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use leasehold_core::Error as CoreError;
use leasehold_core::lease::Lease;
use leasehold_core::message::{Progress, Record};
use leasehold_core::store::{StoreError, marker, statement};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement, Value};
use uuid::Uuid;

use super::state::Ending;
use super::storage::Entry;
use crate::error::Error;

/// Rows of one statement.
pub(super) const BATCH: usize = 200;
/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 2000;
const COLUMNS: usize = 10;

/// What is remembered of a file.
#[derive(Clone, Debug)]
pub(super) struct Row {
    path: Arc<str>,
    tag: Arc<str>,
    size: u64,
    modified: i64,
    /// Why it failed, if it did.
    reason: Option<String>,
}

impl Row {
    pub(super) fn new(entry: &Entry, ending: &Ending) -> Self {
        let Entry { path, tag, size, modified } = entry.clone();
        let reason = match ending {
            Ending::Done => None,
            Ending::Failed { reason, .. } => {
                Some(reason[..reason.floor_char_boundary(MAX_REASON)].replace('\0', "\u{fffd}"))
            }
        };
        Self { path, tag, size, modified, reason }
    }
}

/// Paths may be longer than any index takes.
fn hash(path: &str) -> Vec<u8> {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, path.as_bytes()).as_bytes().to_vec()
}

/// That a file is done, for its handler's own transaction.
pub(super) fn progress(entry: &Entry) -> Arc<Progress> {
    Progress::by(InLedger(Row::new(entry, &Ending::Done)))
}

#[derive(Debug)]
struct InLedger(Row);

#[async_trait]
impl Record for InLedger {
    async fn write(&self, lease: &Lease, txn: &DatabaseTransaction) -> Result<(), CoreError> {
        let backend = txn.get_database_backend();
        txn.execute_raw(insert(backend, lease, std::slice::from_ref(&self.0)))
            .await
            .map_err(|error| StoreError::database(backend, "remember a file", error))?;
        lease.fence(txn).await
    }

    async fn is_written(&self, lease: &Lease) -> Result<bool, CoreError> {
        let backend = lease.database().get_database_backend();
        let p = marker(backend);
        let text = format!(
            "select tag from leasehold_file where cluster = {p}1 and artifact = {p}2 and file = {p}3"
        );
        let values = scope(lease).into_iter().chain([hash(&self.0.path).into()]);
        let rows = lease.query("look a file up", statement(backend, &text, values)).await?;
        let tag = rows.first().and_then(|row| row.try_get::<String>("", "tag").ok());
        Ok(tag.as_deref() == Some(&*self.0.tag))
    }
}

fn scope(lease: &Lease) -> [Value; 2] {
    [lease.key().cluster.as_str().into(), lease.artifact().as_str().into()]
}

fn insert(backend: DbBackend, lease: &Lease, rows: &[Row]) -> Statement {
    let p = marker(backend);
    let mut text = "insert into leasehold_file (cluster, artifact, file, path, tag, size, modified, outcome, reason, token) values ".to_owned();
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * COLUMNS);
    for (n, row) in rows.iter().enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        let columns: Vec<String> =
            (1..=COLUMNS).map(|column| format!("{p}{}", n * COLUMNS + column)).collect();
        // Cannot fail: it is a String.
        let _ = write!(text, "{comma}({})", columns.join(", "));
        values.extend(scope(lease));
        values.extend([
            hash(&row.path).into(),
            row.path.to_string().into(),
            row.tag.to_string().into(),
            i64::try_from(row.size).unwrap_or(i64::MAX).into(),
            row.modified.into(),
            Value::from(if row.reason.is_some() { "failed" } else { "done" }),
            row.reason.clone().into(),
            lease.token().0.into(),
        ]);
    }
    let set = ["tag", "size", "modified", "outcome", "reason", "token"];
    let set =
        |value: fn(&str) -> String| set.map(|column| format!("{column} = {}", value(column))).join(", ");
    let update = match backend {
        DbBackend::MySql => format!("on duplicate key update {}", set(|column| format!("values({column})"))),
        _ => format!(
            "on conflict (cluster, artifact, file) do update set {}",
            set(|column| format!("excluded.{column}"))
        ),
    };
    statement(backend, &format!("{text} {update}"), values)
}

/// Remembers files, fenced.
pub(super) async fn note(lease: &Lease, rows: &[Row]) -> Result<(), Error> {
    for rows in rows.chunks(BATCH) {
        let work = lease.database().clone();
        lease
            .transaction(&work, async |txn| {
                let backend = txn.get_database_backend();
                let done = txn.execute_raw(insert(backend, lease, rows)).await;
                done.map_err(|error| StoreError::database(backend, "remember files", error))?;
                Ok::<_, CoreError>(())
            })
            .await?;
    }
    Ok(())
}

/// All that is remembered: path and tag.
pub(super) async fn load(lease: &Lease) -> Result<HashMap<Arc<str>, Arc<str>>, Error> {
    const PAGE: i64 = 10_000;
    let backend = lease.database().get_database_backend();
    let p = marker(backend);
    let text = format!(
        "select file, path, tag from leasehold_file where cluster = {p}1 and artifact = {p}2 and file > {p}3 order by file limit {p}4"
    );
    let (mut all, mut after) = (HashMap::new(), Vec::<u8>::new());
    loop {
        let values = scope(lease).into_iter().chain([after.clone().into(), PAGE.into()]);
        let rows = lease.query("read what was handled", statement(backend, &text, values)).await?;
        let failed = |error| StoreError::database(backend, "read what was handled", error);
        for row in &rows {
            let path: String = row.try_get("", "path").map_err(failed)?;
            let tag: String = row.try_get("", "tag").map_err(failed)?;
            after = row.try_get("", "file").map_err(failed)?;
            all.insert(path.into(), tag.into());
        }
        if (rows.len() as i64) < PAGE {
            return Ok(all);
        }
    }
}

/// Forgets files that are not there any more, fenced.
pub(super) async fn forget(lease: &Lease, paths: &[Arc<str>]) -> Result<(), Error> {
    let work = lease.database().clone();
    lease
        .transaction(&work, async |txn| {
            let backend = txn.get_database_backend();
            let p = marker(backend);
            let which: Vec<String> = (3..paths.len() + 3).map(|n| format!("{p}{n}")).collect();
            let text = format!(
                "delete from leasehold_file where cluster = {p}1 and artifact = {p}2 and file in ({})",
                which.join(", ")
            );
            let values = scope(lease).into_iter().chain(paths.iter().map(|path| hash(path).into()));
            let done = txn.execute_raw(statement(backend, &text, values)).await;
            done.map_err(|error| StoreError::database(backend, "forget files", error))?;
            Ok::<_, CoreError>(())
        })
        .await?;
    Ok(())
}
