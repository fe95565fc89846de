//! A report that is shown once, or again and again in its place.

use std::io::IsTerminal;
use std::time::Duration;

use super::{Report, printable, write};
use crate::failure::Failure;

/// Often enough to see a failover, seldom enough to cost nothing.
const EVERY: Duration = Duration::from_secs(1);

/// Shows what `report` brings; with `watch` each second until Ctrl-C. Then an error is shown in its place, and tried again:
/// a database that fails over is what people watch for.
pub(crate) async fn view(
    watch: bool,
    json: bool,
    report: impl AsyncFn() -> Result<Report, Failure>,
) -> Result<(), Failure> {
    if !watch {
        return report().await?.print(json);
    }
    // The first must be right: a wrong name does not become right.
    let Some(first) = unless_interrupted(report()).await else { return Ok(()) };
    let mut shown = first?;
    let redraws = !json && std::io::stdout().is_terminal();
    if redraws {
        write("\x1b[2J")?;
    }
    loop {
        if redraws {
            // Each line is drawn over, and what was longer is cut: nothing flickers.
            write(&format!("\x1b[H{}\x1b[J", printable(&shown.text).replace('\n', "\x1b[K\n")))?;
        } else {
            shown.print(json)?;
        }
        let next = async {
            tokio::time::sleep(EVERY).await;
            report().await
        };
        let Some(next) = unless_interrupted(next).await else { return Ok(()) };
        shown = next.unwrap_or_else(|failure| Report {
            text: format!("{failure}\n"),
            json: serde_json::json!({ "error": failure.to_string() }),
        });
    }
}

/// None at Ctrl-C, also while a database hangs: what is dropped only reads, and the program ends.
pub(crate) async fn unless_interrupted<T>(doing: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => None,
        done = doing => Some(done),
    }
}
