//! Columns that stand below each other.

use super::{Color, Style, escaped};

/// One field of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    color: Option<Color>,
}

impl Cell {
    pub(crate) fn colored(text: impl Into<String>, color: Color) -> Self {
        Self { color: Some(color), ..Self::from(text.into()) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        // What is stored may have lines of its own, and a row is one.
        Self { text: escaped(&text.into().replace(['\n', '\r'], " ")), color: None }
    }
}

/// Rows below a head.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Two blanks between columns, none at the ends of lines.
    pub(crate) fn render(&self, style: Style) -> String {
        let width = |text: &str| text.chars().count();
        let mut widths: Vec<_> = self.head.iter().map(|head| width(head)).collect();
        for row in &self.rows {
            for (at, cell) in row.iter().enumerate().take(widths.len()) {
                widths[at] = widths[at].max(width(&cell.text));
            }
        }
        let head = self.head.iter().map(|head| Cell::colored(*head, Color::Quiet)).collect();
        let mut out = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut gap = 0;
            for (cell, most) in row.iter().zip(&widths) {
                if !cell.text.is_empty() {
                    out.push_str(&" ".repeat(gap));
                    out.push_str(
                        &cell.color.map_or_else(|| cell.text.clone(), |color| style.paint(color, &cell.text)),
                    );
                    gap = 0;
                }
                gap += most - width(&cell.text) + 2;
            }
            out.push('\n');
        }
        out
    }
}
