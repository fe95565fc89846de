//! The poller of a query whose rows are marked when they are done.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use leasehold_core::Error as CoreError;
use leasehold_core::lease::Lease;
use leasehold_core::message::{MessageId, Progress, Record};
use leasehold_core::store::{ErrorKind, StoreError};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, TransactionTrait};

use super::config::{Claim, SqlConfig};
use super::marked::{Asked, Columns, made};
use super::text::{Dialect, MARK, Mark, Page, Place, lookup, mark};
use crate::error::Error;
use crate::poller::{Batch, Cursor, Item, Poller, Settled};

#[derive(Default)]
struct State {
    /// Found, and not marked as far as is known.
    out: HashSet<Mark>,
    /// Marked while a poll that began before may still find them.
    leaving: HashSet<Mark>,
    /// Where the next poll goes on, until one finds no more.
    after: Option<Mark>,
    /// What could not be marked yet.
    todo: Vec<Mark>,
}

/// Polls, and marks.
pub(super) struct Claimed {
    config: Arc<SqlConfig>,
    claim: Arc<Claim>,
    asked: Asked,
    columns: Columns,
    state: Mutex<State>,
    /// The rows are in another database than the leases.
    is_elsewhere: AtomicBool,
}

/// Marks a row in its handler's transaction.
struct Marks {
    config: Arc<SqlConfig>,
    claim: Arc<Claim>,
    asked: Asked,
    id: Mark,
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marks").field("id", &self.id).finish_non_exhaustive()
    }
}

#[async_trait]
impl Record for Marks {
    async fn write(&self, lease: &Lease, txn: &DatabaseTransaction) -> Result<(), CoreError> {
        let backend = txn.get_database_backend();
        lease.check()?;
        let statement = mark(Dialect(backend), &self.claim.mark, &self.claim.id, &self.id);
        txn.execute_raw(statement)
            .await
            .map_err(|error| StoreError::database(backend, "mark a row", error))?;
        match lease.fence(txn).await {
            // The handler's own transaction is where the row is, and the lease is not.
            Err(CoreError::Store(error)) if error.kind() == ErrorKind::Elsewhere => Ok(()),
            fenced => fenced,
        }
    }

    /// What is marked is not found any more.
    async fn is_written(&self, _: &Lease) -> Result<bool, CoreError> {
        let statement = lookup(self.asked.dialect, &self.config.query, &self.claim.id, &self.id);
        match self.asked.rows(statement).await {
            Ok(rows) => Ok(rows.is_empty()),
            Err(Error::Core(error)) => Err(error),
            Err(other) => Err(CoreError::artifact(self.config.name.as_str(), other.to_string())),
        }
    }
}

impl Claimed {
    pub(super) fn new(config: SqlConfig, claim: Claim, db: &DatabaseConnection) -> Self {
        Self {
            config: Arc::new(config),
            claim: Arc::new(claim),
            asked: Asked::new(db),
            columns: Columns::default(),
            state: Mutex::default(),
            is_elsewhere: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks rows, fenced if they are where the leases are.
    async fn mark(&self, ids: Vec<Mark>, lease: &Lease) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let marked = self.try_mark(&ids, lease).await;
        let mut state = self.state();
        match marked {
            Ok(()) => {
                for id in ids {
                    state.out.remove(&id);
                    state.leaving.insert(id);
                }
                Ok(())
            }
            Err(error) => {
                state.todo.extend(ids);
                Err(error)
            }
        }
    }

    async fn try_mark(&self, ids: &[Mark], lease: &Lease) -> Result<(), Error> {
        let backend = self.asked.dialect.0;
        let marks = async |txn: &DatabaseTransaction| {
            for id in ids {
                let statement = mark(self.asked.dialect, &self.claim.mark, &self.claim.id, id);
                let marked = txn.execute_raw(statement).await;
                marked.map_err(|error| StoreError::database(backend, "mark rows", error))?;
            }
            Ok::<_, CoreError>(())
        };
        if !self.is_elsewhere.load(Ordering::Relaxed) {
            match lease.transaction(&self.asked.db, marks).await {
                Err(CoreError::Store(error)) if error.kind() == ErrorKind::Elsewhere => {
                    self.is_elsewhere.store(true, Ordering::Relaxed);
                }
                marked => return Ok(marked?),
            }
        }
        lease.check()?;
        let (db, dialect) = (self.asked.db.clone(), self.asked.dialect);
        let (claim, ids) = (Arc::clone(&self.claim), ids.to_vec());
        let marking = tokio::spawn(async move {
            let txn = db.begin().await?;
            for id in &ids {
                txn.execute_raw(mark(dialect, &claim.mark, &claim.id, id)).await?;
            }
            txn.commit().await
        });
        match marking.await {
            Ok(marked) => marked.map_err(|error| self.asked.failed(error)),
            // It is not aborted; the runtime may shut down.
            Err(error) => Err(Error::unreachable(self.place(), error.to_string())),
        }
    }
}

struct Native(Mark);

#[async_trait]
impl Poller for Claimed {
    fn place(&self) -> String {
        self.config.name.to_string()
    }

