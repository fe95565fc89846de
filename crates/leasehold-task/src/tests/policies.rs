//! Overlap, interruption, retries, commands, and schedules that change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use leasehold_core::name::{ArtifactName, ClusterName};
use leasehold_core::store::audit;
use tokio::sync::{Semaphore, mpsc};

use super::{Cluster, PATIENCE, Seen, next, seen};
use crate::{Firing, Interruption, Misfire, Overlap, Retry, Task, history};

const PERIOD: i64 = 100;

fn t() -> ArtifactName {
    ArtifactName::new("t").unwrap()
}

/// A handler that tells of each firing and ends it when it is let go.
fn gated(
    task: Task,
    gate: &Arc<Semaphore>,
) -> (impl leasehold_core::artifact::Artifact, mpsc::UnboundedReceiver<Seen>) {
    let (send, inbox) = mpsc::unbounded_channel();
    let gate = Arc::clone(gate);
    let task = task.handler(move |firing: Firing| {
        let (sent, gate) = (send.send(seen(&firing)), Arc::clone(&gate));
        async move {
            gate.acquire().await?.forget();
            Ok(sent?)
        }
    });
    (task, inbox)
}

fn every_100_ms(overlap: Overlap) -> Task {
    Task::fixed_rate("t", Duration::from_millis(100)).unwrap().overlap(overlap)
}

