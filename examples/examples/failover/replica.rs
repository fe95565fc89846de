//! One replica: four tasks whose handlers write an effect under the fence, and say what they do.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use leasehold::prelude::*;
use leasehold::supervise::Parent;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};

use crate::TTL;
use crate::journal::{Entry, now_ms};

/// The tasks and their periods.
pub(crate) const TASKS: [(&str, Duration); 4] = [
    ("invoices", Duration::from_millis(500)),
    ("reminders", Duration::from_millis(700)),
    ("reports", Duration::from_secs(1)),
    ("clean-up", Duration::from_millis(1300)),
];

pub(crate) async fn run(name: &str, database: &str) -> Result<()> {
    let db = Database::connect(database).await?;
    let mut node = Node::builder(database).cluster("failover-demo").node_id(name).ttl(TTL);
    for (task, period) in TASKS {
        let (replica, db) = (name.to_owned(), db.clone());
        let task = Task::fixed_rate(task, period)?
            // A slot that nobody could claim in time is not skipped: nothing is to be lost.
            .misfire(Misfire::FireAll { limit: 1_000 })
            .overlap(Overlap::Queue)
            .handler(move |firing: Firing| fire(replica.clone(), db.clone(), firing));
        node = node.artifact(Recorded { task, replica: name.to_owned() });
    }
    node.start().await?.run_until_signal().await;
    Ok(())
}

/// Is the parent of a replica, and has its leases freed when it dies.
pub(crate) async fn supervise(name: &str, database: &str) -> Result<()> {
    let mut replica = std::process::Command::new(std::env::current_exe()?);
    replica.args(["replica", name, database]);
    let parent = Parent::start_as_init(replica)?;
    say(&Entry::Supervised { node: name.to_owned(), process: parent.id() });
    parent.wait().await?;
    Ok(())
}

/// What a task does: it writes one row, in a transaction that commits only while the lease is held.
async fn fire(node: String, db: DatabaseConnection, firing: Firing) -> Result<(), ArtifactError> {
    let (task, token) = (firing.lease().artifact().to_string(), firing.lease().token().0);
    let (slot, attempt) = (firing.slot().timestamp_millis(), firing.attempt());
    let (of, by) = (task.clone(), node.clone());
    say(&Entry::Started { node: by.clone(), task: of.clone(), token, slot, attempt, at: now_ms() });
    let sql = match db.get_database_backend() {
        DbBackend::MySql => {
            "insert into failover_effect (task, slot, node, token) values (?, ?, ?, ?)
             on duplicate key update repeats = repeats + ?"
        }
        _ => {
            "insert into failover_effect (task, slot, node, token) values ($1, $2, $3, $4)
             on conflict (task, slot) do update set repeats = failover_effect.repeats + $5"
        }
    };
    // An interrupted first attempt may have written its effect; the second finds it, and leaves it as it is.
    let repeats = i64::from(attempt == 1);
    let values = [task.into(), slot.into(), node.into(), token.into(), repeats.into()];
    firing
        .lease()
        .transaction(&db, async |txn| {
            let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
            txn.execute_raw(statement).await?;
            Ok::<_, ArtifactError>(())
        })
        .await?;
    // Long enough to be interrupted in the middle.
    tokio::time::sleep(Duration::from_millis(80)).await;
    say(&Entry::Completed { node: by, task: of, token, slot, attempt, at: now_ms() });
    Ok(())
}

/// An artifact that also records while its lease is valid.
struct Recorded<A> {
    task: A,
    replica: String,
}

#[async_trait]
impl<A: Artifact> Artifact for Recorded<A> {
    fn name(&self) -> &ArtifactName {
        self.task.name()
    }

    fn kind(&self) -> ArtifactKind {
        self.task.kind()
    }

    async fn run(&self, lease: Lease) -> Result<(), ArtifactError> {
        let recorder = tokio::spawn(record(self.replica.clone(), lease.clone()));
        let done = self.task.run(lease).await;
        recorder.abort();
        done
    }
}

async fn record(node: String, lease: Lease) {
    let (task, token) = (lease.artifact().to_string(), lease.token().0);
    let _ended = Ended { node: node.clone(), task: task.clone(), token };
    while lease.is_valid() {
        let at = now_ms();
        let until = at + u64::try_from(lease.remaining().as_millis()).unwrap_or(u64::MAX);
        say(&Entry::Valid { node: node.clone(), task: task.clone(), token, at, until });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says that a lease is over, however its run ended.
struct Ended {
    node: String,
    task: String,
    token: i64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let Self { node, task, token } = self;
        say(&Entry::Ended { node: node.clone(), task: task.clone(), token: *token, at: now_ms() });
    }
}

/// Nobody listens any more when the show is over: then this process ends as well, whatever became of its parent.
fn say(entry: &Entry) {
    let Ok(line) = serde_json::to_string(entry) else { return };
    if writeln!(std::io::stdout().lock(), "{line}").is_err() {
        std::process::exit(1);
    }
}
