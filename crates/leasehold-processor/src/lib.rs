//! Message stores, and processors that bring their messages to an endpoint, from one replica.
//!
//! An application appends messages to a store in its own transaction: they are there if it commits, and not otherwise. On
//! one replica, the one that holds the processor's lease, they are read and handed over, in order, until they are delivered or
//! parked where a person can see and replay them.
//!
//! ```no_run
//! use leasehold_core::node::Node;
//! use leasehold_processor::{Forward, Order, Outgoing, Processor, SqlStore};
//! use sea_orm::{DatabaseConnection, TransactionTrait};
//!
//! # async fn run(db: DatabaseConnection, order: serde_json::Value) -> Result<(), Box<dyn std::error::Error>> {
//! let outbox = SqlStore::new(&db, "outbox")?;
//! let node = Node::builder(&db)
//!     .artifact(
//!         Processor::new("crm-push", outbox.clone(), Forward::post("https://crm.example/orders/{key}")?)?
//!             .order(Order::PerKey(32))
//!             .park(),
//!     )
//!     .start()
//!     .await?;
//!
//! let txn = db.begin().await?;
//! // ... what the application writes ...
//! outbox.append(&txn, Outgoing::json(&order)?.key(&order["customer"])).await?;
//! txn.commit().await?;
//! # node.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! - A message that was appended is delivered at least once, or parked, or what [`Exhausted`](config::Exhausted) says: whatever
//!   fails over when, and also if its transaction commits after later ones were delivered.
//! - In the order of [`Order`]: of all, of each key, or none. A message that is tried again holds up what its order says, and
//!   nothing else. Messages of transactions that overlap have no order among them, unless they are appended by
//!   [`SqlStore::append_ordered`].
//! - Nothing is acknowledged by a holder that has lost its lease: the acknowledgement is fenced.
//! - What comes again after a crash is what was in flight, and what was delivered within the time that acknowledgements wait
//!   for each other ([`Acknowledge`](config::Acknowledge)). Each repetition has the same id, which [`Forward`] sends along.
//! - Attempts are kept in the store. A message that takes its process with it is parked, too.
//!
//! | module | what it is |
//! |---|---|
//! | [`processor`] | the builder, and the artifact that it makes |
//! | [`config`] | the same from a file |
//! | [`store`] | what a message store is; one in memory for tests |
//! | [`sql`] | the store in the database of the leases |
//! | [`outgoing`] | what is appended |
//! | [`forward`] | the handler that sends to an HTTP endpoint (feature `http`) |
//! | [`gate`], [`breaker`] | throttle, windows and sampling; the circuit breaker |
//! | [`handlers`] | the handler that appends what it gets to a store |

pub mod breaker;
mod circuit;
pub mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
#[cfg(feature = "http")]
pub mod forward;
pub mod gate;
mod gated;
pub mod handlers;
pub mod outgoing;
pub mod processor;
pub mod sql;
pub mod store;
#[cfg(test)]
mod tests;

pub use leasehold_core::dispatch::Order;

pub use breaker::Breaker;
pub use config::ProcessorConfig;
pub use error::Error;
#[cfg(feature = "http")]
pub use forward::{Answer, Forward, ForwardConfig};
pub use gate::{Throttle, Window};
pub use handlers::Store;
pub use outgoing::Outgoing;
pub use processor::Processor;
pub use sql::SqlStore;
pub use store::{MessageStore, Which};
