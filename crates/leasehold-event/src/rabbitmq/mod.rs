//! RabbitMQ: a queue that one replica consumes.
//!
//! The broker is a second fence: by default the consumer is exclusive, and its tag is the artifact and the token, so that the
//! management page shows who holds what. The client's own recovery stays off: it would consume after the lease is lost.
//!
//! Two limits of the broker's own end what leasehold would keep:
//!
//! - From RabbitMQ 4.0 on, a quorum queue drops a message that came back 20 times, or gives it to the queue's dead-letter
//!   exchange. What was prefetched comes back with each crash of a holder, and with each connection that breaks. Give the queue
//!   `x-dead-letter-exchange`, or `x-delivery-limit` -1, as an argument or by a policy. RabbitMQ 3 has no such limit unless it
//!   is set, and takes no -1.
//! - A delivery that is not acknowledged for 30 minutes (`consumer_timeout`) makes it close the channel: everything that was
//!   prefetched comes again. Retries in place, and handlers, that last as long are for a queue with a longer `x-consumer-timeout`;
//!   otherwise let what fails be requeued ([`Place::Requeue`](leasehold_core::dispatch::Place::Requeue)), which acknowledges it.

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
