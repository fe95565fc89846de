//! The protocol: state machines without I/O, without a runtime and without a clock of their own.
//!
//! Events and instants go in, actions come out. One driver runs them on a database, one on an in-memory store with
//! virtual time, one inside a model checker. What is checked is what runs.

pub mod ids;
pub mod request;
pub mod rules;

pub use ids::{Incarnation, SessionId, Token};
