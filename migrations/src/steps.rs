//! The migrations: the SQL of each, per database.

use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::dialect::unsupported;

pub(crate) const TABLES: &str = "leasehold_0001_tables";
pub(crate) const INBOX: &str = "leasehold_0002_inbox";
pub(crate) const MESSAGES: &str = "leasehold_0003_messages";
pub(crate) const FILES: &str = "leasehold_0004_files";
pub(crate) const RENEWED: &str = "leasehold_0005_renewed";

/// One migration.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    postgres: &'static str,
    mysql: &'static str,
    sqlite: &'static str,
}

/// All of them, oldest first.
pub(crate) const STEPS: [Step; 5] = [
    Step {
        name: TABLES,
        postgres: include_str!("m0001_tables/postgres.sql"),
        mysql: include_str!("m0001_tables/mysql.sql"),
        sqlite: include_str!("m0001_tables/sqlite.sql"),
    },
    Step {
        name: INBOX,
        postgres: include_str!("m0002_inbox/postgres.sql"),
        mysql: include_str!("m0002_inbox/mysql.sql"),
        sqlite: include_str!("m0002_inbox/sqlite.sql"),
    },
    Step {
        name: MESSAGES,
        postgres: include_str!("m0003_messages/postgres.sql"),
        mysql: include_str!("m0003_messages/mysql.sql"),
        sqlite: include_str!("m0003_messages/sqlite.sql"),
    },
    Step {
        name: FILES,
        postgres: include_str!("m0004_files/postgres.sql"),
        mysql: include_str!("m0004_files/mysql.sql"),
        sqlite: include_str!("m0004_files/sqlite.sql"),
    },
    Step {
        name: RENEWED,
        postgres: include_str!("m0005_renewed/postgres.sql"),
        mysql: include_str!("m0005_renewed/mysql.sql"),
        sqlite: include_str!("m0005_renewed/sqlite.sql"),
    },
];

impl Step {
    /// The statements for this database.
    pub(crate) fn sql(&self, backend: DbBackend) -> Result<&'static str, DbErr> {
        match backend {
            DbBackend::Postgres => Ok(self.postgres),
            DbBackend::MySql => Ok(self.mysql),
            DbBackend::Sqlite => Ok(self.sqlite),
            _ => Err(unsupported(backend)),
        }
    }
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared(self.sql(manager.get_database_backend())?).await?;
        Ok(())
    }
}
