//! The schema of leasehold as sea-orm migrations, for PostgreSQL, MariaDB, MySQL and SQLite.
//!
//! [`up`] is what programs call: it takes a lock of its own, so that any number of them may start at once.
//! [`script`] is what a database administrator runs by hand, where nodes have no right to change the schema ([`script_after`] for upgrades);
//! [`state`] then tells a node that there is nothing left to do.

mod dialect;
mod error;
mod run;
mod schema;
mod steps;

pub use error::MigrateError;
pub use run::{Migrator, script, script_after, statements, up};
pub use schema::{SchemaState, state};
