//! Three replicas, four tasks, one database; and somebody who pulls plugs.
//!
//! `cargo run --example failover` starts three replica processes that share four scheduled tasks through one SQLite
//! file, kills the holder, stops another politely, freezes a third, kills one whose parent knows of it, and each time shows who
//! takes over and how fast.
//! In the end it proves from what the replicas recorded that nothing ran twice and nothing was lost.
//!
//! On a server: `cargo run --example failover --features postgres -- --database postgres://user@host/database`, or with
//! `mysql` in both places for MariaDB and MySQL.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

mod journal;
mod replica;
mod verdict;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use journal::Stage;
use replica::TASKS;

/// Short, so that the show is; the default of a node is 5 s.
const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["replica", name, database] => replica::run(name, database).await,
        ["supervised", name, database] => replica::supervise(name, database).await,
        [] => {
            let folder = std::env::temp_dir().join(format!("leasehold-failover-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let done = show(&format!("sqlite://{}/shared.db?mode=rwc", folder.display())).await;
            std::fs::remove_dir_all(&folder)?;
            done
        }
        ["--database", url] => show(url).await,
        _ => bail!("usage: failover [--database URL]"),
    }
}

async fn show(database: &str) -> Result<()> {
    verdict::prepare(database).await.context("preparing the table of effects")?;
    let mut stage = Stage::new(database);
    println!("Three replicas share {} tasks; ttl {TTL:?}.\n", TASKS.len());
    for name in ["a", "b", "c"] {
        stage.start(name)?;
    }
    let holder = stage.wait_for_holder(None).await?;
    println!("  start     {holder} holds all {} tasks", TASKS.len());
    stage.let_pass(Duration::from_secs(3)).await;

    let victim = holder;
    // In the middle of a firing, which has to be run again.
    stage.wait_for_firing(&victim).await?;
    let at = stage.signal(&victim, Signal::KILL)?;
    let holder = stage.wait_for_holder(Some(&victim)).await?;
    println!("  SIGKILL   {victim} died; {holder} took over {:.2} s later", stage.taken_over(at));
    stage.reap(&victim).await;
    stage.start(&victim)?;
    stage.let_pass(Duration::from_secs(3)).await;

    let victim = holder;
    let at = stage.signal(&victim, Signal::TERM)?;
    let holder = stage.wait_for_holder(Some(&victim)).await?;
    println!("  SIGTERM   {victim} left politely; {holder} took over {:.2} s later", stage.taken_over(at));
    stage.reap(&victim).await;
    stage.start(&victim)?;
    stage.let_pass(Duration::from_secs(3)).await;

    let victim = holder;
    let mut at = stage.signal(&victim, Signal::STOP)?;
    // On SQLite a replica that is frozen in the middle of a commit keeps the file locked, and everybody waits for it.
    // That is safe and no failover to look at: this one is frozen a moment later.
    while !verdict::writable(database).await? {
        stage.signal(&victim, Signal::CONT)?;
        stage.let_pass(Duration::from_millis(30)).await;
        at = stage.signal(&victim, Signal::STOP)?;
    }
    let holder = stage.wait_for_holder(Some(&victim)).await?;
    println!("  SIGSTOP   {victim} froze; {holder} took over {:.2} s later", stage.taken_over(at));
    stage.let_pass(TTL).await;
    stage.signal(&victim, Signal::CONT)?;
    println!("  SIGCONT   {victim} woke up, and stands by");
    stage.let_pass(TTL * 2).await;

    // The same crash once more, of a replica whose parent knows of it.
    for name in ["a", "b", "c"] {
        stage.signal(name, Signal::TERM)?;
        stage.reap(name).await;
        stage.start_supervised(name).await?;
    }
    let victim = stage.wait_for_holder(None).await?;
    stage.let_pass(Duration::from_secs(2)).await;
    stage.wait_for_firing(&victim).await?;
    let at = stage.signal(&victim, Signal::KILL)?;
    let holder = stage.wait_for_holder(Some(&victim)).await?;
    println!("  SIGKILL   {victim} died, supervised; {holder} took over {:.2} s later", stage.taken_over(at));
    stage.reap(&victim).await;
    stage.let_pass(Duration::from_secs(2)).await;

    stage.stop_all().await?;
    println!("\nWhat the replicas recorded:");
    let sound = verdict::judge(database, stage.entries()).await?;
    if !sound {
        bail!("a promise was broken");
    }
    println!("\nEvery slot took effect once, nothing was lost, and no two valid leases overlapped.");
    Ok(())
}

/// Sends a signal to a process that this program started.
fn signal(process: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(process)?).context("a process id")?;
    kill_process(pid, signal).context("signalling a replica")
}
