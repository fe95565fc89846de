//! What plugin authors and users of leasehold test with.
//!
//! | module | what it is |
//! |---|---|
//! | [`simulation`] | a cluster in one thread: real protocol machines, an in-memory database, virtual time |
//! | [`proxy`] | a TCP proxy that refuses or black-holes connections on command |

pub mod proxy;
pub mod simulation;
