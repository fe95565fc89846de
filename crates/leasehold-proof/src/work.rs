//! What replicas do under their leases.

use std::sync::Arc;
use std::time::Duration;

use leasehold::prelude::*;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::failpoint::{self, Point};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement, TransactionTrait};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::clock::Pace;
use crate::node::Options;
use crate::record::{Outside, Telling, Told, now_ms};

/// How often a holder says that it believes to hold, and how long it rests between effects.
const TICK: Duration = Duration::from_millis(20);
/// The work of an effect, between its fence and its commit, in milliseconds.
const WORK_MS: u64 = 40;
/// One effect of so many holds its transaction open for long, and one of so many fills the pool.
const ROUGH: u64 = 40;

/// The table that effects are written to.
pub(crate) const EFFECTS: &str = "proof_effect";
/// The checkpoint of a holder.
const SAVED: &str = "saved";

/// Tells the recorder.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    by: Arc<str>,
    recorder: Arc<str>,
    client: reqwest::Client,
    /// What need not be waited for.
    beside: mpsc::UnboundedSender<Told>,
    ended: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Voice {
    pub(crate) fn new(by: &str, recorder: &str) -> Self {
        let (beside, mut inbox) = mpsc::unbounded_channel();
        let (done, ended) = oneshot::channel();
        let client = reqwest::Client::new();
        let ended = Arc::new(Mutex::new(Some(ended)));
        let voice = Self { by: by.into(), recorder: recorder.into(), client, beside, ended };
        let (by, url, client) = (voice.by.to_string(), voice.url("tell"), voice.client.clone());
        tokio::spawn(async move {
            let mut told = Vec::new();
            while inbox.recv_many(&mut told, 1000).await > 0 {
                let telling = Telling { by: by.clone(), told: std::mem::take(&mut told) };
                // The recorder ends last, and is hurt by nobody.
                let _ = client.post(&url).json(&telling).send().await;
                if telling.told.is_empty() {
                    break;
                }
            }
            let _ = done.send(());
        });
        voice
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.recorder)
    }

    /// Tells it, and waits until the recorder has it.
    pub(crate) async fn tell(&self, told: Vec<Told>) -> Result<(), reqwest::Error> {
        let telling = Telling { by: self.by.to_string(), told };
        self.client.post(self.url("tell")).json(&telling).send().await?.error_for_status().map(drop)
    }

    /// Tells it beside.
    pub(crate) fn say(&self, told: Told) {
        // It ends with the process.
        let _ = self.beside.send(told);
    }

    /// Waits a moment, for what is said beside to arrive.
    pub(crate) async fn finish(self) {
        let Self { beside, ended, .. } = self;
        drop(beside);
        if let Some(ended) = ended.lock().await.take() {
            // Runs that were cut off may hold clones for a moment longer.
            let _ = tokio::time::timeout(Duration::from_millis(200), ended).await;
        }
    }
}

/// Holds its lease, says so, and writes effects.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    voice: Voice,
    pace: Pace,
    rough_ms: u64,
    seed: u64,
}

impl Hold {
    pub(crate) fn new(options: &Options, voice: Voice, number: u64) -> Self {
        let seed = options.seed.wrapping_mul(31).wrapping_add(number);
        Self { voice, pace: options.pace, rough_ms: options.rough_ms, seed }
    }

    pub(crate) async fn run(self, lease: Lease) -> Result<(), ArtifactError> {
        let watching = tokio::spawn(self.clone().watch(lease.clone()));
        let done = self.work(&lease).await;
        watching.abort();
        // Only then has it said when it ended: the next holder may begin as soon as this returns.
        let _ = watching.await;
        done
    }

