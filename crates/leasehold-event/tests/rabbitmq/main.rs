//! Consumers on a real RabbitMQ server: the one at `LEASEHOLD_TEST_RABBITMQ`, with its management API at
//! `LEASEHOLD_TEST_RABBITMQ_ADMIN`. Each test has a virtual host of its own.
#![cfg(feature = "test-rabbitmq")]
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
mod failures;
mod lease;
mod outages;
mod publishing;
#[cfg(feature = "test-rabbitmq-tls")]
mod secure;

#[path = "../common/mod.rs"]
mod common;