/// Waits until so many slots have come due after `slot`.
async fn pass(slot: i64, slots: i64) {
    let due = slot + PERIOD * slots + PERIOD / 2;
    let left = due - chrono::Utc::now().timestamp_millis();
    tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_came_due_meanwhile_the_latest_is_queued() {
    Cluster::on_each(async |cluster| {
        let gate = Arc::new(Semaphore::new(0));
        let (task, mut inbox) = gated(every_100_ms(Overlap::QueueOne), &gate);
        let node = cluster.node("a", task).await;
        let (first, _) = next(&mut inbox).await;
        pass(first, 5).await;
        gate.add_permits(1);
        let (second, _) = next(&mut inbox).await;
        assert!(second >= first + 5 * PERIOD, "{first} {second}");
        assert_eq!(cluster.history().await.len(), 2, "the others did not fire");
        gate.add_permits(1000);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_due_meanwhile_is_skipped_and_the_history_says_so() {
    Cluster::on_each(async |cluster| {
        let gate = Arc::new(Semaphore::new(0));
        let (task, mut inbox) = gated(every_100_ms(Overlap::Skip), &gate);
        let node = cluster.node("a", task).await;
        let (first, _) = next(&mut inbox).await;
        pass(first, 5).await;
        gate.add_permits(1);
        let (second, _) = next(&mut inbox).await;
        let history = cluster.history().await;
        assert_eq!(history.len(), 3);
        assert_eq!(history[1].2.as_deref(), Some("skipped"));
        assert!(history[1].0 >= first + 5 * PERIOD && second == history[1].0 + PERIOD, "{history:?}");
        gate.add_permits(1000);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_allowed_are_under_way_at_once() {
    Cluster::on_each(async |cluster| {
        let gate = Arc::new(Semaphore::new(0));
        let (task, mut inbox) = gated(every_100_ms(Overlap::Allow { limit: 2 }), &gate);
        let node = cluster.node("a", task).await;
        let (first, _) = next(&mut inbox).await;
        let (second, _) = next(&mut inbox).await;
        assert_eq!(second, first + PERIOD);
        pass(second, 3).await;
        assert!(inbox.try_recv().is_err(), "a third one");
        gate.add_permits(1);
        let (third, _) = next(&mut inbox).await;
        assert!(third > second + 3 * PERIOD, "{second} {third}");
        gate.add_permits(1000);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_there_is_room_every_slot_fires_and_what_an_operator_asks_for() {
    Cluster::on_each(async |cluster| {
        let gate = Arc::new(Semaphore::new(0));
        let task = every_100_ms(Overlap::Allow { limit: 1000 }).threshold(PATIENCE);
        let (send, mut inbox) = mpsc::unbounded_channel();
        let held = Arc::clone(&gate);
        let task = task.handler(move |firing: Firing| {
            let (sent, gate) = (send.send(firing), Arc::clone(&held));
            async move {
                sent?;
                gate.acquire().await?.forget();
                Ok(())
            }
        });
        let node = cluster.node("a", task).await;
        let mut slots = vec![next(&mut inbox).await.slot().timestamp_millis()];
        node.control().fire_now(&t()).await.unwrap();
        let mut asked = false;
        while !asked || slots.len() < 10 {
            let firing: Firing = next(&mut inbox).await;
            if firing.is_scheduled() {
                slots.push(firing.slot().timestamp_millis());
            } else {
                asked = true;
            }
        }
        assert!(slots.windows(2).all(|pair| pair[1] == pair[0] + PERIOD), "{slots:?}");
        gate.add_permits(1000);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_firing_is_dropped_if_the_task_says_so() {
    Cluster::on_each(async |cluster| {
        let gate = Arc::new(Semaphore::new(0));
        let task = || every_100_ms(Overlap::QueueOne).interruption(Interruption::Drop);
        let (artifact, mut inbox) = gated(task(), &gate);
        let a = cluster.node("a", artifact).await;
        let (first, _) = next(&mut inbox).await;
        a.shutdown().await;
        gate.add_permits(1000);
        let (artifact, mut inbox) = gated(task(), &gate);
        let b = cluster.node("b", artifact).await;
        let (second, attempt) = next(&mut inbox).await;
        b.shutdown().await;
        assert!(second > first && attempt == 1);
        assert_eq!(cluster.history().await[0], (first, 2, Some("interrupted".to_owned())));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firing_that_no_holder_survives_is_given_up_and_the_next_slot_fires() {
    Cluster::on_each(async |cluster| {
        let gate = Arc::new(Semaphore::new(0));
        let task = || every_100_ms(Overlap::QueueOne).interruption(Interruption::Rerun { limit: 2 });
        let mut slots = Vec::new();
        for attempt in 1..=3 {
            let (artifact, mut inbox) = gated(task(), &gate);
            let node = cluster.node(&format!("n{attempt}"), artifact).await;
            let (slot, told) = next(&mut inbox).await;
            assert_eq!(told, attempt);
            slots.push(slot);
            node.shutdown().await;
        }
        gate.add_permits(1000);
        let (artifact, mut inbox) = gated(task(), &gate);
        let node = cluster.node("last", artifact).await;
        let (later, attempt) = next(&mut inbox).await;
        node.shutdown().await;
        assert!(
            slots.iter().all(|slot| *slot == slots[0]) && later > slots[0] && attempt == 1,
            "{slots:?} {later}"
        );
        let cluster_name = ClusterName::new(&cluster.name).unwrap();
        let history = history::latest(&cluster.db, &cluster_name, &t(), 1000).await.unwrap();
        let given_up = history.last().unwrap();
        assert_eq!(given_up.outcome.as_deref(), Some("interrupted"));
        assert!(given_up.error.as_ref().unwrap().contains("attempt 3 was interrupted"), "{given_up:?}");
        let trail = audit::latest(&cluster.db, &cluster_name, 1000).await.unwrap();
        assert!(trail.iter().any(|event| event.event.kind == "gave-up"), "{trail:?}");
    })
    .await;
}

/// Fails on its first three attempts, whoever makes them.
fn failing(
    send: mpsc::UnboundedSender<Seen>,
    calls: &Arc<AtomicU32>,
) -> impl leasehold_core::artifact::Artifact + use<> {
    let calls = Arc::clone(calls);
    let retry = Retry::attempts(5).backoff(Duration::from_millis(50), Duration::from_millis(400));
    Task::fixed_rate("t", Duration::from_secs(3600)).unwrap().retry(retry).handler(move |firing| {
        let (sent, call) = (send.send(seen(&firing)), calls.fetch_add(1, Ordering::Relaxed));
        async move {
            sent?;
            if call < 3 { Err("no luck")? } else { Ok(()) }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_and_failover_does_not_start_over() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel();
        let calls = Arc::default();
        let a = cluster.node("a", failing(send.clone(), &calls)).await;
        let (slot, first) = next(&mut inbox).await;
        assert_eq!((first, next(&mut inbox).await), (1, (slot, 2)));
        a.shutdown().await;
        let b = cluster.node("b", failing(send, &calls)).await;
        let mut last = 2;
        while last < 4 {
            // The node that left may have begun the third attempt.
            let (at, attempt) = next(&mut inbox).await;
            assert_eq!((at, attempt), (slot, last + 1));
            last = attempt;
        }
        let done = async || cluster.history().await[0].2.is_some();
        tokio::time::timeout(PATIENCE, async {
            while !done().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        b.shutdown().await;
        assert_eq!(cluster.history().await, [(slot, 4, Some("succeeded".to_owned()))]);
        let cluster_name = ClusterName::new(&cluster.name).unwrap();
        let fired = &history::latest(&cluster.db, &cluster_name, &t(), 10).await.unwrap()[0];
        assert_eq!((fired.attempts, fired.node.as_str(), fired.error.as_deref()), (4, "b", None));
        assert!(fired.duration().unwrap() >= chrono::TimeDelta::zero());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_attempt_that_fails_completes_the_slot() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<Seen>();
        let retry = Retry::attempts(2).backoff(Duration::from_millis(10), Duration::from_millis(10));
        let task = every_100_ms(Overlap::Queue).retry(retry).handler(move |firing| {
            let sent = send.send(seen(&firing));
            async move {
                sent?;
                Err("no luck")?
            }
        });
        let node = cluster.node("a", task).await;
        let (first, _) = next(&mut inbox).await;
        assert_eq!(next(&mut inbox).await, (first, 2));
        assert_eq!(next(&mut inbox).await, (first + PERIOD, 1));
        node.shutdown().await;
        assert_eq!(cluster.history().await[0], (first, 2, Some("failed".to_owned())));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fire_now_fires_once_on_the_holder_whoever_asks() {
    Cluster::on_each(async |cluster| {
        let (send, mut inbox) = mpsc::unbounded_channel::<(String, bool)>();
        let task = || {
            let send = send.clone();
            let task = Task::fixed_rate("t", Duration::from_secs(3600)).unwrap();
            task.initial_delay(Duration::from_secs(3600)).handler(move |firing: Firing| {
                let sent = send.send((firing.idempotency_key(), firing.is_scheduled()));
                async move { Ok(sent?) }
            })
        };
        let a = cluster.node("a", task()).await;
        a.wait(|status| status.runs("t")).await.unwrap();
        let b = cluster.node("b", task()).await;
        b.control().by("me").reason("to see it").fire_now(&t()).await.unwrap();
        let (key, scheduled) = next(&mut inbox).await;
        assert!(key.starts_with("t#") && !scheduled, "{key}");
        b.control().fire_now(&t()).await.unwrap();
        let (other, _) = next(&mut inbox).await;
        assert_ne!(key, other);
        a.shutdown().await;
        b.control().pause(&t()).await.unwrap();
        b.control().fire_now(&t()).await.unwrap();
        b.control().resume(&t()).await.unwrap();
        next(&mut inbox).await;
        b.shutdown().await;
        assert!(inbox.try_recv().is_err());
        assert_eq!(cluster.history().await.len(), 3);
        let name = ClusterName::new(&cluster.name).unwrap();
        let events = audit::latest(&cluster.db, &name, 100).await.unwrap();
        let said =
            |event: &audit::StoredEvent| event.event.detail.contains(r#""by":"me","reason":"to see it""#);
        assert!(events.iter().any(said), "{events:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_asks_for_waits_for_the_firing_under_way() {
    Cluster::on_each(async |cluster| {
        let gate = Arc::new(Semaphore::new(0));
        let begun = Arc::new(Semaphore::new(0));
        let (send, mut inbox) = mpsc::unbounded_channel();
        let (held, begins) = (Arc::clone(&gate), Arc::clone(&begun));
        let task = Task::once("t", chrono::Utc::now()).unwrap().misfire(Misfire::FireOnce).handler(
            move |firing: Firing| {
                let (send, gate) = (send.clone(), Arc::clone(&held));
                begins.add_permits(1);
                async move {
                    gate.acquire().await?.forget();
                    Ok(send.send(firing.is_scheduled())?)
                }
            },
        );
        let node = cluster.node("a", task).await;
        begun.acquire().await.unwrap().forget();
        node.control().fire_now(&t()).await.unwrap();
        let waiting = async || {
            let rows = cluster.sql("select count(*) as n from leasehold_command where cluster = :c").await;
            rows[0].try_get::<i64>("", "n").unwrap()
        };
        // Long enough that the holder has heard of it.
        pass(chrono::Utc::now().timestamp_millis(), 5).await;
        assert_eq!((waiting().await, begun.available_permits()), (1, 0), "it runs beside the other");
        gate.add_permits(2);
        assert!(next(&mut inbox).await);
        assert!(!next(&mut inbox).await);
        assert_eq!(waiting().await, 0);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_schedule_fires_what_was_due_before_and_nothing_of_its_own_past() {
    Cluster::on_each(async |cluster| {
        const HOUR: i64 = 3_600_000;
        let (send, mut inbox) = mpsc::unbounded_channel::<Seen>();
        let handler = |task: Task| {
            let send = send.clone();
            task.threshold(Duration::from_secs(1)).handler(move |firing| {
                let sent = send.send(seen(&firing));
                async move { Ok(sent?) }
            })
        };
        let hourly = || Task::fixed_rate("t", Duration::from_secs(3600)).unwrap().misfire(Misfire::FireAll { limit: 9 });
        let a = cluster.node("a", handler(hourly())).await;
        let (first, _) = next(&mut inbox).await;
        a.shutdown().await;
        // Two and a half hours pass.
        let shifted = first - 2 * HOUR - HOUR / 2;
        cluster.sql(&format!("update leasehold_firing set slot = {shifted} where cluster = :c")).await;
        let moved = "update leasehold_checkpoint set value = replace(value, ':before,', ':after,') where cluster = :c";
        cluster.sql(&moved.replace("before", &first.to_string()).replace("after", &shifted.to_string())).await;

        let minutely = Task::cron("t", "0 * * * * *").unwrap().misfire(Misfire::FireAll { limit: 9 });
        let changed = chrono::Utc::now().timestamp_millis();
        let b = cluster.node("b", handler(minutely)).await;
        assert_eq!(next(&mut inbox).await, (shifted + HOUR, 1), "due under the old one");
        assert_eq!(next(&mut inbox).await, (shifted + 2 * HOUR, 1));
        let events = async || {
            let sql = "select detail from leasehold_event where cluster = :c and kind = 'rescheduled'";
            cluster.sql(sql).await.iter().map(|row| row.try_get("", "detail").unwrap()).collect::<Vec<String>>()
        };
        tokio::time::timeout(PATIENCE, async {
            while events().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        b.shutdown().await;
        assert_eq!(events().await, ["from fixed-rate 1h to cron \"0 * * * * *\""]);
        while let Ok((slot, _)) = inbox.try_recv() {
            assert!(slot >= changed, "of the new one's past");
        }
    })
    .await;
}
