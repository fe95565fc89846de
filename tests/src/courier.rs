//! Replicas that forward messages to a file, as processes.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use leasehold::processor::Outgoing;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

/// The store of these suites.
pub const STORE: &str = "outbox";
/// So many messages are delivered at once.
pub const AT_ONCE: usize = 8;
/// How often a message is tried.
pub const ATTEMPTS: u32 = 3;
/// A courier does not survive this one.
pub const POISON: &str = "poison";
const KEYS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The message.
    pub id: String,
    /// What its order goes by.
    pub key: String,
    /// Its place among those of its key.
    pub number: u64,
    /// Of the lease under which it was delivered.
    pub token: i64,
    /// Who delivered it.
    pub node: String,
}

impl Delivery {
    /// Writes it at the end of the file, in one write: lines of several processes do not mix.
    ///
    /// # Errors
    /// Those of the file.
    pub fn append(&self, log: &Path) -> io::Result<()> {
        let line = format!("{}\n", serde_json::to_string(self)?);
        OpenOptions::new().create(true).append(true).open(log)?.write_all(line.as_bytes())
    }
}

/// Messages `from..to`, spread over keys, with ids of their own.
pub fn messages(from: u64, to: u64) -> Vec<Outgoing> {
    (from..to).map(|n| Outgoing::text((n / KEYS).to_string()).key(n % KEYS).id(format!("m{n}"))).collect()
}

/// Couriers, and the file to which they deliver.
#[derive(Debug)]
pub struct Couriers {
    program: &'static str,
    database: String,
    ttl: Duration,
    log: PathBuf,
    children: BTreeMap<String, Child>,
}

impl Couriers {
    /// None yet. `program` is the courier's, as cargo built it; the file lies in `folder`.
    pub fn new(program: &'static str, database: &str, ttl: Duration, folder: &Path) -> Self {
        let log = folder.join("deliveries");
        Self { program, database: database.to_owned(), ttl, log, children: BTreeMap::new() }
    }

    /// Starts one.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&mut self, name: &str) -> io::Result<()> {
        let child = Command::new(self.program)
            .args([&self.database, name, &self.ttl.as_millis().to_string()])
            .arg(&self.log)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        self.children.insert(name.to_owned(), child);
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When there is no such courier.
    #[allow(clippy::expect_used, reason = "a harness")]
    pub fn signal(&self, name: &str, signal: Signal) {
        let child = self.children.get(name).and_then(Child::id).expect("a running courier");
        let child = i32::try_from(child).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(child, signal).expect("the signal is sent");
    }

    /// Waits for the end of one.
    ///
    /// # Panics
    /// When there is no such courier, or it does not end.
    #[allow(clippy::expect_used, reason = "a harness")]
    pub async fn reap(&mut self, name: &str) -> ExitStatus {
        let mut child = self.children.remove(name).expect("a courier");
        tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("an exit status")
    }

    /// What was delivered so far.
    pub fn delivered(&self) -> Vec<Delivery> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until what was delivered is as `wanted`.
    ///
    /// # Panics
    /// When that takes too long.
    #[allow(clippy::panic, reason = "a harness")]
    pub async fn until(&self, what: &str, wanted: impl Fn(&[Delivery]) -> bool) -> Vec<Delivery> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let delivered = self.delivered();
            if wanted(&delivered) {
                return delivered;
            }
            if tokio::time::Instant::now() > end {
                panic!(
                    "{what}: not within {PATIENCE:?}; {} deliveries, the last: {:?}",
                    delivered.len(),
                    delivered.last()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Deliveries without those that came before with the same id.
pub fn first(deliveries: &[Delivery]) -> Vec<Delivery> {
    let mut known = std::collections::BTreeSet::new();
    deliveries.iter().filter(|delivery| known.insert(delivery.id.clone())).cloned().collect()
}

/// Whether the first deliveries of each key come in its order, and none is missing between them.
pub fn in_order(deliveries: &[Delivery]) -> bool {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    first(deliveries).into_iter().all(|delivery| {
        let expected = next.entry(delivery.key).or_default();
        *expected += 1;
        delivery.number == *expected - 1
    })
}
