//! Endpoints of files as real processes: killed under load, and frozen.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]

use std::path::Path;
use std::time::Duration;

use leasehold::prelude::*;
use leasehold_tests::courier::{Couriers, first, in_order};
use rustix::process::Signal;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tempfile::TempDir;

const TTL: Duration = Duration::from_millis(1200);
const PATIENCE: Duration = Duration::from_secs(120);
const FILES: usize = 10;
const LINES: usize = 200;
const ALL: usize = FILES * LINES;

struct Stage {
    pollers: Couriers,
    db: DatabaseConnection,
    folder: TempDir,
}

impl Stage {
    async fn new(database: &str, in_handler: bool) -> Self {
        let folder = TempDir::new().unwrap();
        // The tables; they are there when a node has started.
        Node::builder(database).cluster("suite").start().await.unwrap().shutdown().await;
        let db = sea_orm::Database::connect(database).await.unwrap();
        db.execute_unprepared("create table booked (line bigint, node varchar(10), token bigint)")
            .await
            .unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        if in_handler {
            std::fs::write(folder.path().join("in-handler"), "").unwrap();
        }
        for file in 0..FILES {
            let lines: String = (file * LINES..(file + 1) * LINES).map(|line| format!("{line}\n")).collect();
            std::fs::write(folder.path().join("in").join(format!("{file:02}")), lines).unwrap();
        }
        let pollers = Couriers::new(env!("CARGO_BIN_EXE_poller"), database, TTL, folder.path());
        Self { pollers, db, folder }
    }

    /// Line and node of what was booked, in no particular order.
    async fn booked(&self) -> Vec<(i64, String, i64)> {
        let sql = Statement::from_string(
            self.db.get_database_backend(),
            "select line, node, token from booked order by token, line",
        );
        let rows = self.db.query_all_raw(sql).await.unwrap();
        rows.iter()
            .map(|row| {
                (
                    row.try_get("", "line").unwrap(),
                    row.try_get("", "node").unwrap(),
                    row.try_get("", "token").unwrap(),
                )
            })
            .collect()
    }

    async fn until(&self, what: &str, so: impl Fn(&[(i64, String, i64)]) -> bool) -> Vec<(i64, String, i64)> {
        let waiting = async {
            loop {
                let booked = self.booked().await;
                if so(&booked) {
                    return booked;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"))
    }

    async fn until_moved(&self) {
        let done = self.folder.path().join("in").join("done");
        let moved = async {
            while count(&done) < FILES {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, moved).await.expect("all files are moved");
        assert_eq!(count(&self.folder.path().join("in")), 1, "nothing else is there");
        assert_eq!(count(&done), FILES);
    }
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn each_once(booked: &[(i64, String, i64)]) {
    let mut lines: Vec<i64> = booked.iter().map(|(line, ..)| *line).collect();
    lines.sort_unstable();
    assert_eq!(lines, (0..ALL as i64).collect::<Vec<_>>(), "each line once");
}

/// Kills in the middle of files: each line takes effect once.
async fn kills_with_transactions(database: &str) {
    let mut stage = Stage::new(database, true).await;
    for name in ["a", "b"] {
        stage.pollers.start(name).unwrap();
    }
    for kill in 1..=3 {
        let booked = stage.until("lines are booked", |booked| booked.len() >= kill * 350).await;
        let victim = booked.last().unwrap().1.clone();
        stage.pollers.signal(&victim, Signal::KILL);
        stage.pollers.reap(&victim).await;
        stage.pollers.start(&victim).unwrap();
    }
    let booked = stage.until("all are booked", |booked| booked.len() >= ALL).await;
    each_once(&booked);
    stage.until_moved().await;
}

/// The same without transactions: nothing is lost, in order, and what comes again is what was not written down.
async fn kills(database: &str) {
    let mut stage = Stage::new(database, false).await;
    for name in ["a", "b"] {
        stage.pollers.start(name).unwrap();
    }
    for kill in 1..=3 {
        let seen = stage.pollers.until("lines are handled", |seen| seen.len() >= kill * 350).await;
        let victim = seen.last().unwrap().node.clone();
        stage.pollers.signal(&victim, Signal::KILL);
        stage.pollers.reap(&victim).await;
        stage.pollers.start(&victim).unwrap();
    }
    let seen = stage.pollers.until("all are handled", |seen| first(seen).len() >= ALL).await;
    assert_eq!(first(&seen).len(), ALL, "nothing else");
    assert!(in_order(&seen));
    // What takes at least a millisecond each, within 200 ms, and 64 that are settled together.
    assert!(seen.len() - ALL <= 3 * (200 + 64), "{} came again", seen.len() - ALL);
    stage.until_moved().await;
}

/// After a freeze of two ttl the old holder books nothing, and moves nothing.
#[cfg(feature = "postgres")]
async fn freeze(database: &str) {
    let mut stage = Stage::new(database, true).await;
    stage.pollers.start("a").unwrap();
    stage.until("the first one books", |booked| booked.len() > 100).await;
    stage.pollers.start("b").unwrap();
    stage.pollers.signal("a", Signal::STOP);
    stage.until("the other one takes over", |booked| booked.iter().any(|(_, node, _)| node == "b")).await;
    tokio::time::sleep(TTL).await;
    stage.pollers.signal("a", Signal::CONT);
    let booked = stage.until("all are booked", |booked| booked.len() >= ALL).await;
    each_once(&booked);
    stage.until_moved().await;
}

mod sqlite {
    use leasehold_tests::sqlite::database;

    use super::*;

    #[tokio::test]
    async fn killed_under_load_with_transactions() {
        let (_folder, url) = database();
        kills_with_transactions(&url).await;
    }

    #[tokio::test]
    async fn killed_under_load() {
        let (_folder, url) = database();
        kills(&url).await;
    }
}

#[cfg(any(feature = "postgres", feature = "mysql-client"))]
macro_rules! on_server {
    ($module:ident, $variable:literal, $($more:item)*) => {
        mod $module {
            use leasehold_tests::scratch::Scratch;

            #[tokio::test]
            async fn killed_under_load_with_transactions() {
                let scratch = Scratch::create($variable).await;
                super::kills_with_transactions(scratch.url()).await;
            }

            #[tokio::test]
            async fn killed_under_load() {
                let scratch = Scratch::create($variable).await;
                super::kills(scratch.url()).await;
            }

            $($more)*
        }
    };
}

#[cfg(feature = "postgres")]
on_server!(
    postgres,
    "LEASEHOLD_TEST_POSTGRES",
    #[tokio::test]
    async fn a_frozen_holder_books_and_moves_nothing() {
        let scratch = Scratch::create("LEASEHOLD_TEST_POSTGRES").await;
        super::freeze(scratch.url()).await;
    }
);
// MariaDB and MySQL end no transaction whose client was stopped in the middle of it: the lease follows when that one goes on.
#[cfg(feature = "mariadb")]
on_server!(mariadb, "LEASEHOLD_TEST_MARIADB",);
#[cfg(feature = "mysql")]
on_server!(mysql, "LEASEHOLD_TEST_MYSQL",);
