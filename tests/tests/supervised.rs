//! Deaths that somebody knows of: a parent, or whoever takes the lock file.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]

use std::time::Duration;

use leasehold_core::control::Control;
use leasehold_core::name::NodeId;
use leasehold_tests::event::{Event, now_ms};
use leasehold_tests::replica::Replicas;
use rustix::process::Signal;

/// So long that whatever happens within a part of it was not waited out.
const TTL: Duration = Duration::from_secs(20);
const AT_ONCE: Duration = Duration::from_secs(6);
const NO_WORK: Duration = Duration::ZERO;

fn replicas() -> Replicas {
    Replicas::new(env!("CARGO_BIN_EXE_replica"), TTL)
}

async fn three(database: &str) -> (Replicas, String) {
    let mut replicas = replicas().under(&[env!("CARGO_BIN_EXE_supervisor")]);
    for name in ["a", "b", "c"] {
        replicas.start(name, database, NO_WORK).unwrap();
    }
    let holder = replicas.holder("").await;
    (replicas, holder)
}

fn within(since: u64) {
    let took = Duration::from_millis(now_ms() - since);
    assert!(took < AT_ONCE, "{took:?} is no part of a ttl");
}

async fn a_death_that_the_parent_sees(database: &str) {
    let (mut replicas, victim) = three(database).await;
    let at = replicas.kill_supervised(&victim);
    replicas.holder(&victim).await;
    within(at);
    assert!(!replicas.reap(&victim).await.success(), "the parent says how its child ended");
    // Its node id is free, too.
    let mark = replicas.said().len();
    replicas.start(&victim, database, NO_WORK).unwrap();
    joined(&mut replicas, &victim, mark).await;
    within(at);
    replicas.finish().await;
}

async fn joined(replicas: &mut Replicas, name: &str, mark: usize) {
    let joins = |of: &str, event: &Event| of == name && matches!(event, Event::Joined { .. });
    if !replicas.said()[mark..].iter().any(|(of, event)| joins(of, event)) {
        replicas.hear("it joins", joins).await;
    }
}

async fn a_session_that_was_announced_anew(database: &str) {
    let (mut replicas, victim) = three(database).await;
    let control = Control::open(database, "suite").await.unwrap();
    let node = NodeId::new(&victim).unwrap();
    // Its session ends, and the next one is announced as well.
    control.evict(&node).await.unwrap();
    control.readmit(&node).await.unwrap();
    let mark = replicas.said().len();
    joined(&mut replicas, &victim, mark).await;
    // It is the one that may hold something now.
    for other in ["a", "b", "c"].into_iter().filter(|other| *other != victim) {
        control.drain(&NodeId::new(other).unwrap()).await.unwrap();
    }
    let holds =
        |name: &str, event: &Event| name == victim && matches!(event, Event::Valid { at, .. } if *at > 0);
    replicas.hear("it holds something", holds).await;
    for other in ["a", "b", "c"].into_iter().filter(|other| *other != victim) {
        control.readmit(&NodeId::new(other).unwrap()).await.unwrap();
    }
    let at = replicas.kill_supervised(&victim);
    replicas.holder(&victim).await;
    within(at);
    replicas.finish().await;
}

async fn the_death_of_the_parent(database: &str) {
    let (mut replicas, holder) = three(database).await;
    replicas.signal(&holder, Signal::KILL);
    let at = now_ms();
    replicas.reap(&holder).await;
    let goes_on = |name: &str, event: &Event| {
        name == holder && matches!(event, Event::Valid { at: then, .. } if *then > at + 500)
    };
    replicas.hear("the child goes on", goes_on).await;
    let moved = |(name, event): &&(String, Event)| {
        *name != holder && matches!(event, Event::Valid { at: then, .. } if *then > at)
    };
    assert_eq!(replicas.said().iter().filter(moved).count(), 0, "a parent that is gone proves nothing");
}

async fn a_restart_with_a_lock_file(database: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut replicas = replicas();
    replicas.lock_by(&folder.path().join("a.lock"));
    replicas.start("a", database, NO_WORK).unwrap();
    replicas.holder("").await;
    let token = replicas.token_above(0).await;

    replicas.start_as("second", "a", database, NO_WORK).unwrap();
    let (_, refused) = replicas.hear("a refusal", |_, event| matches!(event, Event::Refused { .. })).await;
    let Event::Refused { error } = refused else { unreachable!() };
    assert!(error.contains("holds the lock file"), "{error}");

    let at = replicas.signal("a", Signal::KILL);
    replicas.reap("a").await;
    replicas.start("a", database, NO_WORK).unwrap();
    assert!(replicas.token_above(token).await > token);
    within(at);
}

async fn a_stranger_is_refused(database: &str) {
    let supervisor = env!("CARGO_BIN_EXE_supervisor");
    // The shell is the child, and the replica its child.
    let mut replicas = replicas().under(&[supervisor, "sh", "-c", "\"$0\" \"$@\"; true"]);
    replicas.start("a", database, NO_WORK).unwrap();
    let (_, refused) = replicas.hear("a refusal", |_, event| matches!(event, Event::Refused { .. })).await;
    let Event::Refused { error } = refused else { unreachable!() };
    assert!(error.contains("is not the child") && error.contains("exec"), "{error}");
}

macro_rules! suite {
    ($database:ident, $make:expr) => {
        mod $database {
            #[tokio::test]
            async fn a_death_that_the_parent_sees() {
                let (_kept, url) = $make;
                super::a_death_that_the_parent_sees(&url).await;
            }

            #[tokio::test]
            async fn a_session_that_was_announced_anew() {
                let (_kept, url) = $make;
                super::a_session_that_was_announced_anew(&url).await;
            }

            #[tokio::test]
            async fn the_death_of_the_parent() {
                let (_kept, url) = $make;
                super::the_death_of_the_parent(&url).await;
            }

            #[tokio::test]
            async fn a_restart_with_a_lock_file() {
                let (_kept, url) = $make;
                super::a_restart_with_a_lock_file(&url).await;
            }

            #[tokio::test]
            async fn a_stranger_is_refused() {
                let (_kept, url) = $make;
                super::a_stranger_is_refused(&url).await;
            }
        }
    };
}

#[cfg(any(feature = "postgres", feature = "mysql-client"))]
async fn scratch(variable: &str) -> (leasehold_tests::scratch::Scratch, String) {
    let scratch = leasehold_tests::scratch::Scratch::create(variable).await;
    let url = scratch.url().to_owned();
    (scratch, url)
}

suite!(sqlite, leasehold_tests::sqlite::database());
#[cfg(feature = "postgres")]
suite!(postgres, super::scratch("LEASEHOLD_TEST_POSTGRES").await);
#[cfg(feature = "mariadb")]
suite!(mariadb, super::scratch("LEASEHOLD_TEST_MARIADB").await);
#[cfg(feature = "mysql")]
suite!(mysql, super::scratch("LEASEHOLD_TEST_MYSQL").await);
