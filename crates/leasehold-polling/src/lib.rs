//! Polling inbound endpoints: a folder, a URL or a query, polled by the replica that holds the lease, and continued by the next
//! one exactly where it stopped.
//!
//! | module | what it is |
//! |---|---|
//! | [`poller`] | what is polled: the seam for sources of one's own |
//! | [`endpoint`] | the artifact that polls one, and brings what it finds to a handler |
//! | [`config`], [`schedule`] | what all have in common, from a file |
//! | `files` (feature `files`) | folders: whole files, or their records as a stream |
//! | `http` (feature `http`) | a URL, page by page |
//! | `sql` (feature `sql`) | a query with a watermark, or with a statement that marks what was claimed |
//! | [`park`] | what parked items say of themselves |
//! | `conformance` | what a poller must do, as a suite of tests (feature `conformance`) |
//!
//! # What is promised
//!
//! - It is polled only under a valid lease, checked right before.
//! - An item is done after its handler succeeded, and then its place is written down, fenced: the next holder goes on there. What was
//!   in flight at a crash, and what was done within the lag before it, comes again, with the same id.
//! - With [`Progress::InHandler`] the place is written by [`Message::record`](leasehold_core::message::Message::record) in the
//!   handler's own transaction: effect and progress commit together or not at all, and each item takes effect once.
//! - Attempts survive failover, also those of an item that takes its process with it.
//! - An item that fails holds up what its [`Order`](leasehold_core::dispatch::Order) says, and nothing else.

mod attempts;
pub mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod endpoint;
mod error;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "http")]
pub mod http;
mod once;
pub mod park;
pub mod poller;
pub mod schedule;
mod source;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(test)]
mod tests;

pub use config::{Exhausted, Polling, Progress, Retry};
pub use endpoint::Endpoint;
pub use error::Error;
#[cfg(feature = "files")]
pub use files::Files;
#[cfg(feature = "http")]
pub use http::Http;
pub use poller::Poller;
pub use schedule::Schedule;
#[cfg(feature = "sql")]
pub use sql::Sql;
