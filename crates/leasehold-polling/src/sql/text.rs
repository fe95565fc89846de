//! The statements of polls, per database.

use std::fmt::Write;
use std::sync::Arc;

use sea_orm::{DbBackend, QueryResult, Statement, Value};

use super::config::{Column, Kind, Late, SqlConfig};
use crate::poller::Cursor;

/// Columns of a poll, by their number: the key is the last.
pub(super) const BODY: usize = 0;
pub(super) const MARK: usize = 1;
pub(super) const TIE: usize = 2;

/// What a database writes differently.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect(pub(super) DbBackend);

impl Dialect {
    pub(super) fn quoted(self, name: &str) -> String {
        match self.0 {
            DbBackend::MySql => format!("`{}`", name.replace('`', "``")),
            _ => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    fn column(self, name: &str) -> String {
        format!("q.{}", self.quoted(name))
    }

    /// A column as it is compared and ordered.
    fn compared(self, column: &Column) -> String {
        let name = self.column(&column.column);
        match (self.0, column.kind) {
            (DbBackend::Postgres, Kind::Text) => format!("{name} collate \"C\""),
            // Whatever the column's own character set is.
            (DbBackend::MySql, Kind::Text | Kind::Uuid) => {
                format!("convert({name} using utf8mb4) collate utf8mb4_bin")
            }
            _ => name,
        }
    }

    /// The parameter of this number as such a value.
    fn parameter(self, kind: Kind, n: usize) -> String {
        let p = format!("{}{n}", leasehold_core::store::marker(self.0));
        match (self.0, kind) {
            (DbBackend::Postgres, Kind::Timestamp) => format!("cast(cast({p} as text) as timestamptz)"),
            (DbBackend::Postgres, Kind::Uuid) => format!("cast(cast({p} as text) as uuid)"),
            (DbBackend::Postgres, Kind::Xid) => format!("cast(cast({p} as text) as xid8)"),
            (DbBackend::MySql, Kind::Timestamp) => format!("cast({p} as datetime(6))"),
            _ => p,
        }
    }

    /// A column as text, or as a number.
    fn shown(self, column: &Column) -> String {
        let name = self.column(&column.column);
        match (self.0, column.kind) {
            (DbBackend::Postgres, Kind::Integer) => format!("cast({name} as bigint)"),
            (DbBackend::MySql, Kind::Integer) => format!("cast({name} as signed)"),
            (_, Kind::Integer) => name,
            (DbBackend::MySql, _) => format!("cast({name} as char)"),
            _ => format!("cast({name} as text)"),
        }
    }

    /// Rows that are old enough.
    fn not_late(self, late: &Late, mark: &Column) -> Option<String> {
        match late {
            Late::Never => None,
            Late::Snapshot => {
                Some(format!("{} < pg_snapshot_xmin(pg_current_snapshot())", self.column(&mark.column)))
            }
            Late::Lag { by, column } => {
                let (name, ms) = (self.column(column.as_deref().unwrap_or(&mark.column)), by.as_millis());
                Some(match self.0 {
                    DbBackend::Postgres => {
                        format!("{name} <= clock_timestamp() - {ms} * interval '1 millisecond'")
                    }
                    DbBackend::MySql => {
                        format!("{name} <= timestampadd(microsecond, -{ms} * 1000, current_timestamp(6))")
                    }
                    _ => format!("julianday({name}) <= julianday('now') - {ms} / 86400000.0"),
                })
            }
        }
    }
}

/// What is asked for in a poll.
pub(super) struct Page<'a> {
    pub(super) dialect: Dialect,
    pub(super) query: &'a str,
    pub(super) mark: &'a Column,
    pub(super) tie: Option<&'a Column>,
    pub(super) late: &'a Late,
    /// The payload.
    pub(super) body: Option<&'a str>,
    /// The names of the columns, where a row cannot become JSON without.
    pub(super) columns: &'a [String],
    pub(super) key: Option<&'a str>,
}

impl<'a> Page<'a> {
    /// By `mark` alone, and nothing is late.
    pub(super) fn of(
        config: &'a SqlConfig,
        dialect: Dialect,
        columns: &'a [String],
        mark: &'a Column,
    ) -> Self {
        let (body, key) = (config.body.as_deref(), config.key.as_deref());
        Self { dialect, query: &config.query, mark, tie: None, late: &Late::Never, body, columns, key }
    }

