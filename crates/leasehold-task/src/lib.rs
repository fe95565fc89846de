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
//!   is fired again by the next holder, before anything else, and told so by [`Firing::attempt`];
//! - slots that nobody could claim in time are treated as [`Misfire`] says.
//!
//! A handler that returns an error, panics or runs into the timeout has completed its slot: the outcome is recorded and
//! the next slot fires when it is due. Firings of one task never overlap: slots that come due meanwhile fire afterwards,
//! one after the other, as long as they are not older than the threshold.
//!
//! Slots are told by the database's wall clock, so nodes agree on them. If that clock is set back, a task is silent until
//! the clock passes its last claimed slot: nothing fires twice.
//!
//! | module | what it is |
//! |---|---|
//! | [`task`] | the builder, and the artifact that it makes |
//! | [`config`] | the same from a file |
//! | [`firing`] | what a handler gets |
//! | [`schedule`] | when a task fires, and what to do about slots that are long past |

mod claim;
pub mod config;
mod duration;
pub mod firing;
mod position;
mod retry;
mod run;
pub mod schedule;
pub mod task;
#[cfg(test)]
mod tests;

pub use config::TaskConfig;
pub use firing::Firing;
pub use schedule::{Misfire, Schedule};
pub use task::Task;
