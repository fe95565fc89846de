//! Claims and completions of all tasks that a node runs, many in one statement: what a node asks of the database does not
//! grow with each task that fires.
//!
//! Rows queue up while a statement is under way, and for [`GAP`] after the last one was sent; then all that wait go
//! together. A row is fenced by its own lease: one that is lost, or about to be, is left out and holds up no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use leasehold_core::Error;
use leasehold_core::lease::Lease;
use leasehold_core::store::{StoreError, statement};
use sea_orm::{ConnectionTrait, DbErr};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Key;
use crate::firing::Outcome;

/// Between statements of a kind: at most a hundred per second, however many tasks fire. It is a part of their lateness.
const GAP: Duration = Duration::from_millis(10);
/// Tasks that fire at one instant come within this time: the first of them waits for the others.
const GATHER: Duration = Duration::from_millis(1);
/// For how long completions let claims go first: a handler waits for its claim, nobody for a completion but the next slot.
const COURTESY: Duration = Duration::from_millis(40);
/// How many rows go into one statement: a few milliseconds, so that the last of thousands does not wait for all.
const MOST: usize = 250;
/// How many statements of a kind are under way at once: the pool has a connection or two left for everything else.
const AT_ONCE: usize = 2;

/// Parameters: 1 cluster, 2 session, 3 rows as JSON. Returns `artifact`, `token`, `slot`, `command` and `attempt`: of each
/// row whose lease is held, and of each that was claimed once more with its attempt.
pub(super) struct BatchTexts {
    /// As [`Texts::claim`](super::Texts).
    pub(super) claim: &'static str,
    /// As [`Texts::complete`](super::Texts).
    pub(super) complete: &'static str,
}

/// What the tasks of one session write together.
#[derive(Default)]
pub(super) struct Batches {
    claims: Queue,
    completions: Queue,
}

impl Batches {
    /// Writes a claim, with others. Dropped, it is written all the same, with an unknown outcome.
    ///
    /// # Errors
    /// Errors of the database; the outcome is unknown then.
    pub(super) async fn claim(&self, lease: &Lease, texts: &BatchTexts, row: Row) -> Result<Answer, Error> {
        self.claims.write(lease, texts.claim, row, None).await
    }

    /// The same for a completion.
    ///
    /// # Errors
    /// Errors of the database; the outcome is unknown then.
    pub(super) async fn complete(
        &self,
        lease: &Lease,
        texts: &BatchTexts,
        row: Row,
    ) -> Result<Answer, Error> {
        self.completions.write(lease, texts.complete, row, Some(&self.claims)).await
    }
}

