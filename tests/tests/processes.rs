//! Replicas as real processes: killed, frozen, stopped, cut off.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]

#[cfg(any(feature = "postgres", feature = "mysql-client"))]
#[path = "processes/networked.rs"]
mod networked;
#[cfg(any(feature = "postgres-servers", feature = "mariadb-servers", feature = "mysql-servers"))]
#[path = "processes/servers.rs"]
mod servers;
#[path = "processes/sqlite.rs"]
mod sqlite;

use std::time::Duration;

use leasehold_tests::event::Event;
use leasehold_tests::replica::Replicas;
use rustix::process::Signal;

/// Long enough that a busy machine does not look dead, short enough to wait for.
const TTL: Duration = Duration::from_millis(1200);

const NO_WORK: Duration = Duration::ZERO;

fn replicas() -> Replicas {
    Replicas::new(env!("CARGO_BIN_EXE_replica"), TTL)
}

async fn three(database: &str, work: Duration) -> (Replicas, String) {
    let mut replicas = replicas();
    for name in ["a", "b", "c"] {
        replicas.start(name, database, work).unwrap();
    }
    let holder = replicas.holder("").await;
    (replicas, holder)
}

async fn crash(database: &str) {
    let (mut replicas, victim) = three(database, NO_WORK).await;
    replicas.signal(&victim, Signal::KILL);
    replicas.reap(&victim).await;
    // The same node id at once: its predecessor is waited for, not refused.
    let mark = replicas.said().len();
    replicas.start(&victim, database, NO_WORK).unwrap();
    replicas.holder(&victim).await;
    let rejoined = |name: &str, event: &Event| name == victim && matches!(event, Event::Joined { .. });
    if !replicas.said()[mark..].iter().any(|(name, event)| rejoined(name, event)) {
        replicas.hear("the restarted one joins", rejoined).await;
    }
    replicas.finish().await;
}

async fn freeze(database: &str) {
    let (mut replicas, victim) = three(database, NO_WORK).await;
    let mut frozen = replicas.signal(&victim, Signal::STOP);
    while database.starts_with("sqlite") && !leasehold_tests::sqlite::writable(database).await {
        replicas.signal(&victim, Signal::CONT);
        replicas.listen(Duration::from_millis(30)).await;
        frozen = replicas.signal(&victim, Signal::STOP);
    }
    replicas.holder(&victim).await;
    replicas.listen(TTL).await;
    let thawed = replicas.signal(&victim, Signal::CONT);
    let joined = |name: &str, event: &Event| name == victim && matches!(event, Event::Joined { .. });
    replicas.hear("it rejoins as a new session", joined).await;
    replicas.listen(TTL * 2).await;
    let awake = replicas.said().iter().filter(|(name, _)| *name == victim).filter(|(_, event)| match event {
        Event::Valid { at, .. } => *at >= thawed,
        Event::Effect { from, until, .. } => *from > frozen && *until >= thawed,
        _ => false,
    });
    assert_eq!(awake.count(), 0, "it wakes up to nothing");
    replicas.finish().await;
}

async fn polite_stop(database: &str, work: Duration) {
    let (mut replicas, victim) = three(database, work).await;
    let asked = replicas.signal(&victim, Signal::TERM);
    let ended = |name: &str, event: &Event| name == victim && matches!(event, Event::Ended { .. });
    let (_, event) = replicas.hear("its run ends", ended).await;
    let Event::Ended { at, .. } = event else { unreachable!() };
    assert!(at - asked >= u64::try_from(work.as_millis()).unwrap(), "the work under way was waited for");
    replicas.holder(&victim).await;
    assert!(replicas.reap(&victim).await.success());
    replicas.finish().await;
}

async fn two_with_one_node_id(database: &str) {
    let (mut replicas, holder) = three(database, NO_WORK).await;
    replicas.start_as("impostor", &holder, database, NO_WORK).unwrap();
    let (_, refused) = replicas.hear("a refusal", |_, event| matches!(event, Event::Refused { .. })).await;
    let Event::Refused { error } = refused else { unreachable!() };
    assert!(
        error.contains("is already running") && error.contains("give each replica its own node id"),
        "{error}"
    );
    assert!(!replicas.reap("impostor").await.success());
    let impostor =
        |(name, event): &&(String, Event)| name == "impostor" && matches!(event, Event::Valid { .. });
    assert_eq!(replicas.said().iter().filter(impostor).count(), 0);
    replicas.finish().await;
}
