//! What the examples `rabbitmq-consumer` and `kafka-consumer` have in common: three replicas as processes, somebody who
//! publishes and pulls a plug, and the verdict. How a replica consumes is in the examples themselves.
#![allow(clippy::print_stdout, reason = "programs that talk to people")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Short, so that the show is; the default of a node is 5 s.
pub const TTL: Duration = Duration::from_secs(2);
/// How many keys there are: customers, say.
const KEYS: u32 = 10;
const EVERY: Duration = Duration::from_millis(10);

/// What a replica says of a message that it has handled.
pub fn say(name: &str, body: &str) {
    println!("{name} {body}");
}

/// A message that was handled: by whom, its key, and its number within the key.
type Handled = (String, u32, u64);

/// Starts three replicas of this program, publishes by `publish(key, body)`, kills the one that consumes, and judges.
///
/// # Errors
/// When a message was lost, or handled before an earlier one of its key.
pub async fn show(
    environment: &[(&str, &str)],
    arguments: &[&str],
    publish: impl AsyncFn(String, String) -> Result<()>,
) -> Result<()> {
    let (ear, mut heard) = mpsc::unbounded_channel();
    let mut replicas = BTreeMap::new();
    for name in ["a", "b", "c"] {
        replicas.insert(name.to_owned(), replica(name, environment, arguments, ear.clone())?);
    }
    let mut stage = Stage { published: BTreeMap::new(), handled: Vec::new() };

    stage.play(&publish, &mut heard, |handled| !handled.is_empty()).await?;
    let victim = stage.handled[0].0.clone();
    println!("  start     {victim} consumes; the others stand by");
    let before = stage.handled.len();
    stage.play(&publish, &mut heard, |handled| handled.len() >= before + 200).await?;

    let mut killed = replicas.remove(&victim).context("the victim")?;
    let at = Instant::now();
    signal(&killed, Signal::KILL)?;
    killed.wait().await?;
    stage.play(&publish, &mut heard, |handled| handled.last().is_some_and(|(by, ..)| *by != victim)).await?;
    let holder = stage.handled.last().map(|(by, ..)| by.clone()).unwrap_or_default();
    println!("  SIGKILL   {victim} died; {holder} took over {:.2} s later", at.elapsed().as_secs_f64());
    let before = stage.handled.len();
    stage.play(&publish, &mut heard, |handled| handled.len() >= before + 200).await?;

    let at = Instant::now();
    signal(replicas.get(&holder).context("the holder")?, Signal::TERM)?;
    stage.play(&publish, &mut heard, |handled| handled.last().is_some_and(|(by, ..)| *by != holder)).await?;
    let next = stage.handled.last().map(|(by, ..)| by.clone()).unwrap_or_default();
    println!(
        "  SIGTERM   {holder} left politely; {next} took over {:.2} s later",
        at.elapsed().as_secs_f64()
    );

    stage.rest(&mut heard).await?;
    for child in replicas.values() {
        // One has left already.
        let _ = signal(child, Signal::TERM);
    }
    for child in replicas.values_mut() {
        child.wait().await?;
    }
    stage.judge()
}

fn replica(
    name: &str,
    environment: &[(&str, &str)],
    arguments: &[&str],
    ear: mpsc::UnboundedSender<Handled>,
) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["replica", name])
        .args(arguments)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting a replica")?;
    let output = child.stdout.take().context("a replica's output")?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut words = line.split(' ');
            if let (Some(by), Some(Ok(key)), Some(Ok(number))) =
                (words.next(), words.next().map(str::parse), words.next().map(str::parse))
            {
                let _ = ear.send((by.to_owned(), key, number));
            }
        }
    });
    Ok(child)
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let id = i32::try_from(child.id().context("a running replica")?)?;
    Ok(kill_process(Pid::from_raw(id).context("a process id")?, signal)?)
}

struct Stage {
    /// The next number of each key.
    published: BTreeMap<u32, u64>,
    handled: Vec<Handled>,
}

impl Stage {
    /// Publishes until it is so.
    async fn play(
        &mut self,
        publish: impl AsyncFn(String, String) -> Result<()>,
        heard: &mut mpsc::UnboundedReceiver<Handled>,
        so: impl Fn(&[Handled]) -> bool,
    ) -> Result<()> {
        let (began, mut ticks) = (Instant::now(), tokio::time::interval(EVERY));
        while !so(&self.handled) {
            ensure!(began.elapsed() < Duration::from_secs(60), "nobody consumes");
            tokio::select! {
                Some(handled) = heard.recv() => self.handled.push(handled),
                _ = ticks.tick() => {
                    let count: u64 = self.published.values().sum();
                    let key = u32::try_from(count % u64::from(KEYS))?;
                    let number = self.published.entry(key).or_default();
                    publish(format!("customer-{key}"), format!("{key} {number}")).await?;
                    *number += 1;
                }
            }
        }
        Ok(())
    }

    /// Waits until all that was published is handled.
    async fn rest(&mut self, heard: &mut mpsc::UnboundedReceiver<Handled>) -> Result<()> {
        let all = usize::try_from(self.published.values().sum::<u64>())?;
        let different =
            |handled: &[Handled]| handled.iter().map(|(_, key, n)| (*key, *n)).collect::<BTreeSet<_>>().len();
        while different(&self.handled) < all {
            let next = tokio::time::timeout(Duration::from_secs(30), heard.recv()).await;
            let Ok(Some(handled)) = next else {
                bail!("{} of {all} messages were handled", different(&self.handled))
            };
            self.handled.push(handled);
        }
        Ok(())
    }

    fn judge(&self) -> Result<()> {
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        let mut again = 0;
        for (by, key, number) in &self.handled {
            let expected = next.entry(*key).or_default();
            ensure!(number <= expected, "{by} handled {number} of key {key} before {expected}");
            again += u32::from(number < expected);
            *expected = (*expected).max(number + 1);
        }
        ensure!(next == self.published, "messages were lost: {next:?} of {:?}", self.published);
        let count: u64 = self.published.values().sum();
        println!("\n{count} messages: none lost, in order per key, {again} handled again after the kill.");
        Ok(())
    }
}
