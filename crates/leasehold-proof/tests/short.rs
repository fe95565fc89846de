//! A short round with fixed seeds, on each database and with each broker of this build; and three negative controls.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test suite")]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One cluster after the other: they are three processes each, and judged by the clock.
static ONE: Mutex<()> = Mutex::new(());

fn proof(arguments: &[&str]) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let done = Command::new(env!("CARGO_BIN_EXE_leasehold-proof")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{arguments:?}\n{said}\n{}", String::from_utf8_lossy(&done.stderr));
}

fn rounds(database: &str, seed: &str, rounds: &str) {
    rounds_with(database, seed, rounds, &[]);
}

fn rounds_with(database: &str, seed: &str, rounds: &str, brokers: &[&str]) {
    // A machine that runs suites does other things as well: late is no failure here, never is.
    let run = ["run", "--database", database, "--seed", seed, "--rounds", rounds, "--slack-ms", "20000"];
    proof(&[&run, brokers].concat());
}

#[cfg(any(
    feature = "test-postgres",
    feature = "test-mariadb",
    feature = "test-mysql",
    feature = "test-rabbitmq",
    feature = "test-kafka"
))]
fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} must name a server; `scripts/test` starts one and sets it"))
}

#[test]
fn sqlite() {
    rounds("sqlite", "3", "1");
}

#[cfg(feature = "test-postgres")]
#[test]
fn postgres() {
    rounds(&server("LEASEHOLD_TEST_POSTGRES"), "1", "3");
}

#[cfg(feature = "test-mariadb")]
#[test]
fn mariadb() {
    rounds(&server("LEASEHOLD_TEST_MARIADB"), "11", "2");
}

#[cfg(feature = "test-mysql")]
#[test]
fn mysql() {
    rounds(&server("LEASEHOLD_TEST_MYSQL"), "21", "2");
}

/// Faults of connections, a queue that is deleted, and connections that the broker closes. It is not restarted: others use it.
#[cfg(feature = "test-rabbitmq")]
#[test]
fn rabbitmq() {
    let (url, admin) = (server("LEASEHOLD_TEST_RABBITMQ"), server("LEASEHOLD_TEST_RABBITMQ_ADMIN"));
    rounds_with("sqlite", "31", "1", &["--rabbitmq", &url, "--rabbitmq-admin", &admin]);
}

/// Once in each way to consume a topic. Its connections are hurt where the broker was started for that, and it is deleted and made
/// again: the cluster's other parts are hurt in any case. The broker is not restarted: others use it.
#[cfg(feature = "test-kafka")]
#[test]
fn kafka() {
    let kafka = server("LEASEHOLD_TEST_KAFKA");
    let of = |variable| std::env::var(variable).ok();
    let (behind, proxy) = (of("LEASEHOLD_TEST_KAFKA_BEHIND"), of("LEASEHOLD_TEST_KAFKA_PROXY"));
    let mut brokers = vec!["--kafka", &kafka];
    if let (Some(behind), Some(proxy)) = (&behind, &proxy) {
        brokers.extend(["--kafka-behind", behind, "--kafka-proxy", proxy]);
    }
    rounds_with("sqlite", "41", "3", &brokers);
}

#[cfg(feature = "test-postgres")]
#[test]
fn mechanisms_that_are_switched_off_are_missed() {
    let server = server("LEASEHOLD_TEST_POSTGRES");
    let only = "fence-by-sub-select,release-before-drain,acknowledge-before-handle";
    proof(&["mutations", "--database", &server, "--seed", "1", "--seeds", "6", "--only", only]);
}
