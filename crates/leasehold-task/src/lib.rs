//! Scheduled tasks that fire on one replica, each slot once.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use leasehold_core::node::Node;
//! use leasehold_task::{Firing, Misfire, Task};
//!
//! # async fn send_reminders(_: String) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn run() -> Result<(), leasehold_core::Error> {
//! let node = Node::builder("sqlite://orders.db?mode=rwc")
//!     .artifact(
//!         Task::fixed_rate("reminders", Duration::from_secs(60))?
//!             .misfire(Misfire::FireOnce)
//!             .timeout(Duration::from_secs(30))
//!             .handler(|firing: Firing| async move {
//!                 send_reminders(firing.idempotency_key()).await?;
//!                 Ok(())
//!             }),
//!     )
//!     .start()
//!     .await?;
//! # node.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! A **slot** is one scheduled instant of one task. It is claimed in the database, under the fence of the lease, before
//! the handler runs, and its completion is recorded under the fence as well. So whatever fails over when:
//!
//! - a slot that was completed is never fired again, and no slot is claimed that is not later than the last claimed one;
//! - a slot whose firing was interrupted (its replica died, was cut off, or was dropped at the end of the drain time)
//!   is fired again by the next holder, before anything else, and told so by [`Firing::attempt`]; not for ever, as
//!   [`Interruption`] says;
//! - slots that nobody could claim in time are treated as [`Misfire`] says.
//!
//! A handler that returns an error, panics or runs into the timeout is tried again as [`Retry`] says; the attempts are
//! counted in the database. After the last one the slot is completed, and the next one fires when it is due. What comes due
//! while a firing is under way is treated as [`Overlap`] says.
//!
//! An operator's `fire_now` (`leasehold_core::control`) fires once, on whichever node holds the lease, when nothing else of
//! the task is under way.
//!
//! A schedule that changes with a deploy takes effect when a node that has it runs the task: what was due under the old one
//! by then fires under the old one, and nothing of the new one that was before.
//!
//! Slots are told by the database's wall clock, so nodes agree on them. If that clock is set back, a task is silent until
//! the clock passes its last claimed slot: nothing fires twice.
//!
//! | module | what it is |
//! |---|---|
//! | [`task`] | the builder, and the artifact that it makes |
//! | [`config`] | the same from a file |
//! | [`firing`] | what a handler gets |
//! | [`history`] | what has fired, with outcome, duration and node |
//! | [`mod@outlook`] | what a task does next, as the database has it |
//! | [`schedule`] | when a task fires, and what to do about slots that are long past |

mod attempt;
mod claim;
pub mod config;
pub mod firing;
pub mod history;
pub mod outlook;
mod position;
mod retry;
mod run;
pub mod schedule;
pub mod task;
#[cfg(test)]
mod tests;
mod timetable;

/// Of zones and instants, in the versions that this crate's signatures name.
pub use {chrono, chrono_tz};

pub use config::TaskConfig;
pub use firing::Firing;
pub use schedule::{Interruption, Misfire, Overlap, Retry, Schedule};
pub use task::Task;
