//! Coordination for replicas that share one relational database: leases, fencing and assignment.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`] | one replica's part in a cluster: what programs start |
//! | [`artifact`] | the plugin contract: named work that runs on one replica |
//! | [`lease`] | the right to run it, as the user's code sees it; fenced transactions |
//! | [`control`] | what operators do: pause, move, command, drain, evict; and what the cluster looks like |
//! | [`lead`] | an async function that runs on one replica |
//! | [`message`], [`handler`] | one message and what is done with it, for all plugins that handle messages |
//! | [`dispatch`] | brings messages to handlers: order, retries, drain, acknowledgement |
//! | [`dead`] | what is written beside a message that could not be handled |
//! | [`inbox`] | each message takes effect once, by its id |
//! | [`secret`], [`duration`], [`backoff`] | what configurations are made of; growing pauses |
//! | [`panic`](mod@panic) | what a panic says |
//! | [`supervise`] | being the parent of a service, so that its death is known at once |
//! | [`resolver`] | which node runs what: pure policies |
//! | [`status`], [`health`], [`telemetry`] | what a node shows of itself; whether it is well, for probes; metrics |
//! | [`protocol`] | the state machines that decide, without I/O and without a clock |
//! | [`store`] | the database: dialects, fences, checkpoints, the audit trail |
//! | [`cron`] | cron expressions in a time zone |
//! | [`timing`], [`clock`], [`schedule_clock`] | durations that fit together, monotonic time, the time of schedules |

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "mysql")))]
compile_error!("leasehold needs a database: enable its feature `sqlite`, `postgres` or `mysql`");

pub mod artifact;
pub mod backoff;
pub mod clock;
mod common;
pub mod control;
pub mod cron;
pub mod dead;
pub mod dispatch;
pub mod duration;
pub mod error;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub mod handler;
pub mod health;
pub mod inbox;
mod keeper;
pub mod lead;
pub mod lease;
mod machine;
pub mod message;
pub mod name;
pub mod node;
pub mod panic;
mod proof;
pub mod protocol;
pub mod resolver;
pub mod schedule_clock;
pub mod secret;
pub mod status;
pub mod store;
#[cfg(unix)]
pub mod supervise;
pub mod telemetry;
pub mod timing;
mod transaction;
#[cfg(feature = "failpoints")]
pub mod wall;
#[cfg(not(feature = "failpoints"))]
mod wall;

/// Of message bodies and keys, in the version that this crate's signatures name.
pub use bytes;
pub use error::{Error, LeaseLost};