/// A row of a batch.
#[derive(Serialize)]
pub(super) struct Row {
    artifact: String,
    token: i64,
    slot: i64,
    command: i64,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What {
    Claim { ordinal: u64, node: String },
    Completion { at: i64, outcome: &'static str, error: Option<String> },
}

impl Row {
    pub(super) fn claim(lease: &Lease, key: Key, ordinal: u64, node: &str) -> Self {
        Self::new(lease, key, What::Claim { ordinal, node: node.to_owned() })
    }

    pub(super) fn completion(lease: &Lease, key: Key, at: i64, outcome: &Outcome) -> Self {
        Self::new(lease, key, What::Completion { at, outcome: outcome.name(), error: outcome.error() })
    }

    fn new(lease: &Lease, key: Key, what: What) -> Self {
        let (artifact, token) = (lease.artifact().to_string(), lease.token().0);
        Self { artifact, token, slot: key.slot, command: key.command, what }
    }

    fn id(&self) -> Id {
        (self.artifact.clone(), self.token, self.slot, self.command)
    }
}

type Id = (String, i64, i64, i64);

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was written, under its lease, unless the firing was completed before.
    Held(Option<i64>),
    /// Nothing was written: its lease is lost, or about to be.
    LeftOut,
}

struct Waiting {
    row: Row,
    answer: oneshot::Sender<Result<Answer, StoreError>>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// A task sends what waits.
    sending: bool,
    last: Option<Instant>,
}

/// Rows that wait to be written.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<State>>);

impl Queue {
    async fn write(
        &self,
        lease: &Lease,
        text: &'static str,
        row: Row,
        after: Option<&Self>,
    ) -> Result<Answer, Error> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut state = self.state();
            state.waiting.push(Waiting { row, answer });
            !std::mem::replace(&mut state.sending, true)
        };
        if first {
            tokio::spawn(self.clone().send(lease.clone(), text, after.cloned()));
        }
        // Without an answer the runtime shuts down.
        Ok(answered.await.map_err(|_| Error::Left)??)
    }

    /// Sends what waits until nothing does.
    async fn send(self, lease: Lease, text: &'static str, after: Option<Self>) {
        loop {
            let now = Instant::now();
            let last = self.gap();
            tokio::time::sleep_until(last.map_or(now, |last| last + GAP).max(now + GATHER)).await;
            while after.as_ref().is_some_and(|after| after.state().sending) && now.elapsed() < COURTESY {
                tokio::time::sleep(GATHER).await;
            }
            // What comes meanwhile waits for the next gap, unless it fills a statement.
            let Some(mut burst) = self.waiting() else { return };
            let mut under_way = FuturesUnordered::new();
            loop {
                while under_way.len() < AT_ONCE
                    && let Some(batch) = self.take(burst)
                {
                    burst = burst.saturating_sub(batch.len());
                    under_way.push(write(&lease, text, batch));
                }
                if under_way.next().await.is_none() {
                    break;
                }
            }
        }
    }

    /// When the last statement was sent, if the next one has to keep a distance: one that is full need not.
    fn gap(&self) -> Option<Instant> {
        let state = self.state();
        state.last.filter(|_| state.waiting.len() < MOST)
    }

    /// How many rows wait. None do, and nobody sends any more: nothing.
    fn waiting(&self) -> Option<usize> {
        let mut state = self.state();
        state.sending = !state.waiting.is_empty();
        state.sending.then_some(state.waiting.len())
    }

    /// The rows of the next statement: of a burst that waits, or as many as fill one.
    fn take(&self, burst: usize) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        let many = if state.waiting.len() < MOST { burst.min(state.waiting.len()) } else { MOST };
        if many == 0 {
            return None;
        }
        state.last = Some(Instant::now());
        Some(state.waiting.drain(..many).collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes rows in one statement, and answers whoever waits for them.
async fn write(lease: &Lease, text: &'static str, batch: Vec<Waiting>) {
    let (rows, answers): (Vec<Row>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.row, waiting.answer)).unzip();
    let written = written(lease, text, &rows).await;
    for (row, answer) in rows.iter().zip(answers) {
        let told = match &written {
            Ok(written) => {
                Ok(written.get(&row.id()).map_or(Answer::LeftOut, |attempt| Answer::Held(*attempt)))
            }
            Err(error) => Err(error.clone()),
        };
        // Its run may be over.
        let _ = answer.send(told);
    }
}

async fn written(
    lease: &Lease,
    text: &'static str,
    rows: &[Row],
) -> Result<HashMap<Id, Option<i64>>, StoreError> {
    let (db, key) = (lease.database(), lease.key());
    let backend = db.get_database_backend();
    let error = |error| StoreError::database(backend, "write firings", error);
    let rows = serde_json::to_string(rows).map_err(|e| error(DbErr::Custom(e.to_string())))?;
    let values = [key.cluster.as_str().into(), key.session.0.into(), rows.into()];
    let found = db.query_all_raw(statement(backend, text, values)).await.map_err(error)?;
    let mut written: HashMap<Id, Option<i64>> = HashMap::new();
    for row in &found {
        let read = || {
            let (artifact, token) = (row.try_get("", "artifact")?, row.try_get("", "token")?);
            let id = (artifact, token, row.try_get("", "slot")?, row.try_get("", "command")?);
            Ok((id, row.try_get("", "attempt")?))
        };
        let (id, attempt): (Id, Option<i64>) = read().map_err(error)?;
        let known = written.entry(id).or_default();
        *known = known.or(attempt);
    }
    Ok(written)
}
