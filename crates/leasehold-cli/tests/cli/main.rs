//! The program as people use it, on clusters of real nodes and on each database of this build.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]

mod bad_input;
mod bed;
mod doctor;
mod explain;
mod look;
mod member;
mod nobody;
mod run;
mod steer;
mod stores;