    async fn begin(&self, _: &Lease) -> Result<(), Error> {
        *self.state() = State::default();
        Ok(())
    }

    async fn poll(&self, _: Option<&Cursor>, room: usize, lease: &Lease) -> Result<Batch, Error> {
        let todo = std::mem::take(&mut self.state().todo);
        self.mark(todo, lease).await?;
        let Some(columns) = self.columns.get(&self.asked, &self.config).await? else {
            return Ok(Batch::default());
        };
        let after = {
            let mut state = self.state();
            // Marked before this poll begins: it does not find them.
            state.leaving.clear();
            state.after.clone().map(|mark| Place { mark, tie: None })
        };
        let page = Page::of(&self.config, self.asked.dialect, &columns, &self.claim.id);
        lease.check()?;
        let rows = self.asked.rows(page.statement(after.as_ref(), room)).await?;
        let source: Arc<str> = self.place().into();
        let mut batch = Batch::default();
        let mut state = self.state();
        let is_full = rows.len() == room;
        let mut last = None;
        for row in &rows {
            let failed = |error| self.asked.failed(error);
            let id = Mark::read(row, MARK, self.claim.id.kind).map_err(failed)?;
            last = Some(id.clone());
            if state.leaving.contains(&id) || !state.out.insert(id.clone()) {
                continue;
            }
            let name = MessageId::Text(format!("{source}/{id}").into());
            let mut item: Item = made(row, name, &source, &self.config, false).map_err(failed)?;
            item.parts.progress = Some(Progress::by(Marks {
                config: Arc::clone(&self.config),
                claim: Arc::clone(&self.claim),
                asked: self.asked.clone(),
                id: id.clone(),
            }));
            item.parts.native = Some(Box::new(Native(id)));
            batch.items.push(item);
        }
        // From the beginning again, where rows may have appeared meanwhile.
        state.after = last.filter(|_| is_full);
        batch.more = is_full;
        Ok(batch)
    }

    async fn settle(&self, settled: Vec<Settled>, lease: &Lease) -> Result<(), Error> {
        let mut ids = Vec::new();
        for Settled { message, .. } in settled {
            let parts = message.parts();
            let Some(Native(id)) = parts.native.as_ref().and_then(|native| native.downcast_ref()) else {
                continue;
            };
            if parts.progress.as_ref().is_some_and(|progress| progress.is_recorded()) {
                let mut state = self.state();
                state.out.remove(id);
                state.leaving.insert(id.clone());
            } else {
                ids.push(id.clone());
            }
        }
        self.mark(ids, lease).await
    }

    fn records_itself(&self) -> bool {
        true
    }
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed").field("config", &self.config).finish_non_exhaustive()
    }
}
