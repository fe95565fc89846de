//! Brings a schema up to date.

use std::time::Duration;

use sea_orm_migration::sea_orm::sea_query::IntoIden;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, DynIden, RuntimeErr,
    Statement, TransactionTrait,
};
use sea_orm_migration::{MigrationTrait, MigratorTrait, SchemaManager, async_trait, seaql_migrations};

use crate::dialect::{Dialect, dialect};
use crate::error::MigrateError;
use crate::schema::{SchemaState, VERSIONS, knows, state};
use crate::steps::STEPS;

/// For so long a table that is in use is tried for: most transactions are over by then.
const IN_USE: Duration = Duration::from_secs(30);
/// Between two tries, for those who wait to come through: several times what a try may take.
const PAUSE: Duration = Duration::from_secs(1);

/// The migrations, for programs that run them among their own. Alone it takes no lock: [`up`] does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        STEPS.iter().map(|step| Box::new(*step) as Box<dyn MigrationTrait>).collect()
    }

    fn migration_table_name() -> DynIden {
        VERSIONS.into_iden()
    }

    // A migration that a newer program applied stops nobody; sea-orm would call its file missing.
    async fn get_migration_models<C: ConnectionTrait>(db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr> {
        Self::install(db).await?;
        let models = all_models(db).await?;
        Ok(models.into_iter().filter(|model| knows(&model.version)).collect())
    }
}

async fn all_models<C: ConnectionTrait>(db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr> {
    let sql = format!("select version, applied_at from {VERSIONS} order by version");
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await?;
    rows.into_iter()
        .map(|row| {
            Ok(seaql_migrations::Model {
                version: row.try_get("", "version")?,
                applied_at: row.try_get("", "applied_at")?,
            })
        })
        .collect()
}

/// Applies what is pending, all of it or nothing, and tells the state from before. On MariaDB and MySQL, which commit each
/// change of a schema by itself, an interrupted call leaves a part that the next one completes.
///
/// Runs under a lock of its own: several processes may call it at once. Where nothing is pending it writes nothing,
/// so that a node without the right to change the schema starts on one that was prepared for it. A table that is to be changed and is in
/// use, by a backup for example, is tried for again and again, for half a minute. Not to be cancelled.
///
/// # Errors
/// [`MigrateError`]; the database is unchanged.
pub async fn up(db: &DatabaseConnection) -> Result<SchemaState, MigrateError> {
    let before = state(db).await?;
    if before.is_complete() {
        return Ok(before);
    }
    let dialect = dialect(db.get_database_backend())?;
    let txn = db.begin_with_options(dialect.begin).await?;
    if let Some(lock) = &dialect.lock {
        txn.execute_unprepared(lock).await?;
    }
    let applied = apply(&txn, &dialect).await;
    if let Some(unlock) = &dialect.unlock {
        // Also after a failure: the connection goes back to its pool, and with it the lock.
        txn.execute_unprepared(unlock).await?;
    }
    let before = applied?;
    txn.commit().await?;
    Ok(before)
}

async fn apply(txn: &DatabaseTransaction, dialect: &Dialect) -> Result<SchemaState, MigrateError> {
    // Another process may have been faster.
    let before = state(txn).await?;
    if !before.is_complete() {
        txn.execute_unprepared(dialect.versions).await?;
    }
    for migration in Migrator::migrations() {
        if before.pending.iter().any(|name| name == migration.name()) {
            change(txn, dialect, &*migration).await?;
            txn.execute_unprepared(&dialect.applied.replace("{}", migration.name())).await?;
        }
    }
    Ok(before)
}

/// Applies one migration. A table that is in use is tried for again, while nobody else migrates: each try is short, because
/// whoever waits for a table holds up all who come after.
async fn change(
    txn: &DatabaseTransaction,
    dialect: &Dialect,
    migration: &dyn MigrationTrait,
) -> Result<(), DbErr> {
    let Some((before, undo)) = dialect.again else { return migration.up(&SchemaManager::new(txn)).await };
    let begun = tokio::time::Instant::now();
    loop {
        txn.execute_unprepared(before).await?;
        match migration.up(&SchemaManager::new(txn)).await {
            Err(error) if is_in_use(&error) && begun.elapsed() < IN_USE => {
                txn.execute_unprepared(undo).await?;
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// Whether a table was in use for as long as a migration waits for it.
fn is_in_use(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    let Some(error) = error.as_database_error() else { return false };
    // PostgreSQL's code; MariaDB and MySQL give one code to most errors.
    error.code().is_some_and(|code| code == "55P03")
        || error.message().starts_with("Lock wait timeout exceeded")
}

/// The name and the SQL text of every migration, oldest first.
///
/// # Errors
/// When leasehold has no schema for `backend`.
pub fn statements(backend: DbBackend) -> Result<Vec<(&'static str, &'static str)>, MigrateError> {
    STEPS.iter().map(|step| Ok((step.name, step.sql(backend)?))).collect()
}

/// One script that makes the whole schema in an empty database and notes every migration as applied.
///
/// # Errors
/// When leasehold has no schema for `backend`.
pub fn script(backend: DbBackend) -> Result<String, MigrateError> {
    script_after(backend, None)
}

/// The same for a database that has all migrations up to `applied`: what an upgrade brings.
///
/// # Errors
/// When leasehold has no schema for `backend`, or no migration of that name.
pub fn script_after(backend: DbBackend, applied: Option<&str>) -> Result<String, MigrateError> {
    let dialect = dialect(backend)?;
    let all = statements(backend)?;
    let begin = match applied {
        None => 0,
        Some(applied) => {
            let at = all.iter().position(|(name, _)| *name == applied).ok_or_else(|| {
                let known: Vec<_> = all.iter().map(|(name, _)| *name).collect();
                DbErr::Migration(format!(
                    "leasehold has no migration {applied:?}; it has: {}",
                    known.join(", ")
                ))
            })?;
            at + 1
        }
    };
    let mut text = format!("begin;\n{};\n", dialect.versions);
    for (name, sql) in all.into_iter().skip(begin) {
        text.push_str(&format!("\n-- {name}\n{sql}{};\n", dialect.applied.replace("{}", name)));
    }
    text.push_str("\ncommit;\n");
    Ok(text)
}
