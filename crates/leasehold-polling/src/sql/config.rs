//! An SQL endpoint as it is written in a file.

use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::duration;
use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::placement::Placement;
use sea_orm::DbBackend;
use serde::{Deserialize, Serialize};

use crate::config::Polling;

/// Longer transactions are a mistake, or in the unit.
const MAX_LAG: Duration = Duration::from_secs(24 * 3600);

/// The type of a column, as far as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A whole number of 64 bits.
    Integer,
    /// A text; compared bytewise.
    Text,
    /// An instant.
    Timestamp,
    /// A UUID; on databases without that type a text.
    Uuid,
    /// PostgreSQL's `xid8`, for [`Late::Snapshot`].
    Xid,
}

/// A column of the query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Column {
    /// Its name.
    pub column: String,
    /// Its type.
    pub kind: Kind,
}

impl Column {
    /// A column of this type.
    pub fn new(column: impl Into<String>, kind: Kind) -> Self {
        Self { column: column.into(), kind }
    }

    /// A whole number.
    pub fn integer(column: impl Into<String>) -> Self {
        Self::new(column, Kind::Integer)
    }

    /// A text.
    pub fn text(column: impl Into<String>) -> Self {
        Self::new(column, Kind::Text)
    }

    /// An instant.
    pub fn timestamp(column: impl Into<String>) -> Self {
        Self::new(column, Kind::Timestamp)
    }
}

/// Why no row commits late, with a lower watermark than one that was seen: see [the module](super).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Late {
    /// Rows younger than this are left for later.
    Lag {
        /// Longer than the longest transaction that writes rows.
        #[serde(with = "duration::serde")]
        by: Duration,
        /// The column with the time of a row's transaction; the watermark, if that is an instant, unless set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        column: Option<String>,
    },
    /// The watermark is the id of a row's transaction: PostgreSQL only.
    Snapshot,
    /// Rows become visible in the order of the watermark.
    Never,
}

impl Late {
    /// A lag by the watermark itself.
    pub fn lag(by: Duration) -> Self {
        Self::Lag { by, column: None }
    }
}

/// Where the next poll goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Watermark {
    /// Only grows from row to row; rows where it is null are never found.
    pub mark: Column,
    /// Tells rows of one watermark apart; not needed where each has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie: Option<Column>,
    /// Why no row is late.
    pub late: Late,
}

impl Watermark {
    /// By this column.
    pub fn new(mark: Column, late: Late) -> Self {
        Self { mark, tie: None, late }
    }

    /// Rows of one watermark are told apart by this column.
    #[must_use]
    pub fn tie(mut self, tie: Column) -> Self {
        self.tie = Some(tie);
        self
    }
}

/// How a row is marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Claim {
    /// Tells rows apart, and orders them.
    pub id: Column,
    /// The statement after which the query does not find the row any more; `{id}` stands for its id:
    /// `update orders set exported = true where id = {id}`.
    pub mark: String,
}

/// How rows are told apart that are done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// By a watermark.
    Watermark(Watermark),
    /// By a statement that marks them.
    Claim(Claim),
}

/// An SQL endpoint as it is written in a file; the twin of [`Sql`](super::Sql).
///
/// ```toml
/// name = "order-export"
/// query = "select id, customer, total, changed_at from orders"
/// rows = { watermark = { mark = { column = "changed_at", kind = "timestamp" }, tie = { column = "id", kind = "integer" }, late = { lag = { by = "5s" } } } }
/// # rows = { claim = { id = { column = "id", kind = "integer" }, mark = "update orders set exported = true where id = {id}" } }
/// # body = "payload"                    # unless set a message is the row as a JSON object
/// # key = "customer"
/// polling = { schedule = { every = "1s" } }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct SqlConfig {
    /// The artifact's name, unique in the cluster.
    pub name: ArtifactName,
    /// A select without order and limit, which are added.
    pub query: String,
    /// How rows are told apart that are done.
    pub rows: Rows,
    /// The text column that is a message's payload. Unless set that is the row as a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The column that its order goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How it polls, and brings what it finds to its handler.
    #[serde(default)]
    pub polling: Polling,
    /// How it is placed; as the node's other artifacts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

