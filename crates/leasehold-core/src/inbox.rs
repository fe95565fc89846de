//! Each message takes effect once, by its id: a table of those that were handled, written in the handler's transaction.

use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Value};

use crate::error::Error;
use crate::lease::Lease;
use crate::message::Message;
use crate::name::ArtifactName;
use crate::store::{ErrorKind, StoreError, marker, statement};

/// How long ids are remembered unless set: longer than brokers and people take to send something again.
pub const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest id, in bytes: what databases index.
pub const MAX_ID: usize = 255;
/// Old ids are deleted once in so many messages,
const TRIM_EVERY: u32 = 256;
/// so many at most: more than came meanwhile, so that the table cannot grow without end, and few enough to be quick.
const TRIM: i64 = 1024;

/// Remembers which messages were handled, by their ids, which compare bytewise. Endpoints that share a name share the
/// memory.
///
/// ```
/// # use leasehold_core::{Error, artifact::ArtifactError, handler::HandlerError, inbox::Inbox, lease::Lease, message::Message};
/// # use sea_orm::{DatabaseConnection, DatabaseTransaction};
/// # async fn book(_: &DatabaseTransaction, _: &Message) -> Result<(), Error> { Ok(()) }
/// # async fn handle(inbox: &Inbox, db: &DatabaseConnection, message: Message, lease: Lease) -> Result<(), HandlerError> {
/// lease
///     .transaction(db, async |txn| {
///         if inbox.is_new(&lease, txn, &message).await? {
///             book(txn, &message).await?;
///         }
///         Ok::<_, Error>(())
///     })
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Inbox {
    name: ArtifactName,
    keep: Duration,
    calls: AtomicU32,
}

impl Inbox {
    /// The inbox of this name, of the lease's cluster.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self { name: ArtifactName::new(name)?, keep: DEFAULT_KEEP, calls: AtomicU32::new(0) })
    }

    /// How long ids are remembered; 7 days unless set. A message that comes again later takes effect again. Old ids are
    /// deleted in batches, as new ones come.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self { keep, ..self }
    }

    /// Whether the message was not handled before; notes it in `txn`, a transaction of [`Lease::transaction`], so that it
    /// is remembered if its effect commits, and only then. Two transactions with one id wait for each other.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease is lost. [`ErrorKind::Invalid`] when the message has no id, or one of more than 255
    /// bytes: reject it, or handle it without. Errors of the database.
    pub async fn is_new(
        &self,
        lease: &Lease,
        txn: &DatabaseTransaction,
        message: &Message,
    ) -> Result<bool, Error> {
        const OPERATION: &str = "look into the inbox";
        lease.check()?;
        let id = message.id();
        if id.is_empty() || id.len() > MAX_ID {
            let problem = format!(
                "a message of {} has an id of {} bytes: an inbox takes 1 to {MAX_ID}",
                message.source(),
                id.len()
            );
            return Err(StoreError::new(ErrorKind::Invalid, OPERATION, problem).into());
        }
        let backend = txn.get_database_backend();
        let texts = texts(backend);
        let key = lease.key();
        let scope = || -> [Value; 2] { [key.cluster.as_str().into(), self.name.as_str().into()] };
        let failed = |error| Error::from(StoreError::database(backend, OPERATION, error));
        let values = scope().into_iter().chain([id.as_bytes().to_vec().into(), key.token.0.into()]);
        let noted = txn.execute_raw(statement(backend, &texts.note, values)).await.map_err(failed)?;
        if self.calls.fetch_add(1, Ordering::Relaxed) % TRIM_EVERY == TRIM_EVERY - 1 {
            let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX / 1000);
            let values = scope().into_iter().chain([keep.into(), TRIM.into()]);
            txn.execute_raw(statement(backend, &texts.trim, values)).await.map_err(failed)?;
        }
        Ok(noted.rows_affected() > 0)
    }
}

struct Texts {
    note: String,
    trim: String,
}

/// The statements, with numbered parameters as [`statement`] takes them.
fn texts(backend: DbBackend) -> Texts {
    let p = marker(backend);
    let verb = if backend == DbBackend::MySql { "insert ignore" } else { "insert" };
    let mut note =
        format!("{verb} into leasehold_inbox (cluster, inbox, id, token) values ({p}1, {p}2, {p}3, {p}4)");
    if backend != DbBackend::MySql {
        // Cannot fail: it is a String.
        let _ = write!(note, " on conflict do nothing");
    }
    let old = format!("cluster = {p}1 and inbox = {p}2 and seen_at < ");
    let trim = match backend {
        DbBackend::Postgres => format!(
            "delete from leasehold_inbox where ctid = any (array(select ctid from leasehold_inbox where {old} \
             now() - $3 * interval '1 millisecond' order by seen_at limit $4))"
        ),
        DbBackend::MySql => format!(
            "delete from leasehold_inbox where {old} timestampadd(microsecond, -?3 * 1000, current_timestamp(3)) \
             order by seen_at limit ?4"
        ),
        _ => format!(
            "delete from leasehold_inbox where (cluster, inbox, id) in (select cluster, inbox, id from leasehold_inbox \
             where {old} strftime('%Y-%m-%dT%H:%M:%fZ', unixepoch('subsec') - ?3 / 1000.0, 'unixepoch') \
             order by seen_at limit ?4)"
        ),
    };
    Texts { note, trim }
}
