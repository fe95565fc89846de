//! Which tables and columns the migrations make, and what a database has of them.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm_migration::sea_orm::{ConnectionTrait, Statement};

use crate::dialect::dialect;
use crate::error::MigrateError;
use crate::steps::{FILES, INBOX, MESSAGES, TABLES};

/// The table of applied migrations.
pub(crate) const VERSIONS: &str = "leasehold_migration";

/// A table and its columns.
pub(crate) type Table = (&'static str, &'static [&'static str]);

/// The migrations of this program, oldest first, each with the tables it makes and their columns.
pub(crate) const MIGRATIONS: &[(&str, &[Table])] = &[
    (
        TABLES,
        &[
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
        ],
    ),
    (INBOX, &[("leasehold_inbox", &["cluster", "inbox", "id", "token", "seen_at"])]),
    (
        MESSAGES,
        &[
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
        ],
    ),
    (
        FILES,
        &[(
            "leasehold_file",
            &[
                "cluster", "artifact", "file", "path", "tag", "size", "modified", "outcome", "reason",
                "token", "at",
            ],
        )],
    ),
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
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
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
    for (migration, tables) in MIGRATIONS {
        let done = applied.remove(*migration);
        for (table, columns) in *tables {
            match (found.get(*table), done) {
                (Some(has), true) => lacks(table, has, columns)?,
                (Some(has), false) if dialect.commits_changes => lacks(table, has, columns)?,
                (Some(_), false) => {
                    return Err(foreign(
                        table,
                        format!("it exists, but {VERSIONS} does not list {migration}"),
                    ));
                }
                (None, true) => {
                    return Err(MigrateError::Broken {
                        table: (*table).to_owned(),
                        migration: (*migration).to_owned(),
                    });
                }
                (None, false) => {}
            }
        }
        if !done {
            state.pending.push((*migration).to_owned());
        }
    }
    state.unknown = applied.into_iter().collect();
    Ok(state)
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
