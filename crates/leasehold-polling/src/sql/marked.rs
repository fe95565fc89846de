//! The poller of a query with a watermark.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;
use leasehold_core::message::MessageId;
use leasehold_core::store::StoreError;
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement};

use super::config::{SqlConfig, Watermark};
use super::text::{BODY, Dialect, MARK, Mark, Page, Place, TIE};
use crate::error::Error;
use crate::poller::{Batch, Cursor, Item, Poller};

/// A database that is polled.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) db: DatabaseConnection,
    pub(super) dialect: Dialect,
}

impl Asked {
    pub(super) fn new(db: &DatabaseConnection) -> Self {
        Self { db: db.clone(), dialect: Dialect(db.get_database_backend()) }
    }

    /// On a task of its own: a query that is dropped half-way would cost the pool a connection.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<QueryResult>, Error> {
        let db = self.db.clone();
        let query = tokio::spawn(async move { db.query_all_raw(statement).await });
        match query.await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(self.failed(error)),
            // It is not aborted; the runtime may shut down.
            Err(error) => Err(Error::unreachable("query", error.to_string())),
        }
    }

    pub(super) fn failed(&self, error: sea_orm::DbErr) -> Error {
        StoreError::database(self.dialect.0, "poll", error).into()
    }

    /// The names of the query's columns, in their order; none while it finds nothing.
    pub(super) async fn columns(&self, query: &str) -> Result<Vec<String>, Error> {
        let first = Statement::from_string(self.dialect.0, format!("select * from ({query}) q limit 1"));
        Ok(self.rows(first).await?.first().map(QueryResult::column_names).unwrap_or_default())
    }
}

/// Names of columns that were asked for once.
#[derive(Default)]
pub(super) struct Columns(Mutex<Arc<[String]>>);

impl Columns {
    /// None: there is no row yet.
    pub(super) async fn get(
        &self,
        asked: &Asked,
        config: &SqlConfig,
    ) -> Result<Option<Arc<[String]>>, Error> {
        let known = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if config.body.is_some() || asked.dialect.0 == sea_orm::DbBackend::Postgres || !known.is_empty() {
            return Ok(Some(known));
        }
        let found: Arc<[String]> = asked.columns(&config.query).await?.into();
        if found.is_empty() {
            return Ok(None);
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&found);
        Ok(Some(found))
    }
}

/// Polls by a watermark.
pub(super) struct Marked {
    config: SqlConfig,
    watermark: Watermark,
    asked: Asked,
    columns: Columns,
}

impl Marked {
    pub(super) fn new(config: SqlConfig, watermark: Watermark, db: &DatabaseConnection) -> Self {
        Self { config, watermark, asked: Asked::new(db), columns: Columns::default() }
    }

    fn item(&self, row: &QueryResult, source: &Arc<str>) -> Result<Item, sea_orm::DbErr> {
        let mark = Mark::read(row, MARK, self.watermark.mark.kind)?;
        let tie = self.watermark.tie.as_ref().map(|tie| Mark::read(row, TIE, tie.kind)).transpose()?;
        let id = match (&mark, &tie) {
            (Mark::Integer(n), None) if *n >= 0 => MessageId::Position(n.unsigned_abs()),
            (mark, None) => MessageId::Text(format!("{source}/{mark}").into()),
            (mark, Some(tie)) => MessageId::Text(format!("{source}/{mark}/{tie}").into()),
        };
        let cursor = Place { mark, tie }.cursor();
        made(row, id, source, &self.config, self.watermark.tie.is_some()).map(|item| item.at(cursor))
    }
}

/// What rows have in common.
pub(super) fn made(
    row: &QueryResult,
    id: MessageId,
    source: &Arc<str>,
    config: &SqlConfig,
    has_tie: bool,
) -> Result<Item, sea_orm::DbErr> {
    let body: Option<String> = row.try_get_by_index(BODY)?;
    let mut item = Item::new(id, Arc::clone(source), Bytes::new());
    item.parts.body = body.map(Bytes::from);
    if config.body.is_none() {
        item.parts.content_type = Some("application/json".into());
    }
    if config.key.is_some() {
        item.parts.key = row.try_get_by_index::<Option<String>>(TIE + usize::from(has_tie))?.map(Bytes::from);
    }
    Ok(item)
}

#[async_trait]
impl Poller for Marked {
    fn place(&self) -> String {
        self.config.name.to_string()
    }

    async fn poll(&self, cursor: Option<&Cursor>, room: usize, lease: &Lease) -> Result<Batch, Error> {
        // What cannot be read was written for another configuration: from the beginning.
        let after = cursor.and_then(Place::read);
        let Some(columns) = self.columns.get(&self.asked, &self.config).await? else {
            return Ok(Batch::default());
        };
        let page = Page {
            tie: self.watermark.tie.as_ref(),
            late: &self.watermark.late,
            ..Page::of(&self.config, self.asked.dialect, &columns, &self.watermark.mark)
        };
        lease.check()?;
        let rows = self.asked.rows(page.statement(after.as_ref(), room)).await?;
        let source: Arc<str> = self.place().into();
        let items: Result<Vec<Item>, _> = rows.iter().map(|row| self.item(row, &source)).collect();
        let items = items.map_err(|error| self.asked.failed(error))?;
        Ok(Batch { more: items.len() == room, items, ..Batch::default() })
    }
}

impl fmt::Debug for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marked").field("config", &self.config).finish_non_exhaustive()
    }
}
