//! The program by which a broker is stopped and started.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// That of one broker, if there is one.
pub(super) struct Control {
    program: Option<PathBuf>,
    /// The last order, which has waited for the one before it.
    last: Mutex<Option<JoinHandle<Result<()>>>>,
}

impl Control {
    pub(super) fn new(program: Option<&Path>) -> Self {
        Self { program: program.map(Path::to_owned), last: Mutex::default() }
    }

    pub(super) fn is_there(&self) -> bool {
        self.program.is_some()
    }

    /// Beside: it takes seconds, and what else is to happen meanwhile happens.
    pub(super) async fn order(&self, order: &'static str) {
        let Some(program) = self.program.clone() else { return };
        let mut last = self.last.lock().await;
        let before = last.take();
        *last = Some(tokio::spawn(async move {
            if let Some(before) = before {
                before.await??;
            }
            run(&program, order).await
        }));
    }

    /// Waits until all that was ordered is done.
    pub(super) async fn done(&self) -> Result<()> {
        match self.last.lock().await.take() {
            Some(last) => last.await?,
            None => Ok(()),
        }
    }
}

async fn run(program: &Path, order: &str) -> Result<()> {
    let done = tokio::process::Command::new(program).arg(order).output().await;
    let done = done.with_context(|| program.display().to_string())?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{} {order}: {said}", program.display());
    Ok(())
}
