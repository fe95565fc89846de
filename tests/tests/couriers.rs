//! Processors as real processes: killed under load, frozen, and given a message that no process survives.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]

use std::time::Duration;

use leasehold::prelude::*;
use leasehold::processor::MessageStore;
use leasehold_tests::courier::{AT_ONCE, Couriers, POISON, STORE, first, in_order, messages};
use rustix::process::Signal;
use tempfile::TempDir;

const TTL: Duration = Duration::from_millis(1200);
/// Besides what is in flight, so many acknowledgements wait to be written at most.
const UNWRITTEN: usize = 400;

async fn stage(database: &str) -> (Couriers, SqlStore, TempDir) {
    let folder = TempDir::new().unwrap();
    // The tables; they are there when a node has started.
    Node::builder(database).cluster("suite").start().await.unwrap().shutdown().await;
    let db = sea_orm::Database::connect(database).await.unwrap();
    let couriers = Couriers::new(env!("CARGO_BIN_EXE_courier"), database, TTL, folder.path());
    (couriers, SqlStore::new(&db, STORE).unwrap(), folder)
}

async fn kills(database: &str) {
    let (mut couriers, store, _folder) = stage(database).await;
    const ALL: u64 = 2000;
    store.append_all(&messages(0, ALL)).await.unwrap();
    for name in ["a", "b"] {
        couriers.start(name).unwrap();
    }
    for kill in 1..=3 {
        let before = couriers.delivered().len();
        let seen = couriers.until("deliveries go on", |seen| seen.len() >= before + 150 * kill).await;
        let victim = seen.last().unwrap().node.clone();
        couriers.signal(&victim, Signal::KILL);
        couriers.reap(&victim).await;
        couriers.start(&victim).unwrap();
    }
    let seen = couriers.until("all are delivered", |seen| first(seen).len() >= 2000).await;
    assert_eq!(first(&seen).len(), 2000, "nothing else");
    assert!(in_order(&seen), "in order within each key");
    assert!(seen.len() - 2000 <= 3 * (AT_ONCE + UNWRITTEN), "{} came again", seen.len() - 2000);
}

/// A handler that aborts the process: the message is told from those beside it, and parked.
async fn poison(database: &str) {
    let (mut couriers, store, _folder) = stage(database).await;
    let mut all = messages(0, 40);
    all.insert(15, Outgoing::text(POISON).key("poison").id(POISON));
    store.append_all(&all).await.unwrap();
    let mut ends = 0;
    couriers.start("a").unwrap();
    while store.depth().await.unwrap().parked == 0 {
        assert!(ends < 6, "it takes down one process after the other");
        let parked = async {
            while store.depth().await.unwrap().parked == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::select! {
            () = parked => false,
            _ = couriers.reap("a") => true,
        };
        if ended {
            ends += 1;
            couriers.start("a").unwrap();
        }
    }
    // The one that was waited for is gone with the wait.
    couriers.start("b").unwrap();
    let seen = couriers.until("the others are delivered", |seen| first(seen).len() >= 40).await;
    assert!(in_order(&seen));
    let parked = store.parked(i64::MIN, 10).await.unwrap();
    assert_eq!(parked.iter().map(|parked| parked.message.as_str()).collect::<Vec<_>>(), [POISON]);
    assert!(parked[0].reason.contains("did not survive 3 attempts"), "{parked:?}");
}

/// After a freeze of two ttl: what the old holder still delivers counts for nothing, and comes again from the new one.
#[cfg(any(feature = "postgres", feature = "mysql-client"))]
async fn freeze(database: &str) {
    let (mut couriers, store, _folder) = stage(database).await;
    store.append_all(&messages(0, 3000)).await.unwrap();
    couriers.start("a").unwrap();
    couriers.until("the first delivers", |seen| seen.len() > 100).await;
    couriers.start("b").unwrap();
    couriers.signal("a", Signal::STOP);
    let frozen = couriers.delivered().len();
    couriers.until("the other one takes over", |seen| seen.last().is_some_and(|last| last.node == "b")).await;
    tokio::time::sleep(TTL).await;
    couriers.signal("a", Signal::CONT);
    let seen = couriers.until("all are delivered", |seen| first(seen).len() >= 3000).await;
    let newest = seen.iter().map(|delivery| delivery.token).max().unwrap();
    let old = seen[frozen..].iter().filter(|delivery| delivery.token < newest);
    let old: Vec<_> = old.collect();
    assert!(old.len() <= AT_ONCE, "what was in flight at most: {old:?}");
    for stale in old {
        assert!(
            seen.iter().any(|delivery| delivery.id == stale.id && delivery.token == newest),
            "acknowledged: {stale:?}"
        );
    }
    let empty = async {
        while store.depth().await.unwrap().waiting > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), empty).await.expect("all are acknowledged");
}

mod sqlite {
    use leasehold_tests::sqlite::database;

    use super::*;

    #[tokio::test]
    async fn killed_under_load() {
        let (_folder, url) = database();
        kills(&url).await;
    }

    #[tokio::test]
    async fn a_message_that_no_process_survives() {
        let (_folder, url) = database();
        poison(&url).await;
    }
}

#[cfg(any(feature = "postgres", feature = "mysql-client"))]
macro_rules! on_server {
    ($module:ident, $variable:literal) => {
        mod $module {
            use leasehold_tests::scratch::Scratch;

            #[tokio::test]
            async fn killed_under_load() {
                let scratch = Scratch::create($variable).await;
                super::kills(scratch.url()).await;
            }

            #[tokio::test]
            async fn a_message_that_no_process_survives() {
                let scratch = Scratch::create($variable).await;
                super::poison(scratch.url()).await;
            }

            #[tokio::test]
            async fn a_frozen_holder_acknowledges_nothing() {
                let scratch = Scratch::create($variable).await;
                super::freeze(scratch.url()).await;
            }
        }
    };
}

#[cfg(feature = "postgres")]
on_server!(postgres, "LEASEHOLD_TEST_POSTGRES");
#[cfg(feature = "mariadb")]
on_server!(mariadb, "LEASEHOLD_TEST_MARIADB");
#[cfg(feature = "mysql")]
on_server!(mysql, "LEASEHOLD_TEST_MYSQL");
