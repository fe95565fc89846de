//! A message store in the database of the leases: an outbox that is written in the transaction of whoever writes to it.

mod people;
mod rows;
mod scan;
mod source;
mod text;
mod writer;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::dispatch::Source;
use leasehold_core::lease::Lease;
use leasehold_core::name::ArtifactName;
use leasehold_core::store::StoreError;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult, Statement,
    TransactionTrait, Value,
};

use crate::error::Error;
use crate::outgoing::{DEFAULT_MAX_BYTES, Outgoing, When};
use crate::store::{Content, Depth, MessageStore, Parked, Reading, Waiting, Which};
use rows::{get, number};
use text::{ROWS, Texts, texts};

/// Bodies of one statement together: MariaDB refuses statements above 16 MiB unless it is told otherwise.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;
/// So much of what was parked long ago is deleted at once.
const TRIMMED: usize = 500;

/// A message store in the database of the leases. Clones are the same store.
///
/// Append with [`append`](SqlStore::append) inside a transaction of your own: the message is there if it commits, and not
/// otherwise. One processor reads it.
///
/// The tables are leasehold's, so the connection must be to the database in which the nodes of the cluster meet.
#[derive(Clone)]
pub struct SqlStore {
    name: Arc<str>,
    db: DatabaseConnection,
    texts: &'static Texts,
    max_bytes: usize,
}

impl SqlStore {
    /// The store `name`; it begins to be with its first message or reader. Names are like those of artifacts.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that breaks `[a-z0-9][a-z0-9._-]{0,99}`, and for a database without a dialect.
    pub fn new(db: &DatabaseConnection, name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        ArtifactName::new(name).map_err(|error| Error::invalid(name, error.to_string()))?;
        let texts = texts(db.get_database_backend(), name)?;
        Ok(Self { name: name.into(), db: db.clone(), texts, max_bytes: DEFAULT_MAX_BYTES })
    }

    /// The largest payload that it takes, in bytes; 1 MiB unless set.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Appends a message in a transaction, or on a connection, of the caller's.
    ///
    /// Messages of transactions that overlap have no order among them, whatever their key: see
    /// [`append_ordered`](SqlStore::append_ordered).
    ///
    /// # Errors
    /// [`Error::Invalid`] when the message is larger than the store takes, or cannot be stored. Errors of the database.
    pub async fn append<C: ConnectionTrait>(&self, txn: &C, message: Outgoing) -> Result<(), Error> {
        self.append_batch(txn, &[message]).await
    }

    /// Appends messages in their order: a hundred of them cost little more than one.
    ///
    /// # Errors
    /// As [`append`](SqlStore::append); then none was appended if this is a transaction.
    pub async fn append_batch<C: ConnectionTrait>(
        &self,
        txn: &C,
        messages: &[Outgoing],
    ) -> Result<(), Error> {
        self.insert(txn, messages, false).await
    }

    async fn insert<C: ConnectionTrait>(
        &self,
        txn: &C,
        messages: &[Outgoing],
        ordered: bool,
    ) -> Result<(), Error> {
        for message in messages {
            message.check(self.max_bytes).map_err(|problem| Error::invalid(&self.name, problem))?;
        }
        let mut rest = messages;
        while !rest.is_empty() {
            let rows = fitting(rest);
            let (batch, later) = rest.split_at(rows);
            let timed = batch.iter().any(Outgoing::is_timed);
            let values = batch.iter().flat_map(|message| row(message, timed));
            let values = [self.value(), number(ordered)].into_iter().chain(values);
            let statement = self.texts.statement(self.texts.insert(rows, timed), values);
            txn.execute_raw(statement).await.map_err(|error| self.failed("append", error))?;
            rest = later;
        }
        Ok(())
    }

    /// Appends a message whose order within its key shall be that of the commits: transactions that append to the same key
    /// of this store in this way follow one another, from here until their ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a message without a key, and as [`append`](SqlStore::append). Two transactions that take
    /// several keys in different orders may deadlock: one of them gets the database's error, and is to be repeated.
    pub async fn append_ordered(&self, txn: &DatabaseTransaction, message: Outgoing) -> Result<(), Error> {
        let Some(key) = &message.key else {
            let problem = format!("message {:?} has no key: give it one, or use append", message.id);
            return Err(Error::invalid(&self.name, problem));
        };
        if let Some(order) = &self.texts.order {
            let lock = self.texts.statement(order, [format!("{}/{key}", self.name).into()]);
            txn.query_all_raw(lock).await.map_err(|error| self.failed("order", error))?;
        }
        self.insert(txn, &[message], true).await
    }