    async fn work(&self, lease: &Lease) -> Result<(), ArtifactError> {
        let mut random = fastrand::Rng::with_seed(self.seed ^ lease.token().0.unsigned_abs());
        let mut value = written(lease).await?;
        while !lease.is_revoked() && lease.is_valid() {
            value += 1;
            let rough = self.rough_ms > 0 && random.u64(..ROUGH) == 0;
            let work = Duration::from_millis(if rough { self.rough_ms } else { random.u64(..WORK_MS) });
            if self.rough_ms > 0 && random.u64(..ROUGH) == 0 {
                fill_the_pool(lease, work);
            }
            let (artifact, token) = (lease.artifact().to_string(), lease.token().0);
            // On a task of its own: a run that is cut off drops no transaction half-way.
            let effect = tokio::spawn(effect(lease.clone(), value, work, self.voice.clone()));
            if effect.await?.is_ok() {
                let outside = Outside { by: self.voice.by.to_string(), artifact, token };
                let sent = self.voice.client.post(self.voice.url("outside")).json(&outside).send();
                failpoint::sent(Point::EffectSent, sent).await?;
            }
            // Read each time: what somebody else wrote in between would be seen.
            let loaded = lease.load(SAVED).await?;
            let saved = loaded.map(|value| value.parse()).transpose()?.unwrap_or(0_i64) + 1;
            if lease.save(SAVED, saved).await.is_ok() {
                let (artifact, token) = (lease.artifact().to_string(), lease.token().0);
                self.voice.say(Told::Saved { artifact, token, value: saved });
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    async fn watch(self, lease: Lease) {
        let ending = Ending {
            voice: self.voice.clone(),
            artifact: lease.artifact().to_string(),
            token: lease.token().0,
        };
        while lease.is_valid() {
            // Read before the trust: what is frozen in between believes less, not more.
            let at = now_ms();
            let left = u64::try_from(lease.remaining().as_millis()).unwrap_or(u64::MAX);
            let until = at + self.pace.real_ms(left);
            self.voice.say(Told::Valid { artifact: ending.artifact.clone(), token: ending.token, at, until });
            tokio::time::sleep(TICK).await;
        }
    }
}

struct Ending {
    voice: Voice,
    artifact: String,
    token: i64,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (artifact, token) = (std::mem::take(&mut self.artifact), self.token);
        self.voice.say(Told::Ended { artifact, token, at: now_ms() });
    }
}

/// A fenced transaction, and tells of it when it has committed. The fence comes first where a database allows for that: what
/// follows it then is the work that a newer holder must wait for.
async fn effect(lease: Lease, value: i64, work: Duration, voice: Voice) -> Result<(), ArtifactError> {
    // When it was not committed yet: a stale one that commits after this has committed after whatever was done by then.
    let mut from = now_ms();
    if lease.database().get_database_backend() == DbBackend::Sqlite {
        // It has one writer: whoever holds its lock for long holds up everybody.
        let write = async |txn: &DatabaseTransaction| insert(&lease, txn, value).await;
        lease.transaction(lease.database(), write).await?;
    } else {
        let txn = lease.database().begin().await?;
        if let Err(error) = fenced(&lease, &txn, value, work).await {
            txn.rollback().await?;
            return Err(error);
        }
        from = now_ms();
        txn.commit().await?;
        failpoint::reached(Point::Committed);
    }
    let (artifact, token) = (lease.artifact().to_string(), lease.token().0);
    let until = now_ms();
    voice.tell(vec![Told::Effect { artifact, token, value, from, until }]).await?;
    Ok(())
}

async fn fenced(
    lease: &Lease,
    txn: &DatabaseTransaction,
    value: i64,
    work: Duration,
) -> Result<(), ArtifactError> {
    lease.fence(txn).await?;
    tokio::time::sleep(work).await;
    insert(lease, txn, value).await
}

/// Not a checkpoint, which is fenced itself: what is proved is the fence.
async fn insert(lease: &Lease, txn: &DatabaseTransaction, value: i64) -> Result<(), ArtifactError> {
    insert_as(lease.artifact().as_str(), lease, txn, value).await
}

/// An effect that goes by this name.
pub(crate) async fn insert_as(
    name: &str,
    lease: &Lease,
    txn: &DatabaseTransaction,
    value: i64,
) -> Result<(), ArtifactError> {
    let token = lease.token();
    let text = format!("insert into {EFFECTS} (artifact, token, value) values ('{name}', {token}, {value})");
    txn.execute_unprepared(&text).await?;
    Ok(())
}

/// The last effect of whoever held the lease before.
async fn written(lease: &Lease) -> Result<i64, ArtifactError> {
    let backend = lease.database().get_database_backend();
    let text = format!("select max(value) as value from {EFFECTS} where artifact = '{}'", lease.artifact());
    let rows = lease.query("read effects", Statement::from_string(backend, text)).await?;
    Ok(rows.first().map(|row| row.try_get::<Option<i64>>("", "value")).transpose()?.flatten().unwrap_or(0))
}

/// Takes what is left of the node's connections for a while, as transactions of a user would.
fn fill_the_pool(lease: &Lease, time: Duration) {
    for _ in 0..3 {
        let db = lease.database().clone();
        tokio::spawn(async move {
            if let Ok(txn) = db.begin().await {
                tokio::time::sleep(time).await;
                // It wrote nothing.
                let _ = txn.rollback().await;
            }
        });
    }
}
