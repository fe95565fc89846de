//! Writes what became of messages, many at a time, under the fence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leasehold_core::LeaseLost;
use leasehold_core::backoff::Backoff;
use leasehold_core::lease::Lease;
use leasehold_core::protocol::action::Revocation;
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use tokio::sync::{Notify, mpsc};

use super::SqlStore;
use super::rows::{StoredId, get, list, number};
use crate::error::Error;

/// Written together at most: a page of them costs hardly more than one.
const BATCH: usize = 200;
/// The longest texts that are kept of an error, in characters.
const MAX_REASON: usize = 4000;
const MAX_ANSWER: usize = 16_000;
/// Pauses while the database does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is done.
    Delete,
    /// It failed, and is due again then, in milliseconds since 1970.
    PutOff { attempts: u32, due: i64, error: String, at: At },
    /// It can not be delivered. A second line of the reason, and those after it, are what the endpoint answered.
    Park { attempts: u32, reason: String },
    /// This attempt is recorded before it is handed over: it may not survive that.
    Attempt(u32),
}

/// Where a message is until it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// With its holder.
    Holder,
    /// In the store only.
    Store,
}

pub(super) type Changes = Vec<(StoredId, Change)>;

/// What waits to be written. Whoever writes is woken for the first of a batch and when a batch is full, and not by each one:
/// a task that is woken takes the place of the one that sends the next message.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: Changes,
    /// Nobody waits for more of them.
    is_urgent: bool,
    /// There will be no more.
    is_closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each step is complete when the lock is let go.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, id: StoredId, change: Change) {
        let mut waiting = self.lock();
        waiting.changes.push((id, change));
        let count = waiting.changes.len();
        drop(waiting);
        if count == 1 || count == BATCH {
            self.wake.notify_one();
        }
    }

    fn tell(&self, what: impl FnOnce(&mut Waiting)) {
        what(&mut self.lock());
        self.wake.notify_one();
    }

    /// The next batch: full, or `lag` after its first one was seen; none when there will be no more.
    async fn batch(&self, lag: Duration) -> Option<Changes> {
        loop {
            {
                let waiting = self.lock();
                if !waiting.changes.is_empty() {
                    break;
                }
                if waiting.is_closed {
                    return None;
                }
            }
            self.wake.notified().await;
        }
        // A timer would take a millisecond even for nothing.
        if !lag.is_zero() {
            let mut over = std::pin::pin!(tokio::time::sleep(lag));
            while !self.lock().is_due() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = &mut over => break,
                }
            }
        }
        let mut waiting = self.lock();
        let rest = waiting.changes.len().min(BATCH);
        let rest = waiting.changes.split_off(rest);
        Some(std::mem::replace(&mut waiting.changes, rest))
    }
}

impl Waiting {
    fn is_due(&self) -> bool {
        self.changes.len() >= BATCH || self.is_urgent || self.is_closed
    }
}

/// The task that writes, seen from its source. Dropped, it writes nothing more once the lease is no longer valid.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    written: mpsc::UnboundedReceiver<Result<Changes, Error>>,
    outstanding: usize,
}

impl Writer {
    /// An acknowledgement waits up to `lag` for others.
    pub(super) fn start(store: SqlStore, lease: Lease, lag: Duration) -> Self {
        let queue = Arc::new(Queue::default());
        let inbox = Arc::clone(&queue);
        let (tell, written) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let error = write_all(&store, &lease, lag, &inbox, &tell).await.err();
            // Whoever read from the store has gone.
            let _ = error.is_some_and(|error| tell.send(Err(error)).is_err());
        });
        Self { queue, written, outstanding: 0 }
    }

    pub(super) fn push(&mut self, id: StoredId, change: Change) {
        self.outstanding += 1;
        self.queue.push(id, change);
    }

    /// From now on nothing waits for others.
    pub(super) fn hurry(&self) {
        self.queue.tell(|waiting| waiting.is_urgent = true);
    }

    /// How many changes are not written yet.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Waits for changes that were written. Cancellation safe.
    ///
    /// # Errors
    /// The lease is lost, or the database has failed for good.
    pub(super) async fn written(&mut self) -> Result<Changes, Error> {
        match self.written.recv().await {
            Some(Ok(changes)) => {
                self.outstanding -= changes.len();
                Ok(changes)
            }
            Some(Err(error)) => Err(error),
            // It has told its error, and that ended the run.
            None => std::future::pending().await,
        }
    }

    /// The same without waiting.
    pub(super) fn try_written(&mut self) -> Option<Result<Changes, Error>> {
        let changes = self.written.try_recv().ok()?;
        self.outstanding -= changes.as_ref().map_or(0, Vec::len);
        Some(changes)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.tell(|waiting| waiting.is_closed = true);
    }
}