    /// The names of the stores of a database: those that have, or had, a reader.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn names(db: &DatabaseConnection) -> Result<Vec<String>, Error> {
        let backend = db.get_database_backend();
        let failed = |error| Error::Database {
            store: "*".to_owned(),
            source: StoreError::database(backend, "list stores", error),
        };
        let sql = "select name from leasehold_store order by name";
        let rows = db.query_all_raw(Statement::from_string(backend, sql)).await.map_err(failed)?;
        rows.iter().map(|row| row.try_get("", "name").map_err(failed)).collect()
    }

    /// Lets another processor read the store: for one that was renamed or given up.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn release_reader(&self) -> Result<(), Error> {
        let statement = self.texts.statement(&self.texts.unbind, [self.value()]);
        self.db.execute_raw(statement).await.map_err(|error| self.failed("release its reader", error))?;
        Ok(())
    }

    fn value(&self) -> Value {
        self.name.as_ref().into()
    }

    fn failed(&self, operation: &'static str, error: DbErr) -> Error {
        let source = StoreError::database(self.db.get_database_backend(), operation, error);
        Error::Database { store: self.name.to_string(), source }
    }

    /// This processor is its reader from now on, unless another one is.
    async fn bind(&self, lease: &Lease) -> Result<(), Error> {
        let (cluster, artifact) = (&lease.key().cluster, lease.artifact());
        let values = || [self.value(), cluster.as_str().into(), artifact.as_str().into()];
        for text in [&self.texts.open, &self.texts.bind] {
            self.asked(lease, "bind", text, values()).await?;
        }
        let rows = self.asked(lease, "bind", &self.texts.reader, [self.value()]).await?;
        let found = rows.first().map(|row| Ok((get(self, row, "cluster")?, get(self, row, "artifact")?)));
        let (by, reader): (Option<String>, Option<String>) = found.transpose()?.unwrap_or_default();
        let (by, reader) = (by.unwrap_or_default(), reader.unwrap_or_default());
        if (by.as_str(), reader.as_str()) == (cluster.as_str(), artifact.as_str()) {
            return Ok(());
        }
        Err(Error::invalid(
            &self.name,
            format!(
                "it is read by processor {reader:?} of cluster {by:?}, and a store has one reader: give {artifact} a store of \
                 its own, or, if {reader} is gone for good, let go of it by SqlStore::release_reader"
            ),
        ))
    }

    /// Deletes a part of what was parked longer ago than so many milliseconds.
    pub(crate) async fn forget_parked(&self, lease: &Lease, keep: i64) -> Result<(), Error> {
        let values = [self.value(), keep.into(), number(TRIMMED)];
        self.asked(lease, "delete what was parked long ago", &self.texts.trim, values).await?;
        Ok(())
    }

    /// The rows of a statement on the node's own connections.
    async fn asked(
        &self,
        lease: &Lease,
        operation: &'static str,
        text: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, Error> {
        let rows = lease.query(operation, self.texts.statement(text, values)).await;
        rows.map_err(|error| Error::core(&self.name, error))
    }

    /// Runs `body` in a transaction of the store's own, on a task of its own: dropped, it goes on by itself.
    async fn transaction<T, F>(&self, operation: &'static str, body: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a SqlStore, &'a DatabaseTransaction) -> Body<'a, T> + Send + 'static,
    {
        let store = self.clone();
        let work = tokio::spawn(async move {
            let txn = store.db.begin_with_options(store.texts.begin()).await;
            let txn = txn.map_err(|error| store.failed(operation, error))?;
            let value = body(&store, &txn).await?;
            txn.commit().await.map_err(|error| store.failed(operation, error))?;
            Ok(value)
        });
        match work.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::core(&self.name, leasehold_core::Error::Left)),
            },
        }
    }
}

/// How many of these messages, of which there is one, go into one statement.
fn fitting(messages: &[Outgoing]) -> usize {
    let mut bytes = 0;
    let more = |message: &&Outgoing| {
        bytes += message.body.len();
        bytes <= STATEMENT_BYTES
    };
    messages.iter().take(ROWS).take_while(more).count().max(1)
}

/// What [`Texts::insert`] takes of a row.
fn row(message: &Outgoing, timed: bool) -> impl Iterator<Item = Value> {
    let content = [
        message.id.as_str().into(),
        message.key.clone().into(),
        message.stored_headers().into(),
        message.content_type.clone().into(),
        message.body.to_vec().into(),
    ];
    let times = timed.then(|| {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (due, delay) = match message.when {
            When::Now => (None, None),
            When::After(delay) => (None, Some(millis(delay))),
            When::At(at) => (Some(at.timestamp_millis()), None),
        };
        [due, delay, message.time_to_live.map(millis)].map(Value::from)
    });
    content.into_iter().chain(times.into_iter().flatten())
}

/// What a transaction does.
type Body<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl MessageStore for SqlStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn append_all(&self, messages: &[Outgoing]) -> Result<(), Error> {
        let messages = messages.to_vec();
        self.transaction("append", move |store, txn| {
            Box::pin(async move { store.append_batch(txn, &messages).await })
        })
        .await
    }

    async fn read(&self, lease: &Lease, reading: Reading) -> Result<Box<dyn Source>, Error> {
        self.bind(lease).await?;
        Ok(Box::new(source::SqlSource::begin(self.clone(), lease.clone(), reading).await?))
    }

    async fn depth(&self) -> Result<Depth, Error> {
        people::depth(self).await
    }

    async fn list(&self, after: i64, limit: u32) -> Result<Vec<Waiting>, Error> {
        people::list(self, after, limit).await
    }

    async fn parked(&self, after: i64, limit: u32) -> Result<Vec<Parked>, Error> {
        people::parked(self, after, limit).await
    }

    async fn peek(&self, id: i64) -> Result<Option<Content>, Error> {
        people::peek(self, id).await
    }

    async fn replay(&self, which: Which) -> Result<u64, Error> {
        people::replay(self, which).await
    }

    async fn purge(&self, which: Which) -> Result<u64, Error> {
        people::purge(self, which).await
    }

    async fn purge_parked(&self, which: Which) -> Result<u64, Error> {
        people::purge_parked(self, which).await
    }

    async fn move_to(&self, store: &str, which: Which) -> Result<u64, Error> {
        let to = SqlStore::new(&self.db, store)?;
        people::move_to(self, &to, which).await
    }
}
