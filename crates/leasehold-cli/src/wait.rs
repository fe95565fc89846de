//! Waits until what was asked for is done, with a line that says why it is not.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::arguments::Awaited;
use crate::failure::Failure;
use crate::output::one_line;

/// A fifth of the least that a person notices as waiting.
const LOOK: Duration = Duration::from_millis(200);
/// How often somebody who reads a log is told.
const SAY: Duration = Duration::from_secs(5);

/// What a look at the cluster found.
pub(crate) enum Progress {
    Done,
    /// Not yet; why.
    Waiting(String),
}

/// Looks until it is done, if that was asked for.
pub(crate) async fn until(
    awaited: Awaited,
    what: &str,
    look: impl AsyncFn() -> Result<Progress, Failure>,
) -> Result<(), Failure> {
    if !awaited.wait {
        return Ok(());
    }
    let mut line = Line::default();
    let started = tokio::time::Instant::now();
    loop {
        // Looks only read, and the program ends after this: what is asked of a database that is silent is left.
        let left = awaited.timeout.saturating_sub(started.elapsed());
        let looked = tokio::time::timeout(left.max(LOOK), look()).await;
        let silent = || Err(Failure::failed("the database does not answer".to_owned()));
        let found = match looked.unwrap_or_else(|_| silent()) {
            // The database may be failing over while somebody moves things away.
            Err(failure) if failure.kind() == crate::failure::Kind::Failed => {
                Progress::Waiting(failure.to_string())
            }
            found => found?,
        };
        let why = match found {
            Progress::Done => return line.end(),
            Progress::Waiting(why) => why,
        };
        if started.elapsed() >= awaited.timeout {
            line.end()?;
            return Err(Failure::timed_out(format!(
                "{what} is asked for, and was not done within {}: {why}; it goes on by itself",
                leasehold_core::duration::format(awaited.timeout)
            )));
        }
        line.show(started.elapsed(), &format!("waiting: {why}"));
        tokio::time::sleep(LOOK).await;
    }
}

/// The line that says how far it is: drawn in place on a terminal, now and then elsewhere.
#[derive(Default)]
struct Line {
    said: Option<(Duration, String)>,
}

impl Line {
    fn show(&mut self, at: Duration, text: &str) {
        // It may quote what the database holds.
        let text = &one_line(text);
        let mut error = std::io::stderr();
        let terminal = error.is_terminal();
        let news = self.said.as_ref().is_none_or(|(when, said)| said != text || at >= *when + SAY);
        if terminal {
            let _ = write!(error, "\r{text} ({:.0} s)\x1b[K", at.as_secs_f64()).and_then(|()| error.flush());
        } else if news {
            let _ = writeln!(error, "{text}");
        }
        if news {
            self.said = Some((at, text.to_owned()));
        }
    }

    fn end(&self) -> Result<(), Failure> {
        let mut error = std::io::stderr();
        if self.said.is_some() && error.is_terminal() {
            let _ = write!(error, "\r\x1b[K").and_then(|()| error.flush());
        }
        Ok(())
    }
}
