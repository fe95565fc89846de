//! A cluster of processes, with a proxy before each, and the recorder beside them.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use leasehold_core::control::Control;
use leasehold_testkit::proxy::{Fault as Net, FaultProxy};
use rustix::process::{Pid, Signal, kill_process};
use sea_orm::{ConnectOptions, DatabaseConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::brokers::Brokers;
use crate::database::Database;
use crate::failpoint::Failpoint;
use crate::node::{CLUSTER, Options};
use crate::plan::{Act, Wall};
use crate::record::{Mood, Record, Telling, Told};
use crate::round::Setting;

/// How long a replica may take to end when it is asked to.
const END: Duration = Duration::from_secs(20);

/// The name of the replica of this number.
pub(crate) fn name(node: usize) -> String {
    format!("node-{node}")
}

pub(crate) struct Cluster<'a> {
    database: &'a Database,
    brokers: &'a Brokers,
    setting: &'a Setting,
    seed: u64,
    children: BTreeMap<usize, Child>,
    frozen: BTreeMap<usize, bool>,
    /// For the next start.
    failpoints: BTreeMap<usize, Failpoint>,
    walls: BTreeMap<usize, Wall>,
    proxies: Vec<FaultProxy>,
    _recorder: Child,
    recorder: String,
    client: reqwest::Client,
    log: PathBuf,
    _folder: TempDir,
    pub(crate) db: DatabaseConnection,
}

impl<'a> Cluster<'a> {
    /// The recorder, and a proxy for each replica; no replica yet.
    pub(crate) async fn new(
        database: &'a Database,
        brokers: &'a Brokers,
        setting: &'a Setting,
        seed: u64,
    ) -> Result<Self> {
        let folder = TempDir::new()?;
        let log = folder.path().join("log");
        let mut child = Command::new(std::env::current_exe()?)
            .arg("recorder")
            .arg(&log)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the recorder")?;
        let output = child.stdout.take().context("the recorder's output")?;
        let address = BufReader::new(output).lines().next_line().await?.context("the recorder's address")?;
        let mut proxies = Vec::new();
        if let Some(server) = database.address() {
            for _ in 0..setting.nodes {
                proxies.push(FaultProxy::start(server).await?);
            }
        }
        let mut connect = ConnectOptions::new(database.url.as_str());
        connect.max_connections(3).sqlx_logging(false);
        Ok(Self {
            database,
            brokers,
            setting,
            seed,
            children: BTreeMap::new(),
            frozen: BTreeMap::new(),
            failpoints: BTreeMap::new(),
            walls: BTreeMap::new(),
            proxies,
            _recorder: child,
            recorder: address,
            client: reqwest::Client::new(),
            log,
            _folder: folder,
            db: sea_orm::Database::connect(connect).await?,
        })
    }

    /// Tells the recorder what the proof itself does.
    pub(crate) async fn tell(&self, told: Vec<Told>) -> Result<()> {
        let telling = Telling { by: "proof".to_owned(), told };
        let sent = self.client.post(format!("http://{}/tell", self.recorder)).json(&telling).send();
        sent.await?.error_for_status()?;
        Ok(())
    }

    /// All that was recorded so far. What is read half-way, at the end, is not recorded yet.
    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let text = std::fs::read_to_string(&self.log)?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    pub(crate) fn start(&mut self, node: usize, newer: bool) -> Result<()> {
        if self.children.contains_key(&node) {
            return Ok(());
        }
        let database = match self.proxies.get(node) {
            Some(proxy) => self.database.url_by(proxy.address()),
            None => self.database.url.clone(),
        };
        let setting = self.setting;
        let options = Options {
            name: name(node),
            database,
            recorder: self.recorder.clone(),
            ttl_ms: setting.ttl_of(node),
            max_ttl_ms: setting.max_ttl(),
            pace: setting.pace_of(node),
            newer,
            rough_ms: setting.rough_ms,
            seed: self.seed.wrapping_add(node as u64),
            consume: self.brokers.consume(node),
            failpoint: self.failpoints.remove(&node),
            wall_ms: self.walls.get(&node).map_or(0, |wall| wall.ahead_ms()),
            broken: setting.broken.clone(),
        };
        let child = Command::new(std::env::current_exe()?)
            .arg("node")
            .arg(serde_json::to_string(&options)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        self.children.insert(node, child);
        Ok(())
    }

    /// The next replica of this node gets it.
    pub(crate) fn arm(&mut self, node: usize, failpoint: Failpoint) {
        self.failpoints.insert(node, failpoint);
    }

    /// The wall clock of this node is wrong from its next start on.
    pub(crate) async fn set_wall(&mut self, node: usize, wall: Wall) -> Result<()> {
        self.walls.insert(node, wall);
        let kind = wall.to_string();
        self.tell(vec![Told::Fault { kind, node: Some(name(node)), artifact: None }]).await
    }

    /// Starts those again that a failpoint has ended, as whoever starts services would.
    fn start_again(&mut self) -> Result<()> {
        let aborted = |child: &mut Child| {
            let ended = child.try_wait().ok().flatten();
            ended.is_some_and(|status| status.signal() == Some(Signal::ABORT.as_raw()))
        };
        let nodes: Vec<_> =
            self.children.iter_mut().filter_map(|(node, child)| aborted(child).then_some(*node)).collect();
        for node in nodes {
            self.children.remove(&node);
            self.start(node, false)?;
        }
        Ok(())
    }

    fn signal(&self, node: usize, signal: Signal) {
        let id = self.children.get(&node).and_then(Child::id);
        if let Some(id) = id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // It may have ended by itself, which its silence will show.
            let _ = kill_process(id, signal);
        }
    }

