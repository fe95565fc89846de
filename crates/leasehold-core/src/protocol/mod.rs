//! The protocol: state machines without I/O, without a runtime and without a clock of their own.
//!
//! Events and instants go in, actions come out. One driver runs them on a database, one on an in-memory store with
//! virtual time, one inside a model checker. What is checked is what runs.

pub mod action;
mod board;
mod calls;
mod holdings;
pub mod ids;
mod joining;
mod leading;
pub mod machine;
pub mod memory;
mod observer;
pub mod placement;
pub mod planning;
pub mod request;
pub mod rules;
mod session;
pub mod waiting;

pub use action::{Action, Event};
pub use calls::{Call, CallId};
pub use ids::{Incarnation, SessionId, Token};
pub use machine::{Config, Machine};
pub use memory::MemoryDatabase;
pub use session::{SMALL_CLUSTER, Session};
