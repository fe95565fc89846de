//! RabbitMQ: a queue that one replica consumes.
//!
//! The broker is a second fence: by default the consumer is exclusive, and its tag is the artifact and the token, so that the
//! management page shows who holds what. The client's own recovery stays off: it would consume after the lease is lost.

mod address;
mod attempt;
pub mod config;
mod convert;
mod endpoint;
mod link;
mod publish;
mod publisher;
mod session;
mod source;

pub use config::{Argument, Declare, Fence, Key, QueueType, RabbitMqConfig};
pub use endpoint::{RabbitMq, RabbitMqEndpoint};
pub use publisher::RabbitMqPublisher;
