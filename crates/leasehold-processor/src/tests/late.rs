//! What the reader has passed by, and what comes after a quiet time.

use std::time::Duration;

use sea_orm::TransactionTrait;

use super::sql::{cluster, collect_every, is_sqlite, next, on_each};
use crate::Order;
use crate::outgoing::Outgoing;
use crate::store::MessageStore;

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_quiet_time_is_delivered_however_seldom_the_store_is_looked_at() {
    on_each(async |bed| {
        let (node, mut seen) = collect_every(&bed, "a", Order::Ordered, Duration::from_secs(1)).await;
        for text in ["first", "second"] {
            bed.store.append_all(&[Outgoing::text(text)]).await.unwrap();
            assert_eq!(next(&mut seen).await, text);
            // Several looks find nothing.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        node.shutdown().await;
    })
    .await;
}

/// One is appended, but not committed; a later one of another key is, and is delivered; then the first commits, and only
/// then another one of its key is appended.
#[tokio::test(flavor = "multi_thread")]
async fn appends_that_do_not_overlap_keep_their_order_though_the_reader_has_passed_the_first() {
    for order in [Order::PerKey(4), Order::Ordered] {
        on_each(async |bed| {
            if is_sqlite(&bed) {
                return; // It has one writer at a time: ids are in the order of commits.
            }
            let (node, mut seen) = collect_every(&bed, "a", order, Duration::from_millis(10)).await;
            let db = cluster(&bed);
            for round in 0..10 {
                let text = |of: &str| format!("{of} {round}");
                let late = db.begin().await.unwrap();
                bed.store.append(&late, Outgoing::text(text("first")).key("k")).await.unwrap();
                bed.store.append_all(&[Outgoing::text(text("other")).key("o")]).await.unwrap();
                assert_eq!(next(&mut seen).await, text("other"));
                late.commit().await.unwrap();
                bed.store.append_all(&[Outgoing::text(text("second")).key("k")]).await.unwrap();
                assert_eq!(next(&mut seen).await, text("first"), "{order:?}");
                assert_eq!(next(&mut seen).await, text("second"), "{order:?}");
            }
            node.shutdown().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_to_a_key_with_much_behind_it_is_not_stuck() {
    on_each(async |bed| {
        if is_sqlite(&bed) {
            return;
        }
        let db = cluster(&bed);
        let late = db.begin().await.unwrap();
        bed.store.append(&late, Outgoing::text("late").key("k")).await.unwrap();
        // More than are held of one key.
        let many: Vec<_> = (0..1000).map(|n| Outgoing::text(n.to_string()).key("k")).collect();
        bed.store.append_all(&many).await.unwrap();
        let (node, mut seen) = collect_every(&bed, "a", Order::PerKey(4), Duration::from_millis(10)).await;
        assert_eq!(next(&mut seen).await, "0");
        late.commit().await.unwrap();
        // Without an end, as under a steady load.
        let mut wait = 0..100_000;
        while next(&mut seen).await != "late" {
            let n = wait.next().expect("it comes while others of its key wait");
            bed.store.append_all(&[Outgoing::text(n.to_string()).key("k")]).await.unwrap();
        }
        node.shutdown().await;
    })
    .await;
}
