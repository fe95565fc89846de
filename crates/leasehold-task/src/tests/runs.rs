//! Tasks on nodes that come and go.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Cluster, Seen, next, seen};
use crate::{Overlap, Task};

const PERIOD: i64 = 100;

fn every_100_ms() -> Task {
    // What is late on a machine under load fires all the same.
    Task::fixed_rate("t", Duration::from_millis(100)).unwrap().overlap(Overlap::Queue)
}

fn succeeded(rows: &[(i64, i64, Option<String>)]) -> bool {
    rows.iter().all(|(_, _, outcome)| outcome.as_deref() == Some("succeeded"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_slot_fires_once_at_its_rate_across_nodes() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<(Seen, String)>();
        let task = || {
            let send = send.clone();
            every_100_ms().handler(move |firing| {
                let sent = send.send((seen(&firing), firing.idempotency_key()));
                async move { Ok(sent?) }
            })
        };
        let a = cluster.node("a", task()).await;
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(next(&mut inbox).await);
        }
        let b = cluster.node("b", task()).await;
        a.shutdown().await;
        while let Ok(more) = inbox.try_recv() {
            all.push(more);
        }
        for _ in 0..5 {
            all.push(next(&mut inbox).await);
        }
        b.shutdown().await;
        while let Ok(more) = inbox.try_recv() {
            all.push(more);
        }

        for (n, ((slot, attempt), key)) in all.iter().enumerate() {
            let expected = all[0].0.0 + PERIOD * i64::try_from(n).unwrap();
            assert_eq!((*slot, *attempt), (expected, 1), "no slot is missing, none is double: {all:?}");
            assert!(key.starts_with("t@20") && key.ends_with('Z'), "{key}");
        }
        let history = cluster.history().await;
        assert_eq!(history.len(), all.len());
        assert!(succeeded(&history), "{history:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_is_kept_across_nodes_and_a_restart_of_all() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<(&str, i64)>();
        let task = |node: &'static str, count| {
            let send = send.clone();
            every_100_ms().count(count).handler(move |firing| {
                let sent = send.send((node, firing.slot().timestamp_millis()));
                async move { Ok(sent?) }
            })
        };
        let a = cluster.node("a", task("a", 5)).await;
        let mut all = vec![next(&mut inbox).await, next(&mut inbox).await];
        a.shutdown().await;
        let b = cluster.node("b", task("b", 5)).await;
        while all.len() < 5 {
            all.push(next(&mut inbox).await);
        }
        assert_eq!(all[4].0, "b", "{all:?}");
        b.shutdown().await;
        // All five have fired, and are old.
        let c = cluster.node("c", task("c", 5)).await;
        c.wait(|status| status.runs("t")).await.unwrap();
        c.shutdown().await;
        assert!(inbox.try_recv().is_err(), "{all:?}");
        let history = cluster.history().await;
        assert_eq!(history.len(), 5);
        assert!(succeeded(&history), "{history:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_firing_comes_back_as_the_second_attempt() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<Seen>();
        let task = || {
            let send = send.clone();
            every_100_ms().handler(move |firing| {
                let sent = send.send(seen(&firing));
                async move {
                    if firing.attempt() == 1 {
                        std::future::pending::<()>().await;
                    }
                    Ok(sent?)
                }
            })
        };
        let a = cluster.node("a", task()).await;
        let (slot, attempt) = next(&mut inbox).await;
        assert_eq!(attempt, 1);
        // Longer than the drain time: the firing is cut off.
        a.shutdown().await;
        assert_eq!(cluster.history().await, [(slot, 1, None)]);

        let b = cluster.node("b", task()).await;
        assert_eq!(next(&mut inbox).await, (slot, 2), "before anything else");
        assert_eq!(next(&mut inbox).await, (slot + PERIOD, 1), "and then the next");
        b.shutdown().await;
        assert_eq!(cluster.history().await[0], (slot, 2, Some("succeeded".to_owned())));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firing_under_way_is_finished_within_the_drain_time() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<Seen>();
        let task = || {
            let send = send.clone();
            every_100_ms().handler(move |firing| {
                let sent = send.send(seen(&firing));
                async move {
                    firing.lease().revoked().await;
                    Ok(sent?)
                }
            })
        };
        let a = cluster.node("a", task()).await;
        let (slot, _) = next(&mut inbox).await;
        a.shutdown().await;
        assert_eq!(cluster.history().await, [(slot, 1, Some("succeeded".to_owned()))]);

        let b = cluster.node("b", task()).await;
        assert_eq!(next(&mut inbox).await, (slot + PERIOD, 1));
        b.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_panics_and_timeouts_complete_their_slots() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<Seen>();
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let task = every_100_ms().timeout(Duration::from_millis(150)).handler(move |firing| {
            let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let sent = send.send(seen(&firing));
            assert_ne!(call, 0, "before there is a future");
            async move {
                match call {
                    1 => panic!("within it"),
                    2 => Err("no luck")?,
                    3 => std::future::pending::<()>().await,
                    _ => {}
                }
                Ok(sent?)
            }
        });
        let node = cluster.node("a", task).await;
        let mut slots = Vec::new();
        for _ in 0..5 {
            slots.push(next(&mut inbox).await.0);
        }
        node.shutdown().await;
        assert!(slots.is_sorted_by(|a, b| b - a == PERIOD), "{slots:?}");
        let rows =
            cluster.sql("select outcome, error from leasehold_firing where cluster = :c order by slot").await;
        let row = |n: usize| {
            let error: Option<String> = rows[n].try_get("", "error").unwrap();
            (rows[n].try_get::<String>("", "outcome").unwrap(), error.unwrap_or_default())
        };
        assert!(row(0).0 == "failed" && row(0).1.contains("before there is a future"), "{:?}", row(0));
        assert_eq!(row(1), ("failed".to_owned(), "panicked: within it".to_owned()));
        assert_eq!(row(2), ("failed".to_owned(), "no luck".to_owned()));
        assert_eq!(row(3), ("timed-out".to_owned(), "not done within 150ms".to_owned()));
        assert_eq!(row(4), ("succeeded".to_owned(), String::new()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_delay_counts_from_the_completion_on_another_node() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<Seen>();
        let task = || {
            let send = send.clone();
            // Longer than it takes to change nodes, or the test would show nothing.
            Task::fixed_delay("t", Duration::from_secs(3)).unwrap().handler(move |firing| {
                let sent = send.send(seen(&firing));
                async move { Ok(sent?) }
            })
        };
        let a = cluster.node("a", task()).await;
        let (first, _) = next(&mut inbox).await;
        a.shutdown().await;
        let completed = "select cast(extract(epoch from finished_at) * 1000 as bigint) as ms from leasehold_firing where cluster = :c";
        let on_sqlite = "select cast(round(unixepoch(finished_at, 'subsec') * 1000) as integer) as ms from leasehold_firing where cluster = :c";
        let on_mysql = "select cast(round(unix_timestamp(finished_at) * 1000) as signed) as ms from leasehold_firing where cluster = :c";
        let text = match cluster.url.split(':').next() {
            Some("sqlite") => on_sqlite,
            Some("mysql") => on_mysql,
            _ => completed,
        };
        let completed: i64 = cluster.sql(text).await[0].try_get("", "ms").unwrap();
        assert!(completed >= first);

        let b = cluster.node("b", task()).await;
        assert_eq!(next(&mut inbox).await, (completed + 3000, 1));
        b.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_initial_delay_is_waited_once() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<Seen>();
        let task = || {
            let send = send.clone();
            every_100_ms().initial_delay(Duration::from_millis(1500)).handler(move |firing| {
                let sent = send.send(seen(&firing));
                async move { Ok(sent?) }
            })
        };
        let a = cluster.node("a", task()).await;
        let stored = "select value from leasehold_checkpoint where cluster = :c and :key = 'schedule'";
        while cluster.sql(stored).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let value: String = cluster.sql(stored).await[0].try_get("", "value").unwrap();
        a.shutdown().await;
        let b = cluster.node("b", task()).await;
        let (first, _) = next(&mut inbox).await;
        assert!(value.starts_with(&format!("{{\"anchor\":{first},")), "{value}");
        b.shutdown().await;
    })
    .await;
}
