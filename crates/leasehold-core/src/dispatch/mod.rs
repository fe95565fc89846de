//! Brings messages from a source to a handler, in order, and back as acknowledgements: one engine for all plugins that
//! handle messages.
//!
//! | module | what it is |
//! |---|---|
//! | [`Engine`] | which message is handled next and what becomes of it: pure |
//! | [`Source`] | what a plugin implements: fetch, settle, stop |
//! | [`run`] | carries out what the engine decides, for as long as the lease is held |
//! | [`Order`], [`RetryPolicy`] | what a user chooses |
//!
//! A message is in the engine from its fetch to its settlement. The engine is bounded by its capacity; its source by what
//! it was asked for. Positions of a lane may be settled one by one (a queue) or by the lowest gap (a log): the engine
//! tells both.

mod driver;
mod engine;
mod lane;
mod order;
mod policy;
mod settlement;
mod source;
mod tasks;
#[cfg(test)]
mod tests;

pub use driver::{Settings, run, run_until_stopped};
pub use engine::{Engine, Entry, HandOver, LaneId, Outcome, Ticket, Verdict};
pub use order::{MAX_AT_ONCE, Order};
pub use policy::{DEFAULT_BACKOFF, DEFAULT_MAX_BACKOFF, MAX_ATTEMPTS, MAX_BACKOFF, Place, RetryPolicy, Then};
pub use settlement::{Action, Decision, Settlement};
pub use source::{Event, Fetched, Source};
