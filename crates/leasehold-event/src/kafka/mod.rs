//! Kafka: topics that one replica consumes.
//!
//! The client lives on a thread of its own: polling, committing, rebalancing and dropping never block the runtime.
//!
//! The broker is a second fence. Under the classic protocol the *artifact* is the static member of the group: the new
//! holder takes its place at once, and what the old one commits is refused. Under the new one ([`Protocol::Consumer`]) the
//! *second* member of a name would be refused, so there is none: a dead holder's partitions move when its session at the
//! broker times out, and a frozen one's commits are refused from then on.

mod client;
pub mod config;
mod convert;
mod endpoint;
mod once;
mod producer;
mod publisher;
mod shared;
mod source;
mod state;
mod worker;

pub use config::{KafkaConfig, Key, Mechanism, Offsets, Protocol, Sasl, Start};
pub use endpoint::{Kafka, KafkaEndpoint};
pub use publisher::KafkaPublisher;
