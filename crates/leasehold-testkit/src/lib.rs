//! What plugin authors and users of leasehold test with.
//!
//! | module | what it is |
//! |---|---|
//! | [`simulation`] | a cluster in one thread: real protocol machines, an in-memory database, virtual time |
//! | [`conformance`](mod@conformance) | what a database must do to carry leases, as a suite on real servers |
//! | [`fake`] | a cluster in one process that a test freezes, robs and fails over: to find mistakes of handlers |
//! | [`recorder`] | what handlers did under which tokens |
//! | [`clock`] | a clock that a test stops and sets ahead |
//! | [`cluster`] | a cluster of its own in a migrated database, for tests on real nodes |
//! | [`condition`] | what a node shows of how its work is doing |
//! | [`proxy`] | a TCP proxy that refuses, cuts, delays, holds or black-holes connections on command |

pub mod clock;
#[cfg(feature = "conformance")]
pub mod cluster;
pub mod condition;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(all(feature = "conformance", feature = "sqlite"))]
pub mod fake;
pub mod proxy;
pub mod recorder;
pub mod simulation;
