//! Colours, where somebody sees them.

use std::ffi::OsStr;
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
        Self::of(&std::io::stdout())
    }

    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        Self::chosen(stream.is_terminal(), std::env::var_os("NO_COLOR").as_deref())
    }

    fn chosen(is_terminal: bool, no_color: Option<&OsStr>) -> Self {
        Self { colored: is_terminal && no_color.is_none_or(OsStr::is_empty) }
    }

    pub(crate) fn is_colored(self) -> bool {
        self.colored
    }

    pub(crate) fn paint(self, color: Color, text: &str) -> String {
        if !self.colored || text.is_empty() {
            return text.to_owned();
        }
        format!("{}{text}{RESET}", color.begins())
    }

    /// A line of its own: its end is not painted, so that each line is complete by itself.
    pub(crate) fn line(self, color: Color, text: &str) -> String {
        self.paint(color, text) + "\n"
    }
}

const RESET: &str = "\x1b[0m";

impl Color {
    const ALL: [Self; 4] = [Self::Good, Self::Attention, Self::Bad, Self::Quiet];

    fn begins(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Attention => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Quiet => "\x1b[2m",
        }
    }
}

/// How long the colour is with which `text` begins, or its end; 0 if it begins with none of ours.
pub(super) fn length_of_color(text: &str) -> usize {
    let mut ours = Color::ALL.into_iter().map(Color::begins).chain([RESET]);
    ours.find(|begin| text.starts_with(begin)).map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_user_wants_them() {
        let colored =
            |terminal, no_color: Option<&str>| Style::chosen(terminal, no_color.map(OsStr::new)).is_colored();
        assert!(colored(true, None) && colored(true, Some("")));
        assert!(!colored(true, Some("1")) && !colored(true, Some("0")) && !colored(false, None));
        let style = Style::chosen(true, None);
        assert_eq!(style.paint(Color::Bad, "late"), "\x1b[31mlate\x1b[0m");
        assert_eq!(length_of_color(&style.paint(Color::Quiet, "x")), 4);
    }
}
