//! Consumers on a real Kafka broker: the one at `LEASEHOLD_TEST_KAFKA`. Each test has topics and a group of its own.
#![cfg(feature = "test-kafka")]
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test suite"
)]

mod bad_input;
mod broker;
mod database;
mod failures;
mod lease;
#[cfg(feature = "test-kafka-proxy")]
mod outages;
mod publishing;
#[cfg(feature = "test-kafka-tls")]
mod secure;

#[path = "../common/mod.rs"]
mod common;
