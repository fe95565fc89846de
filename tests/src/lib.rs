//! The harness of the multi-process suites: replicas that are real processes, and a PostgreSQL server to hurt.

pub mod event;
pub mod judge;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod replica;
pub mod sqlite;
