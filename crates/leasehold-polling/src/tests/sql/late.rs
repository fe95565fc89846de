//! Rows that commit late.

use std::time::Duration;

use leasehold_testkit::cluster::Cluster;
use sea_orm::{ConnectionTrait, TransactionTrait};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::table;
use crate::Sql;
use crate::sql::{Column, Kind, Late, Watermark};
use crate::tests::{SOON, next, start, teller};

/// A transaction that takes the first number commits after one that took the second; what comes of it, and of a third that follows.
async fn found(
    cluster: &Cluster,
    watermark: Watermark,
    third: bool,
) -> (Vec<String>, UnboundedReceiver<(String, u32)>, leasehold_core::node::Node) {
    let columns = "id bigserial primary key, body text, at timestamptz not null default now(), \
                   xact xid8 not null default pg_current_xact_id()";
    let table = table(cluster, columns).await;
    let (tell, mut told) = unbounded_channel();
    let query = format!("select id, body, at, xact from {table}");
    let sql = Sql::by_watermark("rows", &cluster.db, query, watermark).unwrap().body("body").every(SOON);
    let node = start(cluster, "a", sql.handler(teller(tell)).unwrap()).await;
    let early = cluster.db.begin().await.unwrap();
    early.execute_unprepared(&format!("insert into {table} (body) values ('early')")).await.unwrap();
    cluster.db.execute_unprepared(&format!("insert into {table} (body) values ('late')")).await.unwrap();
    let mut before = Vec::new();
    if third {
        // Polled over and over: whoever skips has skipped by then.
        before.push(next(&mut told).await.0);
    } else {
        tokio::time::sleep(SOON * 10).await;
        before.extend(told.try_recv().ok().map(|(text, _)| text));
    }
    early.commit().await.unwrap();
    cluster.db.execute_unprepared(&format!("insert into {table} (body) values ('last')")).await.unwrap();
    (before, told, node)
}

/// The twin without the remedy: a watermark by a sequence skips what commits late.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_alone_skips_it() {
    let cluster = Cluster::on("LEASEHOLD_TEST_POSTGRES").await;
    let (before, mut told, node) =
        found(&cluster, Watermark::new(Column::integer("id"), Late::Never), true).await;
    assert_eq!(before, ["late"]);
    assert_eq!(next(&mut told).await.0, "last", "what was early is never found");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lag_finds_it() {
    let cluster = Cluster::on("LEASEHOLD_TEST_POSTGRES").await;
    let late = Late::Lag { by: Duration::from_secs(2), column: Some("at".to_owned()) };
    let (before, mut told, node) = found(&cluster, Watermark::new(Column::integer("id"), late), false).await;
    assert!(before.is_empty(), "{before:?}");
    for text in ["early", "late", "last"] {
        assert_eq!(next(&mut told).await.0, text);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ids_of_transactions_find_it_however_long_it_took() {
    let cluster = Cluster::on("LEASEHOLD_TEST_POSTGRES").await;
    let watermark = Watermark::new(Column::new("xact", Kind::Xid), Late::Snapshot).tie(Column::integer("id"));
    let (before, mut told, node) = found(&cluster, watermark, false).await;
    assert!(before.is_empty(), "{before:?}: it may be that something earlier commits");
    for text in ["early", "late", "last"] {
        assert_eq!(next(&mut told).await.0, text);
    }
    node.shutdown().await;
}
