//! Asks before something is destroyed, cut off or delivered again.

use std::io::{BufRead, IsTerminal, Write};

use crate::arguments::Consent;
use crate::failure::Failure;

/// Goes on if somebody says yes, or has said so.
pub(crate) fn confirm(consent: Consent, what: &str) -> Result<(), Failure> {
    if consent.yes {
        return Ok(());
    }
    let refused = |why: &str| Failure::refused(format!("{what}: {why}; nothing was changed"));
    if !std::io::stdin().is_terminal() {
        return Err(refused("there is nobody to ask, add --yes if it is meant"));
    }
    let mut error = std::io::stderr();
    let _ = write!(error, "{what}. Go on? [y/N] ").and_then(|()| error.flush());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(refused("it was not confirmed"))
}