    /// The rows after this one, at most `room`.
    pub(super) fn statement(&self, after: Option<&Place>, room: usize) -> Statement {
        let dialect = self.dialect;
        let mut text = format!(
            "select {} as leasehold_body, {} as leasehold_mark",
            self.payload(),
            dialect.shown(self.mark)
        );
        // Writing to a String cannot fail.
        if let Some(tie) = self.tie {
            let _ = write!(text, ", {} as leasehold_tie", dialect.shown(tie));
        }
        if let Some(key) = self.key {
            let key = Column::text(key);
            let _ = write!(text, ", {} as leasehold_key", dialect.shown(&key));
        }
        let _ = write!(text, " from ({}) q", self.query);
        let mut conditions = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        if let Some(Place { mark, tie }) = after {
            values.push(mark.value());
            values.extend(tie.as_ref().map(Mark::value));
            conditions.push(self.beyond(tie.is_some()));
        }
        conditions.extend(dialect.not_late(self.late, self.mark));
        if !conditions.is_empty() {
            let _ = write!(text, " where {}", conditions.join(" and "));
        }
        let order: Vec<String> =
            [Some(self.mark), self.tie].into_iter().flatten().map(|c| dialect.compared(c)).collect();
        let _ = write!(text, " order by {} limit {room}", order.join(", "));
        leasehold_core::store::statement(dialect.0, &text, values)
    }

    fn beyond(&self, has_tie: bool) -> String {
        let dialect = self.dialect;
        let (mark, first) = (dialect.compared(self.mark), dialect.parameter(self.mark.kind, 1));
        match self.tie.filter(|_| has_tie) {
            None => format!("{mark} > {first}"),
            Some(tie) => {
                let (tie, second) = (dialect.compared(tie), dialect.parameter(tie.kind, 2));
                if dialect.0 == DbBackend::MySql {
                    // Rows as values are compared without an index there.
                    format!("({mark} >= {first} and ({mark} > {first} or {tie} > {second}))")
                } else {
                    format!("({mark}, {tie}) > ({first}, {second})")
                }
            }
        }
    }

    fn payload(&self) -> String {
        let dialect = self.dialect;
        if let Some(body) = self.body {
            return dialect.shown(&Column::text(body));
        }
        if dialect.0 == DbBackend::Postgres {
            return "cast(row_to_json(q) as text)".to_owned();
        }
        let fields: Vec<String> = self
            .columns
            .iter()
            .map(|name| {
                format!("'{}', {}", name.replace('\\', "\\\\").replace('\'', "''"), dialect.column(name))
            })
            .collect();
        let object = format!("json_object({})", fields.join(", "));
        if dialect.0 == DbBackend::MySql { format!("cast({object} as char)") } else { object }
    }
}

/// The value of a watermark, a tie or an id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Mark {
    Integer(i64),
    Text(String),
}

impl Mark {
    pub(super) fn read(row: &QueryResult, column: usize, kind: Kind) -> Result<Self, sea_orm::DbErr> {
        match kind {
            Kind::Integer => row.try_get_by_index(column).map(Self::Integer),
            _ => row.try_get_by_index(column).map(Self::Text),
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Self::Integer(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What stands in the cursor of a row that a number alone places.
const NUMBER: &str = "number";

/// A row's place in the order.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Place {
    pub(super) mark: Mark,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tie: Option<Mark>,
}

impl Place {
    pub(super) fn read(cursor: &Cursor) -> Option<Self> {
        match cursor.parse_place() {
            Some((number, 0, of)) if &*of == NUMBER => {
                Some(Self { mark: Mark::Integer(i64::try_from(number).ok()?), tie: None })
            }
            _ => serde_json::from_str(&cursor.to_string()).ok(),
        }
    }

    pub(super) fn cursor(&self) -> Cursor {
        thread_local! {
            static OF: Arc<str> = Arc::from(NUMBER);
        }
        match (&self.mark, &self.tie) {
            (Mark::Integer(number), None) if *number >= 0 => {
                OF.with(|of| Cursor::place(number.unsigned_abs(), 0, of))
            }
            // Texts and numbers have a JSON.
            _ => Cursor::new(serde_json::to_string(self).unwrap_or_default()),
        }
    }
}

/// The statement that marks a row, with its id as the parameter.
pub(super) fn mark(dialect: Dialect, text: &str, id: &Column, value: &Mark) -> Statement {
    // Each place of it is a parameter of its own on MySQL, and the same elsewhere: `statement` knows.
    let text = text.replace("{id}", &dialect.parameter(id.kind, 1));
    leasehold_core::store::statement(dialect.0, &text, [value.value()])
}

/// Finds a row by its id, while the query does.
pub(super) fn lookup(dialect: Dialect, query: &str, id: &Column, value: &Mark) -> Statement {
    let text = format!(
        "select 1 as found from ({query}) q where {} = {}",
        dialect.compared(id),
        dialect.parameter(id.kind, 1)
    );
    leasehold_core::store::statement(dialect.0, &text, [value.value()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_after_it_was_written_down() {
        let text = |text: &str| Mark::Text(text.to_owned());
        for place in [
            Place { mark: Mark::Integer(17), tie: None },
            Place { mark: Mark::Integer(-17), tie: None },
            Place { mark: Mark::Integer(17), tie: Some(text("17 0 number")) },
            Place { mark: text("17 0 number"), tie: None },
        ] {
            let cursor = Cursor::new(place.cursor().to_string());
            assert_eq!(Place::read(&cursor), Some(place));
        }
        assert_eq!(Place::read(&Cursor::new("of another configuration")), None);
    }
}
