//! Colours, where somebody sees them.

use std::io::IsTerminal;

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    Good,
    Attention,
    Bad,
    Quiet,
}

/// Whether there are colours: on a terminal, unless NO_COLOR is set to something (no-color.org).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colored: bool,
}

impl Style {
    pub(crate) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colored: !unwanted && std::io::stdout().is_terminal() }
    }

    pub(crate) fn paint(self, color: Color, text: &str) -> String {
        if !self.colored || text.is_empty() {
            return text.to_owned();
        }
        let code = match color {
            Color::Good => "32",
            Color::Attention => "33",
            Color::Bad => "31",
            Color::Quiet => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
