//! Many small files: list, read, rename.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use leasehold::clock::{BootClock, Clock};
use leasehold::prelude::*;
use tempfile::TempDir;

use super::{Given, compare, seconds, start};
use crate::figures::Report;
use crate::servers::Server;

const SIZE: usize = 200;

pub(super) async fn measure(server: &Server, many: u32, report: &mut Report) -> Result<()> {
    let all = (f64::from(many), "/s");
    let name = format!("{many} files of {SIZE} bytes");
    let bare = async || bare(many);
    compare(
        report,
        &name,
        "bare list, read and rename",
        all,
        bare,
        async || ours(server, many).await,
        Some(0.7),
    )
    .await
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

async fn ours(server: &Server, many: u32) -> Result<f64> {
    let folder = fill(many)?;
    let given = Given::of(many);
    let counted = Arc::clone(&given);
    let handler = move |message: Message, _: Lease| {
        counted.add(&message);
        std::future::ready(Ok(()))
    };
    let files = Files::watch("bench", folder.path(), "*")?.complete(Complete::Renamed);
    let (node, begin) = start(server, &server.cluster("files"), files.handler(handler)?).await?;
    let bytes = given.all().await?;
    while !is_empty(folder.path())? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = seconds(begin);
    node.shutdown().await;
    ensure!(bytes == u64::from(many) * SIZE as u64, "{bytes} bytes were read");
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
