//! Consumers as processes.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::ledger::Ledger;
use super::member::{Consumer, Handled};
use crate::line::now;

/// The consumers of one queue, and all that they said.
pub(super) struct Fleet {
    like: Consumer,
    members: BTreeMap<String, Child>,
    ear: mpsc::UnboundedSender<(String, Handled)>,
    heard: mpsc::UnboundedReceiver<(String, Handled)>,
    pub(super) ledger: Ledger,
    /// Who handled the latest message, under which token, since when and until when.
    pub(super) latest: Option<(String, Handled)>,
}

impl Fleet {
    pub(super) async fn start(like: Consumer, names: &[&str]) -> Result<Self> {
        let (ear, heard) = mpsc::unbounded_channel();
        let mut fleet =
            Self { like, members: BTreeMap::new(), ear, heard, ledger: Ledger::default(), latest: None };
        for name in names {
            fleet.add(name).await?;
        }
        Ok(fleet)
    }

    pub(super) async fn add(&mut self, name: &str) -> Result<()> {
        let consumer = Consumer { name: name.to_owned(), ..self.like.clone() };
        let mut child = Command::new(std::env::current_exe()?)
            .arg("consumer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting a consumer")?;
        // By its input: a URL with a password has no place in an argument list.
        let mut input = child.stdin.take().context("a consumer's input")?;
        input.write_all(format!("{}\n", serde_json::to_string(&consumer)?).as_bytes()).await?;
        let output = child.stdout.take().context("a consumer's output")?;
        let (ear, said_by) = (self.ear.clone(), name.to_owned());
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(handled) = serde_json::from_str(&line) {
                    let _ = ear.send((said_by.clone(), handled));
                }
            }
        });
        self.members.insert(name.to_owned(), child);
        Ok(())
    }

    pub(super) fn signal(&self, name: &str, signal: Signal) -> Result<u64> {
        let child = self.members.get(name).and_then(Child::id).context("a running consumer")?;
        let child = Pid::from_raw(i32::try_from(child)?).context("a process id")?;
        let at = now();
        kill_process(child, signal)?;
        Ok(at)
    }

    pub(super) async fn reap(&mut self, name: &str) -> Result<()> {
        let mut child = self.members.remove(name).context("a consumer")?;
        tokio::time::timeout(super::LIMIT, child.wait()).await.context("the consumer ends")??;
        Ok(())
    }

    pub(super) fn resident(&self, name: &str) -> Result<f64> {
        let child = self.members.get(name).and_then(Child::id).context("a running consumer")?;
        let status = std::fs::read_to_string(format!("/proc/{child}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    pub(super) async fn stop_all(&mut self) -> Result<()> {
        let names: Vec<String> = self.members.keys().cloned().collect();
        for name in &names {
            self.signal(name, Signal::TERM)?;
        }
        for name in &names {
            self.reap(name).await?;
        }
        Ok(())
    }

    /// Listens until it is so.
    pub(super) async fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) -> Result<()> {
        let end = tokio::time::Instant::now() + super::LIMIT;
        while !so(self) {
            match tokio::time::timeout_at(end, self.heard.recv()).await {
                Ok(Some(said)) => self.hear(said),
                _ => bail!("waited {:?} in vain until {what}; the latest is {:?}", super::LIMIT, self.latest),
            }
        }
        Ok(())
    }

    /// Listens for a while.
    pub(super) async fn pause(&mut self, pause: Duration) {
        let end = tokio::time::Instant::now() + pause;
        while let Ok(Some(said)) = tokio::time::timeout_at(end, self.heard.recv()).await {
            self.hear(said);
        }
    }

    fn hear(&mut self, (name, handled): (String, Handled)) {
        self.ledger.note(handled.clone());
        if self.latest.as_ref().is_none_or(|(_, known)| known.token <= handled.token) {
            self.latest = Some((name, handled));
        }
    }

    /// Who consumes.
    pub(super) fn holder(&self) -> Result<(String, i64)> {
        self.latest.as_ref().map(|(name, handled)| (name.clone(), handled.token)).context("nobody consumes")
    }

    /// Waits until a higher token than this handles; since when.
    pub(super) async fn taken_over(&mut self, than: i64) -> Result<u64> {
        self.until("the next holder handles", |fleet| {
            fleet.latest.as_ref().is_some_and(|(_, handled)| handled.token > than)
        })
        .await?;
        Ok(self.latest.as_ref().map_or(0, |(_, handled)| handled.from))
    }
}
