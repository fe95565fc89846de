//! The harness of the multi-process suites: replicas that are real processes, and servers.

pub mod courier;
pub mod event;
pub mod judge;
#[cfg(feature = "mysql-client")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod replica;
#[cfg(any(feature = "postgres", feature = "mysql-client"))]
pub mod scratch;
pub mod sqlite;
