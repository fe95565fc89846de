//! What people do with a store: look, replay, purge, move.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Value};

use super::SqlStore;
use super::rows::{StoredId, get, headers_of, list as ids, number};
use crate::error::Error;
use crate::store::{Content, Depth, Parked, Waiting, Which};

/// Written in one transaction at most: short enough to hold up no reader.
const BATCH: u32 = 500;

fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
}

async fn rows<const N: usize>(
    store: &SqlStore,
    operation: &'static str,
    text: &str,
    values: [Value; N],
) -> Result<Vec<QueryResult>, Error> {
    let statement = store.texts.statement(text, values);
    store.db.query_all_raw(statement).await.map_err(|error| store.failed(operation, error))
}

pub(super) async fn depth(store: &SqlStore) -> Result<Depth, Error> {
    let found = rows(store, "count", &store.texts.depth, [store.value(), number(Depth::MOST + 1)]).await?;
    let Some(row) = found.first() else { return Ok(Depth::default()) };
    let (waiting, parked): (i64, i64) = (get(store, row, "waiting")?, get(store, row, "parked")?);
    let oldest: Option<i64> = get(store, row, "oldest")?;
    Ok(Depth {
        waiting: waiting.unsigned_abs(),
        parked: parked.unsigned_abs(),
        oldest: oldest.map(|age| Duration::from_millis(u64::try_from(age).unwrap_or(0))),
    })
}

pub(super) async fn list(store: &SqlStore, after: StoredId, limit: u32) -> Result<Vec<Waiting>, Error> {
    let found = rows(store, "list", &store.texts.list, [store.value(), after.into(), number(limit)]).await?;
    let read = |row: &QueryResult| {
        let (bytes, attempts): (i64, i64) = (get(store, row, "bytes")?, get(store, row, "attempts")?);
        let due: Option<i64> = get(store, row, "due")?;
        Ok(Waiting {
            id: get(store, row, "id")?,
            message: get(store, row, "message")?,
            key: get(store, row, "order_key")?,
            bytes: bytes.unsigned_abs(),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            due: due.map(at),
            error: get(store, row, "error")?,
            appended: at(get(store, row, "appended_at")?),
        })
    };
    found.iter().map(read).collect()
}

pub(super) async fn parked(store: &SqlStore, after: StoredId, limit: u32) -> Result<Vec<Parked>, Error> {
    let values = [store.value(), after.into(), number(limit)];
    let found = rows(store, "list what is parked", &store.texts.parked, values).await?;
    let read = |row: &QueryResult| {
        let (bytes, attempts): (i64, i64) = (get(store, row, "bytes")?, get(store, row, "attempts")?);
        Ok(Parked {
            id: get(store, row, "id")?,
            message: get(store, row, "message")?,
            key: get(store, row, "order_key")?,
            bytes: bytes.unsigned_abs(),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            reason: get(store, row, "reason")?,
            answer: get(store, row, "answer")?,
            appended: at(get(store, row, "appended_at")?),
            parked: at(get(store, row, "parked_at")?),
        })
    };
    found.iter().map(read).collect()
}

pub(super) async fn peek(store: &SqlStore, id: StoredId) -> Result<Option<Content>, Error> {
    let found = rows(store, "peek", &store.texts.peek, [store.value(), id.into()]).await?;
    let read = |row: &QueryResult| {
        let (headers, body): (String, Vec<u8>) = (get(store, row, "headers")?, get(store, row, "body")?);
        Ok(Content {
            headers: headers_of(&headers),
            content_type: get(store, row, "content_type")?,
            body: body.into(),
        })
    };
    found.first().map(read).transpose()
}

/// What is done with messages.
#[derive(Clone)]
struct Work {
    operation: &'static str,
    which: Which,
    /// Finds them: 1 store, 2 after this id, 3 limit.
    found: &'static str,
    /// What is done with those found, one after the other: 1 store, 2 ids; 3 another store, unless it is a deletion.
    done: &'static [String],
    to: Value,
}

impl Work {
    /// Does it with each message once, some in a transaction; tells how many there were.
    async fn all(self, store: &SqlStore) -> Result<u64, Error> {
        let mut count = 0;
        let mut after = match self.which {
            Which::One(id) => id.saturating_sub(1),
            Which::All => i64::MIN,
        };
        loop {
            let (work, operation) = (self.clone(), self.operation);
            let batch =
                store.transaction(operation, move |store, txn| Box::pin(work.some(store, txn, after)));
            let found = batch.await?;
            count += found.len() as u64;
            match found.last() {
                Some(last) if self.which == Which::All && found.len() == BATCH as usize => after = *last,
                _ => return Ok(count),
            }
        }
    }

    /// Does it with the next ones, and tells which they were.
    async fn some(
        self,
        store: &SqlStore,
        txn: &DatabaseTransaction,
        after: StoredId,
    ) -> Result<Vec<StoredId>, Error> {
        let failed = |error| store.failed(self.operation, error);
        let limit = if self.which == Which::All { BATCH } else { 1 };
        let values = [store.value(), after.into(), number(limit)];
        let rows = txn.query_all_raw(store.texts.statement(self.found, values)).await.map_err(failed)?;
        let mut found: Vec<StoredId> =
            rows.iter().map(|row| get(store, row, "id")).collect::<Result<_, _>>()?;
        found.retain(|id| self.which == Which::All || self.which == Which::One(*id));
        if found.is_empty() {
            return Ok(found);
        }
        for text in self.done {
            let mut values = vec![store.value(), ids(found.iter().copied())];
            if !text.starts_with("delete") {
                values.push(self.to.clone());
            }
            txn.execute_raw(store.texts.statement(text, values)).await.map_err(failed)?;
        }
        Ok(found)
    }
}

pub(super) async fn replay(store: &SqlStore, which: Which) -> Result<u64, Error> {
    let (found, done) = (&store.texts.parked_ids, &store.texts.replay);
    Work { operation: "replay", which, found, done, to: store.value() }.all(store).await
}

pub(super) async fn purge(store: &SqlStore, which: Which) -> Result<u64, Error> {
    let (found, done) = (&store.texts.waiting_ids, &store.texts.purge);
    Work { operation: "purge", which, found, done, to: store.value() }.all(store).await
}

pub(super) async fn purge_parked(store: &SqlStore, which: Which) -> Result<u64, Error> {
    let (found, done) = (&store.texts.parked_ids, &store.texts.purge_parked);
    Work { operation: "purge what is parked", which, found, done, to: store.value() }.all(store).await
}

pub(super) async fn move_to(store: &SqlStore, to: &SqlStore, which: Which) -> Result<u64, Error> {
    if store.name == to.name {
        return Err(Error::invalid(
            &store.name,
            "its messages cannot be moved to itself: name another store",
        ));
    }
    let (found, done) = (&store.texts.waiting_ids, &store.texts.moved);
    Work { operation: "move", which, found, done, to: to.value() }.all(store).await
}