async fn write_all(
    store: &SqlStore,
    lease: &Lease,
    lag: Duration,
    queue: &Queue,
    tell: &mpsc::UnboundedSender<Result<Changes, Error>>,
) -> Result<(), Error> {
    while let Some(batch) = queue.batch(lag).await {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, Backoff::seed());
        while let Err(error) = write(store, lease, &batch).await {
            if !error.is_temporary() || !lease.is_valid() {
                return Err(error);
            }
            tracing::warn!(artifact = %lease.artifact(), %error, "what became of messages could not be written yet");
            tokio::time::sleep(backoff.next_pause()).await;
        }
        if tell.send(Ok(batch)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes changes, all or none. May be repeated.
async fn write(store: &SqlStore, lease: &Lease, changes: &[(StoredId, Change)]) -> Result<(), Error> {
    let core = |error| Error::core(&store.name, error);
    lease.check().map_err(|lost| core(lost.into()))?;
    let only_deletes = changes.iter().all(|(_, change)| *change == Change::Delete);
    if let (Some(text), true) = (&store.texts.fenced_delete, only_deletes) {
        let key = lease.key();
        let values = [
            key.cluster.as_str().into(),
            key.artifact.as_str().into(),
            key.token.0.into(),
            key.session.0.into(),
            store.value(),
            list(changes.iter().map(|(id, _)| *id)),
        ];
        let rows = store.asked(lease, "acknowledge", text, values).await?;
        let held = rows.first().map(|row| get::<i64>(store, row, "held")).transpose()?;
        return if held.is_some_and(|held| held > 0) { Ok(()) } else { Err(core(lost(lease).into())) };
    }
    let written = lease.transaction(lease.database(), async |txn| {
        apply(store, lease, txn, changes).await.map_err(Failed::Store)
    });
    written.await.map_err(|error| match error {
        Failed::Store(error) => error,
        Failed::Core(error) => core(error),
    })
}

/// Of a transaction's body, or of the transaction.
enum Failed {
    Store(Error),
    Core(leasehold_core::Error),
}

impl From<leasehold_core::Error> for Failed {
    fn from(error: leasehold_core::Error) -> Self {
        Self::Core(error)
    }
}

async fn apply(
    store: &SqlStore,
    lease: &Lease,
    txn: &DatabaseTransaction,
    changes: &[(StoredId, Change)],
) -> Result<(), Error> {
    let texts = store.texts;
    let (mut gone, mut attempted) = (Vec::new(), BTreeMap::<u32, Vec<StoredId>>::new());
    for (id, change) in changes {
        let statement = match change {
            Change::Delete => {
                gone.push(*id);
                continue;
            }
            Change::Attempt(attempt) => {
                attempted.entry(*attempt).or_default().push(*id);
                continue;
            }
            Change::PutOff { attempts, due, error, .. } => {
                let error = clean(error, MAX_REASON);
                let values = [store.value(), (*id).into(), number(*attempts), (*due).into(), error.into()];
                texts.statement(&texts.put_off, values)
            }
            Change::Park { attempts, reason } => {
                gone.push(*id);
                let (reason, answer) = match reason.split_once('\n') {
                    Some((reason, answer)) => (reason, Some(clean(answer, MAX_ANSWER))),
                    None => (reason.as_str(), None),
                };
                let values = [
                    store.value(),
                    (*id).into(),
                    number(*attempts),
                    clean(reason, MAX_REASON).into(),
                    answer.into(),
                    lease.artifact().as_str().into(),
                    lease.token().0.into(),
                ];
                texts.statement(&texts.park, values)
            }
        };
        txn.execute_raw(statement).await.map_err(|error| store.failed("keep what failed", error))?;
    }
    let attempted = attempted
        .into_iter()
        .map(|(attempt, ids)| texts.statement(&texts.attempt, [store.value(), list(ids), number(attempt)]));
    let gone = (!gone.is_empty()).then(|| texts.statement(&texts.delete, [store.value(), list(gone)]));
    for statement in attempted.chain(gone) {
        txn.execute_raw(statement).await.map_err(|error| store.failed("acknowledge", error))?;
    }
    Ok(())
}

fn lost(lease: &Lease) -> LeaseLost {
    LeaseLost { artifact: lease.artifact().clone(), why: Some(Revocation::Lost) }
}

/// PostgreSQL's text has no NUL, and a row is no place for a core dump.
fn clean(text: &str, most: usize) -> String {
    text.replace('\0', "\u{fffd}").chars().take(most).collect()
}
