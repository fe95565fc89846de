//! Which tables and columns the migrations make, and what a database has of them.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm_migration::sea_orm::{ConnectionTrait, Statement};

use crate::dialect::dialect;
use crate::error::MigrateError;
use crate::steps::{FILES, INBOX, MESSAGES, RENEWED, TABLES};

/// The table of applied migrations.
pub(crate) const VERSIONS: &str = "leasehold_migration";

/// A table and columns of it.
type Table = (&'static str, &'static [&'static str]);

/// What a migration brings.
enum Brings {
    /// These tables, with these columns.
    Tables(&'static [Table]),
    /// These columns, to tables of earlier migrations.
    Columns(&'static [Table]),
}

/// The migrations of this program, oldest first, each with what it brings.
const MIGRATIONS: &[(&str, Brings)] = &[
    (
        TABLES,
        Brings::Tables(&[
            (
                "leasehold_cluster",
                &[
                    "name",
                    "revision",
                    "term",
                    "leader",
                    "incarnation",
                    "epoch",
                    "max_ttl_ms",
                    "formed",
                    "min_program",
                ],
            ),
            (
                "leasehold_node",
                &[
                    "session",
                    "cluster",
                    "node_id",
                    "beat",
                    "pass",
                    "ttl_ms",
                    "labels",
                    "deployment",
                    "draining",
                    "evicted",
                    "version",
                    "joined_at",
                ],
            ),
            ("leasehold_lease", &["cluster", "artifact", "holder", "token"]),
            (
                "leasehold_artifact",
                &[
                    "cluster",
                    "name",
                    "kind",
                    "desired",
                    "placement",
                    "fingerprint",
                    "preferred",
                    "target",
                    "last_error",
                    "changed_at",
                ],
            ),
            ("leasehold_deployment", &["cluster", "hash", "artifact", "kind", "fingerprint", "placement"]),
            ("leasehold_command", &["id", "cluster", "artifact", "verb", "args", "by_whom", "reason", "at"]),
            ("leasehold_keepout", &["cluster", "artifact", "session", "failures", "until_beat", "error"]),
            ("leasehold_exclusion", &["cluster", "node_id", "by_whom", "reason", "at"]),
            ("leasehold_checkpoint", &["cluster", "artifact", "key", "token", "value", "updated_at"]),
            (
                "leasehold_firing",
                &[
                    "cluster",
                    "artifact",
                    "slot",
                    "command",
                    "ordinal",
                    "token",
                    "attempt",
                    "node",
                    "claimed_at",
                    "due",
                    "finished_at",
                    "outcome",
                    "error",
                ],
            ),
            ("leasehold_event", &["id", "cluster", "at", "kind", "node", "artifact", "token", "detail"]),
        ]),
    ),
    (INBOX, Brings::Tables(&[("leasehold_inbox", &["cluster", "inbox", "id", "token", "seen_at"])])),
    (
        MESSAGES,
        Brings::Tables(&[
            ("leasehold_store", &["name", "cluster", "artifact", "made_at"]),
            (
                "leasehold_message",
                &[
                    "store",
                    "id",
                    "message",
                    "order_key",
                    "headers",
                    "content_type",
                    "body",
                    "ordered",
                    "attempts",
                    "due",
                    "expires",
                    "error",
                    "appended_at",
                ],
            ),
            (
                "leasehold_parked",
                &[
                    "store",
                    "id",
                    "message",
                    "order_key",
                    "headers",
                    "content_type",
                    "body",
                    "attempts",
                    "reason",
                    "answer",
                    "artifact",
                    "token",
                    "appended_at",
                    "parked_at",
                ],
            ),
        ]),
    ),
    (
        FILES,
        Brings::Tables(&[(
            "leasehold_file",
            &[
                "cluster", "artifact", "file", "path", "tag", "size", "modified", "outcome", "reason",
                "token", "at",
            ],
        )]),
    ),
    (RENEWED, Brings::Columns(&[("leasehold_node", &["renewed_at"])])),
];

/// What a database has of the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaState {
    /// Migrations of this program that were not applied, oldest first.
    pub pending: Vec<String>,
    /// Applied migrations that this program does not know: a newer program made them, which stops nobody.
    pub unknown: Vec<String>,
}

impl SchemaState {
    /// Whether every migration of this program was applied.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }
}

/// What the database has of the schema. Changes nothing and needs no right to.
///
/// # Errors
/// [`MigrateError::Foreign`] when a table of another program has one of our names.
pub async fn state(db: &impl ConnectionTrait) -> Result<SchemaState, MigrateError> {
    let backend = db.get_database_backend();
    let dialect = dialect(backend)?;
    let rows = db.query_all_raw(Statement::from_string(backend, dialect.columns)).await?;
    let mut found = Found::new();
    for row in rows {
        found.entry(row.try_get("", "tbl")?).or_default().insert(row.try_get("", "col")?);
    }

    let mut applied = BTreeSet::new();
    if let Some(columns) = found.get(VERSIONS) {
        lacks(VERSIONS, columns, &["version", "applied_at"])?;
        let sql = format!("select version from {VERSIONS}");
        for row in db.query_all_raw(Statement::from_string(backend, sql)).await? {
            let version: String = row.try_get("", "version")?;
            if !version.starts_with("leasehold_") {
                return Err(foreign(
                    VERSIONS,
                    format!("it lists {version:?}, which is no migration of leasehold"),
                ));
            }
            applied.insert(version);
        }
    }

    let mut state = SchemaState::default();
    for (migration, brings) in MIGRATIONS {
        let done = applied.remove(*migration);
        let look = Look { found: &found, migration, done, part: done || dialect.commits_changes };
        match brings {
            Brings::Tables(tables) => look.tables(tables)?,
            Brings::Columns(tables) => look.columns(tables)?,
        }
        if !done {
            state.pending.push((*migration).to_owned());
        }
    }
    state.unknown = applied.into_iter().collect();
    Ok(state)
}

type Found = BTreeMap<String, BTreeSet<String>>;

/// What is there of one migration.
struct Look<'a> {
    found: &'a Found,
    migration: &'a str,
    done: bool,
    /// A part may be there: where changes commit by themselves, an interrupted migration leaves one.
    part: bool,
}

impl Look<'_> {
    fn tables(&self, tables: &[Table]) -> Result<(), MigrateError> {
        for (table, columns) in tables {
            match self.found.get(*table) {
                Some(has) if self.part => lacks(table, has, columns)?,
                Some(_) => return Err(self.unlisted(table, "it exists")),
                None if self.done => {
                    let (table, migration) = ((*table).to_owned(), self.migration.to_owned());
                    return Err(MigrateError::Broken { table, migration });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// That the tables are there is a matter of the migrations that make them.
    fn columns(&self, tables: &[Table]) -> Result<(), MigrateError> {
        for (table, columns) in tables {
            let Some(has) = self.found.get(*table) else { continue };
            if self.done {
                lacks(table, has, columns)?;
            } else if let Some(column) = columns.iter().find(|column| !self.part && has.contains(**column)) {
                return Err(self.unlisted(table, &format!("it has column {column:?}")));
            }
        }
        Ok(())
    }

    fn unlisted(&self, table: &str, found: &str) -> MigrateError {
        foreign(table, format!("{found}, but {VERSIONS} does not list {}", self.migration))
    }
}

/// Whether this program has a migration of that name.
pub(crate) fn knows(version: &str) -> bool {
    MIGRATIONS.iter().any(|(name, _)| *name == version)
}

fn lacks(table: &str, has: &BTreeSet<String>, columns: &[&str]) -> Result<(), MigrateError> {
    match columns.iter().find(|column| !has.contains(**column)) {
        None => Ok(()),
        Some(column) => Err(foreign(table, format!("it has no column {column:?}"))),
    }
}

fn foreign(table: &str, found: String) -> MigrateError {
    MigrateError::Foreign { table: table.to_owned(), found }
}