impl SqlConfig {
    /// An endpoint with the defaults.
    pub fn new(name: ArtifactName, query: impl Into<String>, rows: Rows) -> Self {
        Self {
            name,
            query: query.into(),
            rows,
            body: None,
            key: None,
            polling: Polling::default(),
            placement: None,
        }
    }

    /// Checks that the values can work on this database. Asks it nothing.
    ///
    /// # Errors
    /// [`Error::Artifact`] naming the endpoint, the field, its value and the remedy.
    pub fn validate(&self, backend: DbBackend) -> Result<(), Error> {
        self.problem(backend).map_err(|problem| Error::artifact(self.name.as_str(), problem))
    }

    pub(crate) fn problem(&self, backend: DbBackend) -> Result<(), String> {
        let query = self.query.trim();
        if query.is_empty() || query.ends_with(';') {
            return Err("query: give one select, without a semicolon at its end".to_owned());
        }
        match &self.rows {
            Rows::Claim(claim) if !claim.mark.contains("{id}") => {
                Err("rows claim mark has no {id}: give for example \"update orders set exported = true where id = {id}\"".to_owned())
            }
            Rows::Claim(claim) if claim.id.kind == Kind::Timestamp => {
                Err("rows claim id is an instant, and rows may have the same: give a column that tells rows apart".to_owned())
            }
            Rows::Claim(_) => Ok(()),
            Rows::Watermark(watermark) => late(watermark, backend),
        }
    }
}

fn late(watermark: &Watermark, backend: DbBackend) -> Result<(), String> {
    let kinds = [Some(watermark.mark.kind), watermark.tie.as_ref().map(|tie| tie.kind)];
    if kinds.contains(&Some(Kind::Xid)) && backend != DbBackend::Postgres {
        return Err("kind xid is PostgreSQL's: use another column, and a lag".to_owned());
    }
    match &watermark.late {
        Late::Snapshot if watermark.mark.kind != Kind::Xid => Err(format!(
            "late snapshot needs a watermark with the id of a row's transaction, and {:?} is none: add a column `xact xid8 not null \
             default pg_current_xact_id()` and give it as {{ column = \"xact\", kind = \"xid\" }}",
            watermark.mark.column
        )),
        Late::Lag { by, .. } if by.is_zero() || *by > MAX_LAG => {
            Err(format!("late lag {by:?} is out of range: give more than nothing, and at most {MAX_LAG:?}"))
        }
        Late::Lag { column: None, .. } if watermark.mark.kind != Kind::Timestamp => Err(format!(
            "late lag needs an instant, and the watermark {:?} is none: give late lag column, with the time of a row's transaction",
            watermark.mark.column
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(rows: Rows, backend: DbBackend) -> String {
        SqlConfig::new("a".try_into().unwrap(), "select 1", rows).validate(backend).unwrap_err().to_string()
    }

    #[test]
    fn a_watermark_says_why_no_row_is_late() {
        let by = |mark, late| Rows::Watermark(Watermark::new(mark, late));
        let lag = Late::lag(Duration::from_secs(5));
        let text = problem(by(Column::integer("id"), lag), DbBackend::Postgres);
        assert!(text.contains("give late lag column"), "{text}");
        let text = problem(by(Column::integer("id"), Late::Snapshot), DbBackend::Postgres);
        assert!(text.contains("pg_current_xact_id()"), "{text}");
        let xid = || Column::new("x", Kind::Xid);
        assert!(problem(by(xid(), Late::Snapshot), DbBackend::Sqlite).contains("PostgreSQL's"));
        let good = SqlConfig::new("a".try_into().unwrap(), "select 1", by(xid(), Late::Snapshot));
        good.validate(DbBackend::Postgres).unwrap();
        let claim = Claim { id: Column::integer("id"), mark: "update a set b = 1".to_owned() };
        assert!(problem(Rows::Claim(claim), DbBackend::Sqlite).contains("has no {id}"));
    }

    #[test]
    fn it_is_read_from_a_file() {
        let read: SqlConfig = toml::from_str(
            r#"
            name = "order-export"
            query = "select * from orders"
            rows = { watermark = { mark = { column = "id", kind = "integer" }, late = "never" } }
            "#,
        )
        .unwrap();
        read.validate(DbBackend::Sqlite).unwrap();
        assert_eq!(toml::from_str::<SqlConfig>(&toml::to_string(&read).unwrap()).unwrap(), read);
    }
}
