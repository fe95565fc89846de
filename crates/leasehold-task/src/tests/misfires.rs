//! What becomes of slots that nobody claimed in time.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Cluster, Seen, next, seen};
use crate::{Misfire, Task};

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

/// The first slots that fire, as hours after the anchor, when the last slot was half an hour ago and is merely late,
/// and three before it are misfired.
async fn fired(cluster: &Cluster, misfire: Misfire, count: usize) -> Vec<i64> {
    let anchor = chrono::Utc::now().timestamp_millis() - 3 * HOUR - 30 * MINUTE;
    cluster.set_anchor(anchor).await;
    let (send, mut inbox) = mpsc::unbounded_channel::<Seen>();
    let task = Task::fixed_rate("t", Duration::from_secs(3600)).unwrap();
    let task = task.misfire(misfire).threshold(Duration::from_secs(40 * 60)).handler(move |firing| {
        let sent = send.send(seen(&firing));
        async move { Ok(sent?) }
    });
    let node = cluster.node("a", task).await;
    let mut slots = Vec::new();
    for _ in 0..count {
        let (slot, attempt) = next(&mut inbox).await;
        assert_eq!(attempt, 1);
        slots.push((slot - anchor) / HOUR);
    }
    node.shutdown().await;
    assert!(inbox.try_recv().is_err(), "more than {count} fired");
    assert_eq!(cluster.history().await.len(), count);
    slots
}

#[tokio::test(flavor = "multi_thread")]
async fn skip_fires_none_of_them() {
    Cluster::on_each(async |cluster| assert_eq!(fired(&cluster, Misfire::Skip, 1).await, [3])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fire_once_fires_the_latest_of_them() {
    Cluster::on_each(async |cluster| assert_eq!(fired(&cluster, Misfire::FireOnce, 2).await, [2, 3])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fire_all_fires_as_many_as_allowed_oldest_first() {
    Cluster::on_each(async |cluster| {
        assert_eq!(fired(&cluster, Misfire::FireAll { limit: 2 }, 3).await, [1, 2, 3]);
    })
    .await;
}
