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
pub(crate) use view::{unless_interrupted, view};

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
        if json { json_line(&self.json) } else { write(&printable(&self.text)) }
    }
}

/// JSON on a line of its own. JSON leaves some control characters as they are; terminals do not.
pub(crate) fn json_line(value: &serde_json::Value) -> Result<(), Failure> {
    write(&format!("{}\n", json(value)))
}

fn json(value: &serde_json::Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        match character {
            turns if turns_direction(turns) || turns.is_control() => {
                text.push_str(&format!("\\u{:04x}", u32::from(turns)));
            }
            other => text.push(other),
        }
    }
    text
}

/// A line on the standard output.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(&printable(&format!("{text}\n")))
}

/// What somebody wrote, on one line, fit for a terminal: with no colours of its own.
pub(crate) fn one_line(text: &str) -> String {
    escaped(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The same with its lines, for what has lines by its nature.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(escaped).collect::<Vec<_>>().join("\n")
}

fn turns_direction(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// What the database holds may come from anybody, and a terminal obeys control characters, and what turns its direction.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => shown.push(' '),
            other if other.is_control() || turns_direction(other) => shown.extend(other.escape_unicode()),
            other => shown.push(other),
        }
    }
    shown
}

/// Of what is put together here only lines and [`Style`]'s own colours reach a terminal, should a stored text have come along as it
/// is.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let color = style::length_of_color(rest);
        match first {
            '\x1b' if color > 0 => shown.push_str(&rest[..color]),
            '\n' | '\t' => shown.push(first),
            other => shown.push_str(&escaped(other.encode_utf8(&mut [0; 4]))),
        }
        rest = &rest[color.max(first.len_utf8())..];
    }
    shown
}

/// What is written as it stands.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let done = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match done {
        // Whoever listened has heard enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        done => done.map_err(|error| Failure::failed(format!("the standard output takes nothing: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_of_ours_and_lines_reach_a_terminal() {
        assert_eq!(printable("a\x1b[31mred\x1b[0m\n\tb"), "a\x1b[31mred\x1b[0m\n\tb");
        assert_eq!(
            printable("\x1b[2Jgone\x1b]0;title\x07\u{9b}1A\r\x1b[8mhidden"),
            "\\u{1b}[2Jgone\\u{1b}]0;title\\u{7}\\u{9b}1A\\u{d}\\u{1b}[8mhidden"
        );
        assert_eq!(printable("\x1b["), "\\u{1b}[");
    }

    #[test]
    fn what_is_stored_has_neither_colours_nor_lines_nor_directions() {
        assert_eq!(one_line("a\x1b[31m\nb\u{202e}c"), "a\\u{1b}[31m b\\u{202e}c");
        assert_eq!(lines("a\tb\n\x1b[8mc"), "a b\n\\u{1b}[8mc");
    }

    #[test]
    fn json_stays_json() {
        let value = serde_json::json!({ "error": "it\u{80}\u{99}s \u{9b}31m\u{7f}\x1b[2J\u{202e}" });
        let text = json(&value);
        assert!(
            !text.chars().any(|character| character.is_control() || turns_direction(character)),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
