//! Coordination for replicas that share one relational database: leases, fencing and assignment.

pub mod clock;
pub mod name;
pub mod protocol;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod store;
pub mod timing;
