//! Clocks that jump: no storm, nothing twice. A node's wall clock is read by nothing that decides, so it has no test here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leasehold_core::artifact::Artifact;
use leasehold_core::clock::{BootClock, Clock, Instant};
use tokio::sync::mpsc;

use super::{Cluster, next};
use crate::{Firing, Misfire, Task};

const THRESHOLD: Duration = Duration::from_secs(1);
fn every_100_ms() -> (impl Artifact, mpsc::UnboundedReceiver<Firing>) {
    let (send, inbox) = mpsc::unbounded_channel();
    let task = Task::fixed_rate("t", Duration::from_millis(100)).unwrap();
    let task = task.misfire(Misfire::FireOnce).threshold(THRESHOLD).handler(move |firing: Firing| {
        let sent = send.send(firing);
        async move { Ok(sent?) }
    });
    (task, inbox)
}

fn increase(slots: &[i64]) -> bool {
    slots.windows(2).all(|pair| pair[0] < pair[1])
}

/// The machine's clock, and the time that a test has let it sleep.
#[derive(Debug, Default)]
struct Sleeper(AtomicU64);

impl Sleeper {
    fn sleep(&self, hours: u64) {
        self.0.fetch_add(hours * 3_600_000_000_000, Ordering::SeqCst);
    }
}

impl Clock for Sleeper {
    fn now(&self) -> Instant {
        BootClock.now() + Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laptop_that_slept_for_eight_hours_goes_on_under_a_higher_token_and_fires_nothing_twice() {
    Cluster::on_each(async |cluster| {
        let clock = Arc::new(Sleeper::default());
        let (task, mut inbox) = every_100_ms();
        let woken = Arc::clone(&clock);
        let node = cluster.builder("a").clock(woken).artifact(task).start().await.unwrap();
        let first = next(&mut inbox).await;
        let mut slots = vec![first.slot().timestamp_millis()];

        clock.sleep(8);
        // Nobody else was there to expire its session; its runs have ended all the same.
        loop {
            let firing = next(&mut inbox).await;
            // What the sleep interrupted comes again, and is told so.
            if firing.attempt() == 1 {
                slots.push(firing.slot().timestamp_millis());
            }
            if firing.lease().token() > first.lease().token() {
                break;
            }
        }
        assert!(!first.lease().is_valid());
        for _ in 0..5 {
            slots.push(next(&mut inbox).await.slot().timestamp_millis());
        }
        node.shutdown().await;
        assert!(increase(&slots), "{slots:?}");
        let history = cluster.history().await;
        let now = chrono::Utc::now().timestamp_millis();
        assert!(history.iter().all(|(slot, ..)| *slot <= now), "no slot of the eight hours: {history:?}");
    })
    .await;
}

/// A cluster whose server tells a time that a test may change: the schema has a function in the place of the system's.
#[cfg(feature = "test-postgres")]
async fn shifted() -> (Cluster, sea_orm::DatabaseConnection, String) {
    use leasehold_core::store::Target;
    use sea_orm::ConnectionTrait;

    let server = std::env::var("LEASEHOLD_TEST_POSTGRES").expect("LEASEHOLD_TEST_POSTGRES names a server");
    let db = Target::from_url(&server).unwrap().pool(1).unwrap();
    let schema = format!("t{}", uuid::Uuid::now_v7().simple());
    for text in [
        format!("create schema {schema}"),
        format!("create table {schema}.shift (by interval)"),
        format!("insert into {schema}.shift values ('0')"),
        format!(
            "create function {schema}.clock_timestamp() returns timestamptz language sql volatile as \
             $$select pg_catalog.clock_timestamp() + by from {schema}.shift$$"
        ),
    ] {
        db.execute_unprepared(&text).await.unwrap();
    }
    let separator = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{separator}options=-c%20search_path%3D{schema},pg_catalog");
    (Cluster::open(url, None).await, db, schema)
}

#[cfg(feature = "test-postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_clock_that_jumps_an_hour_ahead_and_back_brings_no_storm_and_nothing_twice() {
    use sea_orm::ConnectionTrait;

    use super::PATIENCE;

    const HOUR: i64 = 3_600_000;
    // Of 100 ms each: what may fire though it is late, and one that is older.
    const CAUGHT_UP: usize = 11;
    let (cluster, db, schema) = shifted().await;
    let shift = async |by: &str| {
        db.execute_unprepared(&format!("update {schema}.shift set by = '{by}'")).await.unwrap();
    };
    let (task, mut inbox) = every_100_ms();
    let node = cluster.node("a", task).await;
    let first = next(&mut inbox).await;
    let (session, lease) = (node.status().borrow().session, first.lease().clone());
    let mut slots = vec![first.slot().timestamp_millis()];

    shift("1 hour").await;
    let ahead = async |inbox: &mut mpsc::UnboundedReceiver<Firing>, slots: &mut Vec<i64>, from: i64| {
        loop {
            slots.push(next(inbox).await.slot().timestamp_millis());
            if slots.last().is_some_and(|slot| *slot > from) {
                return;
            }
        }
    };
    ahead(&mut inbox, &mut slots, first.slot().timestamp_millis() + HOUR).await;
    let late = slots.iter().filter(|slot| **slot > slots[0] + HOUR / 2).count();
    assert!(late <= CAUGHT_UP + 1, "a storm of {late}: {slots:?}");

    shift("0").await;
    let limit = BootClock.now() + PATIENCE;
    let real = || chrono::Utc::now() + chrono::TimeDelta::minutes(30);
    while lease.schedule_clock().now() > real() {
        assert!(BootClock.now() < limit, "the node has not noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Asked for by somebody, so that it is known that the run goes on, and that the schedule waits.
    let name = leasehold_core::name::ArtifactName::new("t").unwrap();
    node.control().fire_now(&name).await.unwrap();
    // What was claimed by the old time is under way; nothing else fires before the command.
    loop {
        let firing = next(&mut inbox).await;
        if !firing.is_scheduled() {
            break;
        }
        slots.push(firing.slot().timestamp_millis());
    }

    shift("1 hour").await;
    let last = slots[slots.len() - 1];
    ahead(&mut inbox, &mut slots, last + 500).await;
    assert!(increase(&slots), "{slots:?}");
    assert_eq!(node.status().borrow().session, session, "no session is lost by it");
    node.shutdown().await;
}
