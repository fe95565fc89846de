//! Replicas as processes: started, killed, stopped, and listened to.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::line::{Line, now};
use crate::replica::Role;

/// One process.
#[derive(Debug)]
pub(crate) struct Member {
    child: Child,
    /// Tells what it says from what an earlier process of its name said.
    life: usize,
    pub(crate) sessions: Vec<String>,
    pub(crate) leads: bool,
    /// How many runs it has entered, as far as it says.
    pub(crate) total: usize,
}

/// Who runs an artifact.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) by: String,
    pub(crate) token: i64,
    pub(crate) at: u64,
}

/// The replicas of one cluster.
#[derive(Debug)]
pub(crate) struct Fleet {
    role: Role,
    lives: usize,
    members: BTreeMap<String, Member>,
    outbox: mpsc::UnboundedSender<(String, usize, Line)>,
    inbox: mpsc::UnboundedReceiver<(String, usize, Line)>,
    held: BTreeMap<String, Held>,
    /// When all that one member holds was running.
    pub(crate) complete: u64,
    /// What runs said when they were asked to end and when they returned, by artifact and token.
    pub(crate) revoked: BTreeMap<(String, i64), u64>,
    pub(crate) ended: BTreeMap<(String, i64), (u64, bool)>,
    /// Runs that began before the one before was killed.
    pub(crate) early: usize,
    /// Parents of what was killed, which have something to do still.
    bereaved: Vec<Child>,
}

/// The child of a parent that is killed goes on: that is what supervision promises.
impl Drop for Fleet {
    fn drop(&mut self) {
        for name in self.members.keys().filter(|_| self.role.supervised) {
            if let Ok(service) = self.service(name) {
                // It may have ended this moment.
                let _ = kill_process(service, Signal::KILL);
            }
        }
    }
}

impl Fleet {
    pub(crate) fn new(role: Role) -> Self {
        let (outbox, inbox) = mpsc::unbounded_channel();
        Self {
            role,
            lives: 0,
            members: BTreeMap::new(),
            outbox,
            inbox,
            held: BTreeMap::new(),
            complete: 0,
            revoked: BTreeMap::new(),
            ended: BTreeMap::new(),
            early: 0,
            bereaved: Vec::new(),
        }
    }

    pub(crate) async fn start(&mut self, name: &str) -> Result<()> {
        let role = Role { name: name.to_owned(), ..self.role.clone() };
        self.start_as(&role).await
    }

