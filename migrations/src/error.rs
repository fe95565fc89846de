//! What can go wrong with the schema.

use sea_orm_migration::sea_orm::DbErr;

/// Why the schema was not brought up to date. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// A table has a name of ours and is not ours.
    #[error(
        "table {table} seems to belong to another program: {found}; rename it, or give leasehold a database or a schema \
         (search_path) of its own"
    )]
    Foreign {
        /// The table.
        table: String,
        /// What tells it from ours.
        found: String,
    },
    /// A migration is noted as applied and one of its tables is gone.
    #[error(
        "table {table} is missing although migration {migration} was applied; restore it from a backup, or drop all \
         leasehold_ tables while no node runs, to start anew"
    )]
    Broken {
        /// The missing table.
        table: String,
        /// The migration that made it.
        migration: String,
    },
    /// The database refused.
    #[error("the schema could not be brought up to date: {0}")]
    Database(#[from] DbErr),
}
