//! Replicas as child processes, and all that they say.

use std::collections::BTreeMap;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::event::{Event, now_ms};
use crate::judge;

/// How long anything may take before a suite gives up. Not a bound of the protocol: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replicas and what they have said, in the order in which it was heard.
#[derive(Debug)]
pub struct Replicas {
    program: &'static str,
    /// What starts it, if it has a parent of its own.
    supervisor: Vec<String>,
    /// Further arguments.
    more: Vec<String>,
    ttl: Duration,
    children: BTreeMap<String, Child>,
    deaths: Vec<(String, u64)>,
    said: Vec<(String, Event)>,
    heard: mpsc::UnboundedReceiver<(String, Event)>,
    ear: mpsc::UnboundedSender<(String, Event)>,
}

/// The child of a parent that is killed goes on: that is what supervision promises.
impl Drop for Replicas {
    fn drop(&mut self) {
        if !self.supervisor.is_empty() {
            for child in self.children.values().filter_map(supervised) {
                // It may have ended this moment.
                let _ = kill_process(child, Signal::KILL);
            }
        }
    }
}

/// The process that a parent has started.
fn supervised(parent: &Child) -> Option<Pid> {
    let parent = parent.id()?;
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

impl Replicas {
    /// None yet. `program` is the replica's, as cargo built it.
    pub fn new(program: &'static str, ttl: Duration) -> Self {
        let (ear, heard) = mpsc::unbounded_channel();
        let (supervisor, more) = (Vec::new(), Vec::new());
        let (children, deaths, said) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { program, supervisor, more, ttl, children, deaths, said, heard, ear }
    }

    /// The same, each with a parent of its own: the first of these arguments, which is given the others and the program.
    #[must_use]
    pub fn under(mut self, supervisor: &[&str]) -> Self {
        self.supervisor = supervisor.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// Replicas that are started from now on have this lock file.
    pub fn lock_by(&mut self, file: &std::path::Path) {
        self.more = vec![file.display().to_string()];
    }

    /// Starts a replica of the artifacts `import` and `invoices`, whose runs work on for `work` after they were asked
    /// to end.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&mut self, name: &str, database: &str, work: Duration) -> io::Result<()> {
        self.start_as(name, name, database, work)
    }

    /// The same, under a node id that differs from the name that the suite uses.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_as(&mut self, name: &str, node: &str, database: &str, work: Duration) -> io::Result<()> {
        let (ttl, work) = (self.ttl.as_millis().to_string(), work.as_millis().to_string());
        let mut words = self.supervisor.iter().map(String::as_str).chain([self.program]);
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .args([database, node, &ttl, &work, "import,invoices"])
            .args(&self.more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(output) = child.stdout.take() {
            let (ear, name) = (self.ear.clone(), name.to_owned());
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    // A replica that is killed in the middle of a line has not said it.
                    if let Ok(event) = serde_json::from_str(&line) {
                        let _ = ear.send((name.clone(), event));
                    }
                }
            });
        }
        self.children.insert(name.to_owned(), child);
        Ok(())
    }

    /// Sends a signal; when that was.
    ///
    /// # Panics
    /// When there is no such replica.
    #[allow(clippy::expect_used, reason = "a harness")]
    pub fn signal(&self, name: &str, signal: Signal) -> u64 {
        let child = self.children.get(name).and_then(Child::id).expect("a running replica");
        let child = i32::try_from(child).ok().and_then(Pid::from_raw).expect("a process id");
        let at = now_ms();
        kill_process(child, signal).expect("the signal is sent");
        at
    }

    /// Kills the process that a replica's parent started, and notes that what it held has ended by that; when that was.
    ///
    /// # Panics
    /// When there is no such process.
    #[allow(clippy::expect_used, reason = "a harness")]
    pub fn kill_supervised(&mut self, name: &str) -> u64 {
        let child = self.children.get(name).and_then(supervised);
        kill_process(child.expect("a running parent of a child"), Signal::KILL).expect("the signal is sent");
        let at = now_ms();
        self.deaths.push((name.to_owned(), at));
        at
    }

    /// The dead trust nothing: their leases do not count until what they were promised. What they said last may be heard
    /// after their death.
    fn note_deaths(&mut self) {
        for (name, death) in std::mem::take(&mut self.deaths) {
            let held = self.said.iter().filter_map(|(of, event)| match event {
                Event::Valid { artifact, token, at, .. } if *of == name && *at <= death => {
                    Some((artifact.clone(), *token))
                }
                _ => None,
            });
            let ended = |(artifact, token)| (name.clone(), Event::Ended { artifact, token, at: death });
            let ended: Vec<_> = held.map(ended).collect();
            self.said.extend(ended);
        }
    }

    /// How many sockets a replica has open.
    ///
    /// # Panics
    /// When there is no such replica.
    #[allow(clippy::expect_used, reason = "a harness")]
    pub fn sockets(&self, name: &str) -> usize {
        let child = self.children.get(name).and_then(Child::id).expect("a running replica");
        let files = std::fs::read_dir(format!("/proc/{child}/fd")).expect("its open files");
        let socket = |target: std::path::PathBuf| target.to_string_lossy().starts_with("socket:");
        files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .filter(|target| socket(target.clone()))
            .count()
    }

    /// Listens until the artifact `import` is held with a token above `than`; that token.
    ///
    /// # Panics
    /// When nobody says so.
    pub async fn token_above(&mut self, than: i64) -> i64 {
        let higher = |_: &str, event: &Event| matches!(event, Event::Valid { artifact, token, .. } if artifact == "import" && *token > than);
        match self.hear("a higher token", higher).await.1 {
            Event::Valid { token, .. } => token,
            _ => than,
        }
    }

    /// Waits for the end of a replica.
    ///
    /// # Panics
    /// When there is no such replica or it does not end.
    #[allow(clippy::expect_used, reason = "a harness")]
    pub async fn reap(&mut self, name: &str) -> ExitStatus {
        let mut child = self.children.remove(name).expect("a replica");
        tokio::time::timeout(PATIENCE, child.wait()).await.expect("the replica ends").expect("an exit status")
    }

    /// Listens until a replica says something that `wanted` accepts; who said it, and what.
    ///
    /// # Panics
    /// When nobody says it.
    #[allow(clippy::panic, reason = "a harness")]
    pub async fn hear(&mut self, what: &str, wanted: impl Fn(&str, &Event) -> bool) -> (String, Event) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while let Ok(Some((name, event))) = tokio::time::timeout_at(end, self.heard.recv()).await {
            self.said.push((name.clone(), event.clone()));
            if wanted(&name, &event) {
                return (name, event);
            }
        }
        panic!(
            "{what}: not heard within {PATIENCE:?}; last heard: {:#?}",
            self.said.iter().rev().take(20).collect::<Vec<_>>()
        )
    }

    /// Listens until some replica other than `not` holds both artifacts, as of now.
    pub async fn holder(&mut self, not: &str) -> String {
        let since = now_ms();
        let holds = |artifact: &'static str| {
            move |name: &str, event: &Event| {
                name != not
                    && matches!(event, Event::Valid { artifact: of, at, .. } if of == artifact && *at > since)
            }
        };
        self.hear("a holder of invoices", holds("invoices")).await;
        self.hear("a holder of import", holds("import")).await.0
    }

    /// Listens for `time`.
    pub async fn listen(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some(heard)) = tokio::time::timeout_at(end, self.heard.recv()).await {
            self.said.push(heard);
        }
    }

    /// Stops all replicas politely, and judges what they said.
    ///
    /// # Panics
    /// When a promise was broken.
    pub async fn finish(mut self) {
        for name in self.children.keys().cloned().collect::<Vec<_>>() {
            self.signal(&name, Signal::TERM);
            self.reap(&name).await;
        }
        self.listen(Duration::from_millis(100)).await;
        self.note_deaths();
        let violations = judge::violations(&self.said);
        assert!(violations.is_empty(), "{violations:#?}");
        let effects = self.said.iter().filter(|(_, event)| matches!(event, Event::Effect { .. })).count();
        assert!(effects > 0, "no effect was seen: the judge had nothing to judge");
    }

    /// All that was said so far.
    pub fn said(&self) -> &[(String, Event)] {
        &self.said
    }
}
