//! What plugin authors and users of leasehold test with.
//!
//! | module | what it is |
//! |---|---|
//! | [`simulation`] | a cluster in one thread: real protocol machines, an in-memory database, virtual time |
//! | [`conformance`](mod@conformance) | what a database must do to carry leases, as a suite on real servers |
//! | [`cluster`] | a cluster of its own in a migrated database, for tests on real nodes |
//! | [`condition`] | what a node shows of how its work is doing |
//! | [`proxy`] | a TCP proxy that refuses or black-holes connections on command |

#[cfg(feature = "conformance")]
pub mod cluster;
pub mod condition;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod proxy;
pub mod simulation;
