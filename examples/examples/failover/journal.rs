//! What replicas say about themselves, and the one who listens: a line of JSON each, over a pipe that outlives them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use leasehold::clock::{BootClock, Clock};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::replica::TASKS;

/// What a replica says. Times are milliseconds of the machine's monotonic clock, which all processes share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// A lease is valid at `at`, and stays so until `until` if the replica does nothing more.
    Valid { node: String, task: String, token: i64, at: u64, until: u64 },
    /// A lease is not valid any more.
    Ended { node: String, task: String, token: i64, at: u64 },
    /// A handler was started for a slot.
    Started { node: String, task: String, token: i64, slot: i64, attempt: u32, at: u64 },
    /// A handler has done its work for a slot.
    Completed { node: String, task: String, token: i64, slot: i64, attempt: u32, at: u64 },
    /// A parent has started the replica as this process.
    Supervised { node: String, process: u32 },
}

/// Now, on the clock that all processes of this machine share.
pub(crate) fn now_ms() -> u64 {
    BootClock.now().as_nanos() / 1_000_000
}

/// The replicas, and all that they have said.
pub(crate) struct Stage {
    database: String,
    replicas: BTreeMap<String, Child>,
    /// Those that have a parent: the processes that they are.
    supervised: BTreeMap<String, u32>,
    /// Of those that had one: who died, and when.
    deaths: Vec<(String, u64)>,
    entries: Vec<Entry>,
    said: mpsc::UnboundedReceiver<Entry>,
    say: mpsc::UnboundedSender<Entry>,
}

impl Stage {
    pub(crate) fn new(database: &str) -> Self {
        let (say, said) = mpsc::unbounded_channel();
        Self {
            database: database.to_owned(),
            replicas: BTreeMap::new(),
            supervised: BTreeMap::new(),
            deaths: Vec::new(),
            entries: Vec::new(),
            said,
            say,
        }
    }

    /// Starts a replica: this program, in another role.
    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        self.start_in("replica", name)
    }

    /// Starts one with a parent, which knows when it dies: this program, in a third role. `leasehold run` is the same for any
    /// program.
    pub(crate) async fn start_supervised(&mut self, name: &str) -> Result<()> {
        self.start_in("supervised", name)?;
        loop {
            if let Entry::Supervised { node, process } = self.hear().await?
                && node == name
            {
                self.supervised.insert(node, process);
                return Ok(());
            }
        }
    }

    fn start_in(&mut self, role: &str, name: &str) -> Result<()> {
        let mut replica = Command::new(std::env::current_exe()?)
            .args([role, name, &self.database])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a replica")?;
        let lines = replica.stdout.take().context("the replica's pipe")?;
        let say = self.say.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(lines).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // A replica that is killed in the middle of a line has not said it.
                if let Ok(entry) = serde_json::from_str(&line) {
                    let _ = say.send(entry);
                }
            }
        });
        self.replicas.insert(name.to_owned(), replica);
        Ok(())
    }

    /// Sends a signal; when that was.
    pub(crate) fn signal(&mut self, name: &str, signal: Signal) -> Result<u64> {
        let child = self.replicas.get(name).and_then(Child::id);
        let replica = self.supervised.get(name).copied().or(child).context("a running replica")?;
        let at = now_ms();
        crate::signal(replica, signal)?;
        if self.supervised.contains_key(name) && signal == Signal::KILL {
            self.deaths.push((name.to_owned(), at));
        }
        Ok(at)
    }

    /// The dead trust nothing: their leases do not count for as long as they were promised. What they said last may be heard
    /// after their death.
    fn note_deaths(&mut self) {
        for (name, death) in std::mem::take(&mut self.deaths) {
            let held = self.entries.iter().filter_map(|entry| match entry {
                Entry::Valid { node, task, token, at, .. } if *node == name && *at <= death => {
                    Some((task.clone(), *token))
                }
                _ => None,
            });
            let held: BTreeSet<_> = held.collect();
            let ended = |(task, token)| Entry::Ended { node: name.clone(), task, token, at: death };
            self.entries.extend(held.into_iter().map(ended));
        }
    }

    /// Waits for the end of a replica that was told to end.
    pub(crate) async fn reap(&mut self, name: &str) {
        if let Some(mut replica) = self.replicas.remove(name) {
            let _ = replica.wait().await;
        }
        self.supervised.remove(name);
    }

    pub(crate) async fn stop_all(&mut self) -> Result<()> {
        for name in self.replicas.keys().cloned().collect::<Vec<_>>() {
            self.signal(&name, Signal::TERM)?;
            self.reap(&name).await;
        }
        while let Ok(Some(entry)) = tokio::time::timeout(Duration::from_millis(200), self.said.recv()).await {
            self.entries.push(entry);
        }
        self.note_deaths();
        Ok(())
    }

    /// Listens for a while.
    pub(crate) async fn let_pass(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some(entry)) = tokio::time::timeout_at(end, self.said.recv()).await {
            self.entries.push(entry);
        }
    }

    /// Listens until a replica starts a handler.
    pub(crate) async fn wait_for_firing(&mut self, name: &str) -> Result<()> {
        loop {
            let entry = self.hear().await?;
            if matches!(&entry, Entry::Started { node, .. } if node == name) {
                return Ok(());
            }
        }
    }

    /// The next thing that is said.
    async fn hear(&mut self) -> Result<Entry> {
        match tokio::time::timeout(Duration::from_secs(30), self.said.recv()).await {
            Ok(Some(entry)) => {
                self.entries.push(entry.clone());
                Ok(entry)
            }
            _ => bail!("nothing was said for 30 s: is the database there?"),
        }
    }

    /// Listens until one replica other than `not` holds every task, as of now.
    pub(crate) async fn wait_for_holder(&mut self, not: Option<&str>) -> Result<String> {
        let since = now_ms();
        loop {
            self.hear().await?;
            let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
            for entry in &self.entries {
                if let Entry::Valid { node, task, at, .. } = entry
                    && *at >= since
                    && Some(node.as_str()) != not
                {
                    holders.insert(task, node);
                }
            }
            if holders.len() == TASKS.len()
                && let Some(holder) = holders.values().next()
            {
                return Ok((*holder).to_owned());
            }
        }
    }

    /// Seconds from `since` until the last of the tasks had its next holder.
    pub(crate) fn taken_over(&self, since: u64) -> f64 {
        let mut first: BTreeMap<(&str, i64), u64> = BTreeMap::new();
        for entry in &self.entries {
            if let Entry::Valid { task, token, at, .. } = entry {
                first.entry((task, *token)).or_insert(*at);
            }
        }
        let last = first.into_values().filter(|at| *at >= since).max().unwrap_or(since);
        Duration::from_millis(last - since).as_secs_f64()
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
