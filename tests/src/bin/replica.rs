//! A replica of the multi-process suites: runs artifacts, writes fenced effects, and says what it does.
#![allow(clippy::print_stdout, reason = "its standard output is how it speaks to the suite")]

use std::io::Write;
use std::time::Duration;

use leasehold::prelude::*;
use leasehold_tests::event::{Event, now_ms};

/// How often a replica looks at its leases and writes an effect.
const TICK: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, name, ttl_ms, work_ms, artifacts, lock_file @ ..] = &arguments[..] else {
        return Err("usage: replica DATABASE NODE TTL_MS WORK_MS ARTIFACT[,ARTIFACT] [LOCK_FILE]".into());
    };
    let work = Duration::from_millis(work_ms.parse()?);
    let ttl = Duration::from_millis(ttl_ms.parse()?);
    let mut node = Node::builder(database.as_str()).cluster("suite").node_id(name).ttl(ttl);
    for artifact in artifacts.split(',') {
        node = node.artifact(Lead::new(artifact, move |lease: Lease| run(lease, work))?);
    }
    if let Some(file) = lock_file.first() {
        node = node.lock_file(file);
    }
    let node = match node.start().await {
        Ok(node) => node,
        Err(error) => {
            say(&Event::Refused { error: error.to_string() });
            return Err(error.into());
        }
    };
    let mut status = node.status();
    tokio::spawn(async move {
        let mut last = None;
        while status.changed().await.is_ok() {
            let session = status.borrow_and_update().session;
            if session != last
                && let Some(session) = session
            {
                say(&Event::Joined { session: session.to_string() });
            }
            last = session;
        }
    });
    if let Some(session) = node.status().borrow().session {
        say(&Event::Joined { session: session.to_string() });
    }
    node.run_until_signal().await;
    Ok(())
}

/// Writes effects until it is asked to end, and goes on with its work under way for `work`.
async fn run(lease: Lease, work: Duration) -> Result<(), ArtifactError> {
    let watching = tokio::spawn(watch(lease.clone()));
    let mut count = 0_u64;
    while !lease.is_revoked() && lease.is_valid() {
        let from = now_ms();
        if lease.save("count", count).await.is_ok() {
            let artifact = lease.artifact().to_string();
            say(&Event::Effect { artifact, token: lease.token().0, from, until: now_ms() });
        }
        count += 1;
        tokio::time::sleep(TICK).await;
    }
    tokio::time::sleep(work).await;
    watching.abort();
    Ok(())
}

async fn watch(lease: Lease) {
    let (artifact, token) = (lease.artifact().to_string(), lease.token().0);
    let _ended = Ended { artifact: artifact.clone(), token };
    while lease.is_valid() {
        let at = now_ms();
        let left = u64::try_from(lease.remaining().as_millis()).unwrap_or(u64::MAX);
        say(&Event::Valid { artifact: artifact.clone(), token, at, until: at + left });
        tokio::time::sleep(TICK).await;
    }
}

struct Ended {
    artifact: String,
    token: i64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        say(&Event::Ended { artifact: self.artifact.clone(), token: self.token, at: now_ms() });
    }
}

/// Nobody listens any more when the suite has ended: then this process ends as well, whatever became of its parent.
fn say(event: &Event) {
    let Ok(line) = serde_json::to_string(event) else { return };
    if writeln!(std::io::stdout().lock(), "{line}").is_err() {
        std::process::exit(1);
    }
}