    /// Starts a replica that differs from the others.
    pub(crate) async fn start_as(&mut self, role: &Role) -> Result<()> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(if role.supervised { "replica-of-a-parent" } else { "replica" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a replica")?;
        let mut input = child.stdin.take().context("a replica's input")?;
        input.write_all(format!("{}\n", serde_json::to_string(role)?).as_bytes()).await?;
        let output = child.stdout.take().context("a replica's output")?;
        self.lives += 1;
        let (life, name, outbox) = (self.lives, role.name.clone(), self.outbox.clone());
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(line) = serde_json::from_str(&line) {
                    let _ = outbox.send((name.clone(), life, line));
                }
            }
        });
        let member = Member { child, life, sessions: Vec::new(), leads: false, total: 0 };
        self.members.insert(role.name.clone(), member);
        Ok(())
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    pub(crate) fn leader(&self) -> Option<&str> {
        self.members().find(|(_, member)| member.leads).map(|(name, _)| name.as_str())
    }

    pub(crate) fn holder(&self, artifact: &str) -> Option<&Held> {
        self.held.get(artifact)
    }

    /// What a member holds.
    pub(crate) fn holdings(&self, name: &str) -> Vec<(String, Held)> {
        let its = self.held.iter().filter(|(_, held)| held.by == name);
        its.map(|(artifact, held)| (artifact.clone(), held.clone())).collect()
    }

    /// Everybody has joined, one leads, and everything runs somewhere that lives.
    pub(crate) fn settled(&self) -> bool {
        let joined = self.members().all(|(_, member)| !member.sessions.is_empty());
        let leaders = self.members().filter(|(_, member)| member.leads).count();
        let running = self.held.values().filter(|held| self.members.contains_key(&held.by)).count();
        joined && leaders == 1 && running == self.role.artifacts
    }

    /// The resident memory of a member's process, in MiB.
    pub(crate) fn resident(&self, name: &str) -> Result<f64> {
        let member = self.members.get(name).with_context(|| format!("no replica {name}"))?;
        let id = member.child.id().context("the replica has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// Kills replicas at once, and says when: right before the first of the signals.
    pub(crate) fn kill(&mut self, names: &[String]) -> Result<u64> {
        let victims: Vec<_> = names.iter().map(|name| self.service(name)).collect::<Result<_>>()?;
        let at = now();
        for victim in victims {
            kill_process(victim, Signal::KILL).context("killing a replica")?;
        }
        self.bereaved.retain_mut(|parent| !matches!(parent.try_wait(), Ok(Some(_))));
        for name in names {
            self.bereaved.extend(self.members.remove(name).map(|member| member.child));
        }
        Ok(at)
    }

    /// Asks a replica to stop.
    pub(crate) fn terminate(&self, name: &str) -> Result<()> {
        self.signal(name, Signal::TERM)
    }

    fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        kill_process(self.process(name)?, signal).context("signalling a replica")
    }

    fn process(&self, name: &str) -> Result<Pid> {
        let member = self.members.get(name).with_context(|| format!("no replica {name}"))?;
        let id = i32::try_from(member.child.id().context("the replica has ended")?)?;
        Pid::from_raw(id).context("a process id")
    }

    /// The process in which the node is: of a replica with a parent that one's child.
    fn service(&self, name: &str) -> Result<Pid> {
        let process = self.process(name)?;
        if !self.role.supervised {
            return Ok(process);
        }
        let id = process.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let child = children.split_whitespace().next().context("the parent has no child")?;
        Pid::from_raw(child.parse()?).context("a process id")
    }

    /// Waits for a replica that was asked to stop.
    pub(crate) async fn reap(&mut self, name: &str) -> Result<()> {
        let Some(member) = self.members.get_mut(name) else { return Ok(()) };
        let status = tokio::time::timeout(Duration::from_secs(60), member.child.wait()).await;
        let status = status.with_context(|| format!("{name} does not stop"))??;
        self.pause(Duration::ZERO).await;
        self.members.remove(name);
        // One that was told before it listened for signals ends by this one.
        if !status.success() && status.signal() != Some(Signal::TERM.as_raw()) {
            bail!("{name} ended with {status}");
        }
        Ok(())
    }

    pub(crate) async fn stop_all(&mut self) -> Result<()> {
        let names: Vec<_> = self.members.keys().cloned().collect();
        for name in &names {
            self.terminate(name)?;
        }
        for name in &names {
            self.reap(name).await?;
        }
        Ok(())
    }

    /// Listens until it is so.
    pub(crate) async fn until(
        &mut self,
        limit: Duration,
        what: &str,
        so: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let end = tokio::time::Instant::now() + limit;
        while !so(self) {
            match tokio::time::timeout_at(end, self.inbox.recv()).await {
                Ok(Some(said)) => self.hear(said),
                _ => bail!("waited {limit:?} in vain until {what}; held: {:?}", self.held),
            }
        }
        Ok(())
    }

    /// Listens for a while.
    pub(crate) async fn pause(&mut self, pause: Duration) {
        let end = tokio::time::Instant::now() + pause;
        while let Ok(Some(said)) = tokio::time::timeout_at(end, self.inbox.recv()).await {
            self.hear(said);
        }
    }

    fn hear(&mut self, (name, life, line): (String, usize, Line)) {
        // The last words of a killed process do not count.
        let Some(member) = self.members.get_mut(&name).filter(|member| member.life == life) else { return };
        match line {
            Line::Session { id } => member.sessions.push(id),
            Line::Leads { leads } => member.leads = leads,
            Line::Total { runs, at } => (member.total, self.complete) = (runs, at),
            Line::Run { artifact, token, at } => {
                if self.held.get(&artifact).is_none_or(|held| held.token < token) {
                    self.held.insert(artifact, Held { by: name, token, at });
                }
            }
            Line::Revoked { artifact, token, at } => _ = self.revoked.insert((artifact, token), at),
            Line::Ended { artifact, token, at, valid } => {
                self.ended.insert((artifact, token), (at, valid));
            }
        }
    }
}
