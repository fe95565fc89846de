//! A large file by lines.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use leasehold::clock::{BootClock, Clock};
use leasehold::prelude::*;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::{LIMIT, compare, seconds, start};
use crate::figures::{Bound, Report};
use crate::servers::Server;

const MIB: u64 = 1024 * 1024;
/// As many as a block holds: one call of the handler for each block.
const TOGETHER: usize = 1_000_000;
/// With a call for each line less of the file says as much.
const LESS: u64 = 8;

pub(super) async fn measure(server: &Server, mebibytes: u64, report: &mut Report) -> Result<()> {
    let file = Lines::write(mebibytes * MIB)?;
    let all = (mebibytes as f64, "MiB/s");
    let ours = async || file.ours(server, Records::lines_together(TOGETHER), 16).await;
    let peak = Peak::start();
    let name = format!("{mebibytes} MiB by lines, those of a block to a call of the handler");
    compare(report, &name, "bare buffered reader", all, async || file.bare(), ours, Some(0.8)).await?;
    report.add(
        format!("{name}: resident memory, the most"),
        peak.most() as f64 / MIB as f64,
        "MiB",
        Some(Bound::AtMost(64.0)),
    );
    drop(file);
    let less = (mebibytes / LESS).max(1);
    let file = Lines::write(less * MIB)?;
    let ours = async || file.ours(server, Records::lines(), 1000).await;
    let name = format!("{less} MiB by lines, each to a call of the handler");
    compare(
        report,
        &name,
        "bare buffered reader",
        (file.lines as f64, "lines/s"),
        async || file.bare(),
        ours,
        None,
    )
    .await
}

struct Lines {
    folder: TempDir,
    lines: u64,
    bytes: u64,
}

impl Lines {
    fn write(bytes: u64) -> Result<Self> {
        let folder = TempDir::with_prefix("leasehold-bench-lines-")?;
        let mut file = BufWriter::with_capacity(1024 * 1024, File::create(folder.path().join("lines"))?);
        let (mut written, mut lines) = (0, 0_u64);
        while written < bytes {
            // Lines of 40 to 160 bytes.
            let line = format!(
                "{lines:>0$}\n",
                39 + usize::try_from(lines.wrapping_mul(2_654_435_761) >> 7 & 127)?.min(120)
            );
            file.write_all(line.as_bytes())?;
            (written, lines) = (written + line.len() as u64, lines + 1);
        }
        file.flush()?;
        Ok(Self { folder, lines, bytes: written })
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("lines")
    }

    fn bare(&self) -> Result<f64> {
        let begin = BootClock.now();
        let seen = tally(BufReader::with_capacity(256 * 1024, File::open(self.path())?))?;
        let took = seconds(begin);
        ensure!(seen == (self.lines, self.bytes), "{seen:?} was read");
        Ok(took)
    }

    async fn ours(&self, server: &Server, records: Records, batch: usize) -> Result<f64> {
        let (lines, bytes, done) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let (all, ends) = (self.bytes, records == Records::lines());
        let (counted, summed, told) = (Arc::clone(&lines), Arc::clone(&bytes), Arc::clone(&done));
        let handler = move |message: Message, _: Lease| {
            let tallied = tally(message.body().map_or(&[][..], |body| &body[..]));
            let tallied = tallied.map(|(lines, bytes)| {
                // A line of its own has lost its end.
                let (lines, bytes) = if ends { (1, bytes + 1) } else { (lines, bytes) };
                counted.fetch_add(lines, Ordering::Relaxed);
                if summed.fetch_add(bytes, Ordering::Relaxed) + bytes >= all {
                    told.notify_one();
                }
            });
            std::future::ready(tallied.map_err(HandlerError::retry))
        };
        let files = Files::watch("bench", self.folder.path(), "lines")?.complete(Complete::Renamed);
        let files = files.records(records).batch(batch).after(After::Keep);
        let (node, begin) = start(server, &server.cluster("lines"), files.handler(handler)?).await?;
        tokio::time::timeout(LIMIT, done.notified()).await.context("not all lines came")?;
        let took = seconds(begin);
        node.shutdown().await;
        let seen = (lines.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
        ensure!(seen == (self.lines, self.bytes), "{seen:?} came");
        Ok(took)
    }
}

/// What is done with each line: the same in both.
fn tally(mut from: impl BufRead) -> Result<(u64, u64), std::io::Error> {
    let (mut line, mut lines, mut bytes) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        let read = from.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok((lines, bytes));
        }
        (lines, bytes) = (lines + 1, bytes + read as u64);
    }
}

/// Watches the resident memory of this process.
struct Peak {
    most: Arc<AtomicU64>,
    watching: tokio::task::JoinHandle<()>,
}

impl Peak {
    fn start() -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&most);
        let watching = tokio::spawn(async move {
            loop {
                seen.fetch_max(resident(Path::new("/proc/self/status")), Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        Self { most, watching }
    }

    fn most(self) -> u64 {
        self.watching.abort();
        self.most.load(Ordering::Relaxed)
    }
}

fn resident(status: &Path) -> u64 {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}
