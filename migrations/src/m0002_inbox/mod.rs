//! The ids of messages that were handled.

use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::dialect::unsupported;

/// Makes the table of the inbox.
pub(crate) struct Inbox;

pub(crate) const NAME: &str = "leasehold_0002_inbox";

/// The statements, for each database.
pub(crate) fn sql(backend: DbBackend) -> Result<&'static str, DbErr> {
    match backend {
        DbBackend::Postgres => Ok(include_str!("postgres.sql")),
        DbBackend::MySql => Ok(include_str!("mysql.sql")),
        DbBackend::Sqlite => Ok(include_str!("sqlite.sql")),
        _ => Err(unsupported(backend)),
    }
}

impl MigrationName for Inbox {
    fn name(&self) -> &str {
        NAME
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Inbox {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared(sql(manager.get_database_backend())?).await?;
        Ok(())
    }
}