    pub(crate) async fn act(&mut self, act: &Act) -> Result<()> {
        match act {
            Act::Kill(node) => self.kill(*node).await?,
            Act::Start(node, newer) => self.start(*node, *newer)?,
            Act::Stop(node) => self.stop(*node).await?,
            Act::Freeze(node) => self.freeze(*node).await,
            Act::Thaw(node) => self.thaw(*node),
            Act::Net(node, fault) => self.proxies.get(*node).into_iter().for_each(|proxy| proxy.set(*fault)),
            Act::Hold(node) => self.proxies.get(*node).into_iter().for_each(FaultProxy::hold),
            Act::Release(node) => self.proxies.get(*node).into_iter().for_each(FaultProxy::release),
            Act::Terminate => self.database.terminate_backends(&self.db).await?,
            Act::Endpoint(mood) => self.endpoint(*mood).await?,
            Act::Move(hold, to) => self.move_hold(*hold, *to).await,
            Act::Again => self.start_again()?,
            Act::Copy | Act::Crash | Act::Up => self.server(act)?,
            Act::Broker(artifact, hurt) => {
                let told = self.brokers.hurt(artifact, hurt).await?;
                self.tell(told.into_iter().collect()).await?;
            }
            Act::RollBack => {
                self.server(act)?;
                self.tell(vec![Told::Replaced]).await?;
            }
        }
        Ok(())
    }

    async fn kill(&mut self, node: usize) -> Result<()> {
        self.thaw(node);
        if let Some(mut child) = self.children.remove(&node) {
            child.kill().await?;
        }
        Ok(())
    }

    /// Politely. Others go on while it drains.
    async fn stop(&mut self, node: usize) -> Result<()> {
        self.thaw(node);
        self.signal(node, Signal::TERM);
        let Some(mut child) = self.children.remove(&node) else { return Ok(()) };
        if tokio::time::timeout(END, child.wait()).await.is_err() {
            child.kill().await?;
            bail!("{} did not end within {END:?} of being asked to", name(node));
        }
        Ok(())
    }

    /// Not while it has the write lock of a file: it would stop everybody.
    async fn freeze(&mut self, node: usize) {
        self.signal(node, Signal::STOP);
        while self.proxies.is_empty() && !leasehold_tests::sqlite::writable(&self.database.url).await {
            self.signal(node, Signal::CONT);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.signal(node, Signal::STOP);
        }
        self.frozen.insert(node, true);
    }

    fn thaw(&mut self, node: usize) {
        if self.frozen.remove(&node).is_some() {
            self.signal(node, Signal::CONT);
        }
    }

    async fn endpoint(&self, mood: Mood) -> Result<()> {
        let sent = self.client.post(format!("http://{}/mood", self.recorder)).json(&mood).send();
        sent.await?.error_for_status()?;
        Ok(())
    }

    /// As an operator: refused while that node does not take part.
    async fn move_hold(&self, hold: usize, to: usize) {
        let moved = async {
            let control = Control::open(&self.database.url, CLUSTER).await?;
            let (artifact, node) = (format!("hold-{hold}"), name(to));
            control.move_artifact(&artifact.as_str().try_into()?, &node.as_str().try_into()?).await
        };
        let _ = moved.await;
    }

    fn server(&self, act: &Act) -> Result<()> {
        let server = self.database.server().context("a server of the round's own")?;
        // Blocks: nothing else is to happen meanwhile, and this runtime has other threads for the proxies.
        tokio::task::block_in_place(|| match act {
            Act::Copy => server.copy(),
            Act::Crash => server.crash(),
            Act::RollBack => server.roll_back(),
            _ => server.up(),
        });
        Ok(())
    }

    /// Ends whatever hurts, and starts whoever is missing.
    pub(crate) async fn heal(&mut self) -> Result<()> {
        for proxy in &self.proxies {
            proxy.set(Net::None);
            proxy.release();
        }
        self.brokers.heal().await?;
        self.endpoint(Mood::Well).await?;
        self.start_again()?;
        for node in 0..self.setting.nodes {
            self.thaw(node);
            self.start(node, false)?;
        }
        Ok(())
    }

    /// Replicas that have ended though nobody asked them to.
    pub(crate) fn fallen(&mut self) -> Vec<String> {
        let mut fallen = Vec::new();
        for (node, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                fallen.push(format!("{} ended by itself: {status}", name(*node)));
            }
        }
        fallen
    }

    /// How many connections each replica has by its proxy.
    pub(crate) fn connections(&self) -> Vec<usize> {
        self.proxies.iter().map(FaultProxy::connections).collect()
    }

    /// Stops all politely.
    pub(crate) async fn end(&mut self) -> Result<()> {
        for node in self.children.keys() {
            self.signal(*node, Signal::TERM);
        }
        for node in self.children.keys().copied().collect::<Vec<_>>() {
            self.stop(node).await?;
        }
        Ok(())
    }
}
