//! Coordination for replicas that share one relational database: leases, fencing and assignment.

pub mod clock;
pub mod name;
pub mod protocol;
pub mod resolver;
pub mod timing;
