//! What is shown, to people and to programs.

mod style;
mod table;
mod time;
mod view;

use std::io::Write;

use serde::Serialize;

pub(crate) use style::{Color, Style};
pub(crate) use table::{Cell, Table};
pub(crate) use time::{age, clock, precise};
pub(crate) use view::view;

use crate::failure::Failure;

/// One answer in both forms.
pub(crate) struct Report {
    pub(crate) text: String,
    pub(crate) json: serde_json::Value,
}

impl Report {
    pub(crate) fn new(text: String, fields: &impl Serialize) -> Result<Self, Failure> {
        let json = serde_json::to_value(fields).map_err(|error| Failure::failed(error.to_string()))?;
        Ok(Self { text, json })
    }

    /// In the form that was asked for.
    pub(crate) fn print(&self, json: bool) -> Result<(), Failure> {
        if json { line(&self.json.to_string()) } else { write(&self.text) }
    }
}

/// A line on the standard output.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let done = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match done {
        // Whoever listened has heard enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        done => done.map_err(|error| Failure::failed(format!("the standard output takes nothing: {error}"))),
    }
}
