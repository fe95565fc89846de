//! Event inbound endpoints: consumers of RabbitMQ and Kafka that consume on one replica, while it holds their lease.
//!
//! | module | what it is |
//! |---|---|
//! | `rabbitmq` (feature `rabbitmq`) | consumes a queue; publishes with confirms |
//! | `kafka` (feature `kafka`) | consumes topics; publishes with confirms |
//! | [`dead`] | what a dead letter says of itself |
//! | [`tls`] | how brokers are recognized |
//!
//! # What is promised
//!
//! A message is handled by the holder of the lease, and acknowledged after its handler succeeded; validity is checked
//! before every fetch, hand-over and acknowledgement. So nothing is lost, and after a crash no more comes again than was
//! unacknowledged: at most the prefetch.

pub mod dead;
mod error;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
pub mod tls;

pub use error::{Error, ErrorKind};
