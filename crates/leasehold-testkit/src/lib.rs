//! What plugin authors and users of leasehold test with.

pub mod simulation;
