//! Many small files: list, read, rename.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use leasehold::clock::{BootClock, Clock};
use leasehold::prelude::*;
use tempfile::TempDir;

use super::{compare, seconds, start};
use crate::figures::Report;
use crate::servers::Server;
use crate::sink::Count;

const SIZE: usize = 200;

pub(super) async fn measure(server: &Server, many: u32, report: &mut Report) -> Result<()> {
    let name = format!("{many} files of {SIZE} bytes");
    let all = (f64::from(many), "/s");
    for (order, called) in [(Order::Unordered(16), "unordered"), (Order::Ordered, "in order")] {
        let ours = async || ours(server, many, order).await;
        compare(
            report,
            &format!("{name}, {called}"),
            "bare list, read and rename",
            all,
            async || bare(many),
            ours,
            Some(0.7),
        )
        .await?;
    }
    Ok(())
}

fn fill(many: u32) -> Result<TempDir> {
    let folder = TempDir::with_prefix("leasehold-bench-files-")?;
    let content = "x".repeat(SIZE);
    for n in 0..many {
        std::fs::write(folder.path().join(format!("{n:08}")), &content)?;
    }
    Ok(folder)
}

fn bare(many: u32) -> Result<f64> {
    let folder = fill(many)?;
    let begin = BootClock.now();
    let done = folder.path().join("done");
    std::fs::create_dir(&done)?;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder.path())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            bytes += std::fs::read(entry.path())?.len();
            std::fs::rename(entry.path(), done.join(entry.file_name()))?;
        }
    }
    let took = seconds(begin);
    ensure!(bytes == many as usize * SIZE, "{bytes} bytes were read");
    Ok(took)
}

async fn ours(server: &Server, many: u32, order: Order) -> Result<f64> {
    let folder = fill(many)?;
    let (count, bytes) = (Count::default(), Arc::new(AtomicU64::new(0)));
    let (counted, sum) = (count.clone(), Arc::clone(&bytes));
    let handler = move |message: Message, _: Lease| {
        sum.fetch_add(message.body().map_or(0, |body| body.len() as u64), Ordering::Relaxed);
        counted.add();
        std::future::ready(Ok(()))
    };
    let files = Files::watch("bench", folder.path(), "*")?.complete(Complete::Renamed).order(order);
    let (node, begin) = start(server, &server.cluster("files"), files.handler(handler)?).await?;
    count.reaches(many as usize).await;
    while !is_empty(folder.path())? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = seconds(begin);
    node.shutdown().await;
    ensure!(bytes.load(Ordering::Relaxed) == u64::from(many) * SIZE as u64, "not all was read");
    Ok(took)
}

/// But for the folder of what is done.
fn is_empty(folder: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(folder)?.take(2) {
        if entry?.file_type()?.is_file() {
            return Ok(false);
        }
    }
    Ok(true)
}
