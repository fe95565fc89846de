//! The database: where it is, what the protocol asks of it, and the fences that users' transactions need.
//!
//! [`Target`] says where, [`inspect`] refuses what cannot carry leases, [`migrate`] brings the schema up to date, and a
//! [`Link`] is one connection that executes [`Request`](crate::protocol::request::Request)s. What differs between
//! databases is in `postgres`, `mysql` and `sqlite`, behind the seam in `dialect`.

pub mod audit;
pub mod checkpoint;
pub(crate) mod commands;
pub(crate) mod dialect;
mod error;
pub mod examine;
mod fence;
mod inspect;
mod json;
mod link;
#[cfg(feature = "postgres")]
mod listen;
mod locked;
#[cfg(all(feature = "mutations", feature = "postgres"))]
pub mod mutation;
#[cfg(feature = "mysql")]
mod mysql;
pub(crate) mod people;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod target;

pub use error::{ErrorKind, StoreError};
pub use fence::{LeaseKey, fence};
pub use inspect::{Doubt, Findings, inspect, migrate, schema_state, verify};
pub use leasehold_migration::{MigrateError, SchemaState, script_after as schema_script};
pub use link::Link;
#[cfg(feature = "postgres")]
pub use listen::Listener;
pub use locked::{Locked, Transaction};
pub use people::{Exclusion, PendingCommand, Position};
pub use statement::{marker, statement};
pub use target::Target;
