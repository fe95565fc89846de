//! A report that is shown once, or again and again in its place.

use std::io::IsTerminal;
use std::time::Duration;

use rustix::termios::tcgetwinsize;

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
    let screen = if json { None } else { Screen::take()? };
    loop {
        if let Some(screen) = &screen {
            screen.draw(&shown.text)?;
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

/// A terminal, on which one view is drawn over the other.
struct Screen;

impl Screen {
    /// None where nobody looks at a terminal.
    fn take() -> Result<Option<Self>, Failure> {
        if !std::io::stdout().is_terminal() {
            return Ok(None);
        }
        write("\x1b[2J")?;
        Ok(Some(Self))
    }

    fn draw(&self, text: &str) -> Result<(), Failure> {
        let rows = tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
        let text = fitted(&printable(text), rows);
        // Each line is drawn over, and what was longer is erased: nothing flickers. Lines that are too long are cut: wrapped, they
        // would push the first ones out.
        write(&format!("\x1b[?7l\x1b[H{}\x1b[K\x1b[J\x1b[?7h", text.replace('\n', "\x1b[K\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = write("\n");
    }
}

/// What fits on so many rows, and how much does not; of a terminal that does not tell how many it has, all.
fn fitted(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    if rows < 2 || lines.len() <= rows {
        return lines.join("\n");
    }
    let (shown, rest) = lines.split_at(rows - 1);
    // A colour may have begun before the cut.
    let reset = if text.contains('\x1b') { "\x1b[0m" } else { "" };
    format!("{}{reset}\n… and {} more lines", shown.join("\n"), rest.len())
}

/// None at Ctrl-C, also while a database hangs: what is dropped only reads, and the program ends.
pub(crate) async fn unless_interrupted<T>(doing: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => None,
        done = doing => Some(done),
    }
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn what_does_not_fit_is_counted() {
        assert_eq!(fitted("a\nb\nc\n", 3), "a\nb\nc");
        assert_eq!(fitted("a\nb\nc\nd\n", 3), "a\nb\n… and 2 more lines");
        assert_eq!(fitted("a\nb\n", 0), "a\nb");
    }
}
