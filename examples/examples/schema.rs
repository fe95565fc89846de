//! The SQL that makes leasehold's tables, for whoever owns the database: nodes then need no right to change the schema.
//!
//! `cargo run --example schema -- postgres > schema.sql` (or `mysql`, `sqlite`); with the name of the last migration that the
//! database has (`select version from leasehold_migration`) as a second argument only what came after it.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use anyhow::{Result, bail};
use leasehold::store::schema_script;
use sea_orm::DbBackend;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (database, applied) = match &arguments[..] {
        [database] => (database.as_str(), None),
        [database, applied] => (database.as_str(), Some(applied.as_str())),
        _ => bail!("usage: schema postgres|mysql|sqlite [LAST-MIGRATION]"),
    };
    let backend = match database {
        "postgres" => DbBackend::Postgres,
        "mysql" | "mariadb" => DbBackend::MySql,
        "sqlite" => DbBackend::Sqlite,
        other => bail!("database {other:?} is unknown: give postgres, mysql (for MariaDB, too) or sqlite"),
    };
    print!("{}", schema_script(backend, applied)?);
    Ok(())
}
