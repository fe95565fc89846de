//! N replicas of a service share one relational database to decide which replica runs what.
//!
//! An **artifact** is deployed on every replica and runs on exactly one: while that replica holds its **lease**. When
//! the replica dies, hangs or is cut off, another takes over in about one `ttl`; when it leaves politely, in
//! milliseconds. Every lease has a fencing token, and a transaction fenced with it cannot commit after a newer one was
//! granted.
//!
//! ```no_run
//! use leasehold::prelude::*;
//!
//! # async fn warm_next() {}
//! # async fn run() -> Result<(), leasehold::Error> {
//! let node = Node::builder("sqlite://orders.db?mode=rwc")
//!     .cluster("orders")
//!     .artifact(Lead::new("cache-warmer", |lease: Lease| async move {
//!         while lease.is_valid() && !lease.is_revoked() {
//!             warm_next().await;
//!         }
//!         Ok(())
//!     })?)
//!     .start()
//!     .await?;
//! node.run_until_signal().await;
//! # Ok(()) }
//! ```
//!
//! | feature | brings |
//! |---|---|
//! | `sqlite` (default) | the embedded database: several processes of one machine share one file |
//! | `postgres` | PostgreSQL 15 and newer |
//! | `mysql` | MariaDB 10.11 and newer, MySQL 8 |
//! | `task` (default) | scheduled tasks |
//! | `processor` | message stores, and processors that forward from them |
//! | `polling-files`, `polling-http`, `polling-sql` | folders, URLs and queries that are polled; `polling` for all |
//! | `health` | the health of a node as a tower service, for probes over HTTP |
//! | `rabbitmq` | consumers of RabbitMQ queues |
//! | `kafka` | consumers of Kafka topics; `kafka-ssl` for TLS and SCRAM, by the system's OpenSSL |

/// Being the parent of a service, so that its death is known at once; `leasehold run` on the command line does the same.
#[cfg(unix)]
pub use leasehold_core::supervise;
pub use leasehold_core::{
    Error, LeaseLost, artifact, bytes, clock, control, dispatch, handler, health, lead, lease, message, name,
    node, resolver, secret, status, store, telemetry, timing,
};

/// The protocol's vocabulary: sessions, tokens, desired states.
pub mod protocol {
    pub use leasehold_core::protocol::action::{Refusal, Revocation};
    pub use leasehold_core::protocol::placement::Placement;
    pub use leasehold_core::protocol::request::Desired;
    pub use leasehold_core::protocol::{SessionId, Token};
}

/// Polling inbound endpoints: files, HTTP and SQL.
#[cfg(any(feature = "polling-files", feature = "polling-http", feature = "polling-sql"))]
pub use leasehold_polling as polling;
/// Message stores and processors.
#[cfg(feature = "processor")]
pub use leasehold_processor as processor;
/// Scheduled tasks.
#[cfg(feature = "task")]
pub use leasehold_task as task;

/// Event inbound endpoints: RabbitMQ and Kafka.
#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
pub use leasehold_event as event;

/// What most programs need.
pub mod prelude {
    pub use leasehold_core::Error;
    pub use leasehold_core::artifact::{Artifact, ArtifactError};
    pub use leasehold_core::dispatch::{Order, RetryPolicy};
    pub use leasehold_core::handler::{Handler, HandlerError, HandlerExt};
    pub use leasehold_core::lead::Lead;
    pub use leasehold_core::lease::Lease;
    pub use leasehold_core::message::Message;
    pub use leasehold_core::name::{ArtifactKind, ArtifactName};
    pub use leasehold_core::node::Node;
    pub use leasehold_core::protocol::placement::Placement;
    #[cfg(feature = "kafka")]
    pub use leasehold_event::kafka::{Kafka, Offsets};
    #[cfg(feature = "rabbitmq")]
    pub use leasehold_event::rabbitmq::RabbitMq;
    #[cfg(feature = "polling-files")]
    pub use leasehold_polling::files::{After, Complete, Files, Records};
    #[cfg(feature = "polling-http")]
    pub use leasehold_polling::http::{Http, Pages};
    #[cfg(feature = "polling-sql")]
    pub use leasehold_polling::sql::{Column, Late, Sql, Watermark};
    #[cfg(any(feature = "polling-files", feature = "polling-http", feature = "polling-sql"))]
    pub use leasehold_polling::{Progress, Schedule};
    #[cfg(feature = "processor")]
    pub use leasehold_processor::{Forward, Outgoing, Processor, SqlStore};
    #[cfg(feature = "task")]
    pub use leasehold_task::{Firing, Interruption, Misfire, Overlap, Retry, Task};
}

#[cfg(all(doctest, feature = "sqlite", feature = "task"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
