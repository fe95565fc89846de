//! The statements, one by one, under a real lease.

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use leasehold_core::Error;
use leasehold_core::lead::Lead;
use leasehold_core::lease::Lease;
use leasehold_core::name::ArtifactName;
use leasehold_core::node::Node;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use tokio::sync::mpsc;

use super::{Cluster, PATIENCE, next};
use crate::claim::{Claim, Key, Record};
use crate::firing::Outcome;

/// The record of the artifact `t`, on a node that must be kept.
async fn record(cluster: &Cluster) -> (Node, Lease, Record) {
    let (send, mut leases) = mpsc::unbounded_channel();
    let lead = Lead::new("t", move |lease: Lease| {
        let send = send.clone();
        async move {
            send.send(lease.clone())?;
            lease.revoked().await;
            Ok(())
        }
    });
    let node = cluster.node("a", lead.unwrap()).await;
    let lease = next(&mut leases).await;
    let record = Record::open(lease.clone()).await.unwrap();
    (node, lease, record)
}

fn slot(slot: i64) -> Key {
    Key { slot, command: 0 }
}

async fn last(record: &Record) -> Option<(i64, Option<i64>)> {
    record.last().await.unwrap().map(|last| (last.slot, last.completed))
}

async fn unfinished(record: &Record) -> Vec<i64> {
    record.unfinished().await.unwrap().iter().map(|left| left.key.slot).collect()
}

async fn firing(cluster: &Cluster, slot: i64, token: i64, finished: bool) {
    let finished = if finished { "current_timestamp" } else { "null" };
    cluster
        .sql(&format!(
            "insert into leasehold_firing (cluster, artifact, slot, token, attempt, node, finished_at) \
             values (:c, 't', {slot}, {token}, 1, 'old', {finished})"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_claimed_once_and_completed_once() {
    Cluster::on_each(async |cluster| {
        let (_node, _, record) = record(&cluster).await;
        assert_eq!(record.last().await.unwrap(), None);
        assert_eq!(record.claim(slot(1000), 1).await.unwrap(), Claim::Taken(1));
        assert_eq!(
            record.claim(slot(1000), 1).await.unwrap(),
            Claim::Taken(1),
            "the same claim, its answer lost"
        );
        assert_eq!(last(&record).await, Some((1000, None)));
        record.complete(slot(1000), 1_795_507_200_007, &Outcome::Failed("no\0".to_owned())).await.unwrap();
        record.complete(slot(1000), 5, &Outcome::Succeeded).await.unwrap();
        assert_eq!(last(&record).await, Some((1000, Some(1_795_507_200_007))));
        assert_eq!(record.claim(slot(1000), 1).await.unwrap(), Claim::Done);
        assert_eq!(cluster.history().await, [(1000, 1, Some("failed".to_owned()))]);
        let rows = cluster.sql("select node, error from leasehold_firing where cluster = :c").await;
        assert_eq!(rows[0].try_get::<String>("", "node").unwrap(), "a");
        assert_eq!(rows[0].try_get::<String>("", "error").unwrap(), "no\u{fffd}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_token_left_is_taken_over_oldest_first() {
    Cluster::on_each(async |cluster| {
        firing(&cluster, 3000, 1, false).await;
        firing(&cluster, 1000, 1, false).await;
        firing(&cluster, 2000, 1, true).await;
        let (_node, _, record) = record(&cluster).await;
        assert_eq!(unfinished(&record).await, [1000, 3000]);
        assert_eq!(record.claim(slot(1000), 1).await.unwrap(), Claim::Taken(2));
        assert_eq!(record.claim(slot(1000), 1).await.unwrap(), Claim::Taken(2));
        assert_eq!(record.claim(slot(2000), 1).await.unwrap(), Claim::Done);
        assert_eq!(unfinished(&record).await, [3000]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_once_a_higher_token_was_granted() {
    Cluster::on_each(async |cluster| {
        firing(&cluster, 1000, 1, false).await;
        firing(&cluster, 500, 1, true).await;
        let (_node, lease, record) = record(&cluster).await;
        assert_eq!(record.claim(slot(2000), 1).await.unwrap(), Claim::Taken(1));
        let next = lease.token().0 + 1;
        let grant = format!("update leasehold_lease set token = {next}, holder = null where cluster = :c");
        cluster.sql(&grant).await;
        let before = cluster.history().await;
        for at in [1000, 2000, 3000] {
            assert!(matches!(record.claim(slot(at), 1).await, Err(Error::Lost(_))), "slot {at}");
        }
        assert!(matches!(record.complete(slot(2000), 5, &Outcome::Succeeded).await, Err(Error::Lost(_))));
        assert!(matches!(record.trim(i64::MAX).await, Err(Error::Lost(_))));
        assert_eq!(cluster.history().await, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_put_off_and_claimed_again() {
    Cluster::on_each(async |cluster| {
        let (_node, _, record) = record(&cluster).await;
        assert_eq!(record.claim(slot(1000), 7).await.unwrap(), Claim::Taken(1));
        for _ in 0..2 {
            record.retry(slot(1000), 5000, &Outcome::Failed("no".to_owned())).await.unwrap();
        }
        for _ in 0..2 {
            assert_eq!(record.claim(slot(1000), 0).await.unwrap(), Claim::Taken(2), "and its answer lost");
        }
        record.complete(slot(1000), 6000, &Outcome::Succeeded).await.unwrap();
        assert_eq!(record.last().await.unwrap().unwrap().fired, 7, "of its first claim");
        record.skip(2000, 7).await.unwrap();
        record.skip(2000, 7).await.unwrap();
        let last = record.last().await.unwrap().unwrap();
        assert_eq!((last.slot, last.fired), (2000, 7));
        let skipped = Some("skipped".to_owned());
        assert_eq!(cluster.history().await, [(1000, 2, Some("succeeded".to_owned())), (2000, 0, skipped)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_taken_away_with_its_first_claim() {
    Cluster::on_each(async |cluster| {
        let (node, _, record) = record(&cluster).await;
        let t = ArtifactName::new("t").unwrap();
        assert_eq!(record.command().await.unwrap(), None);
        node.control().fire_now(&t).await.unwrap();
        node.control().command(&t, "dance", "{}").await.unwrap();
        let (command, verb) = record.command().await.unwrap().unwrap();
        assert_eq!(verb, "fire");
        let key = Key { slot: 5000, command };
        for _ in 0..2 {
            assert_eq!(record.claim(key, 0).await.unwrap(), Claim::Taken(1), "also when the answer was lost");
        }
        assert_eq!(record.claim(Key { slot: 5001, command }, 0).await.unwrap(), Claim::Done, "once");
        assert_eq!(
            record.claim(slot(5000), 1).await.unwrap(),
            Claim::Taken(1),
            "a slot of the same moment is another one"
        );
        record.complete(key, 5100, &Outcome::Succeeded).await.unwrap();
        let last = record.last().await.unwrap().unwrap();
        assert_eq!((last.slot, last.fired), (5000, 1), "no command is a slot");
        let (other, verb) = record.command().await.unwrap().unwrap();
        assert_eq!(verb, "dance");
        record.refuse(other).await.unwrap();
        assert_eq!(record.command().await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trimming_spares_what_is_unfinished_recent_or_last() {
    Cluster::on_each(async |cluster| {
        for slot in [1000, 2000, 3000, 4000] {
            firing(&cluster, slot, 1, slot != 2000).await;
        }
        let (_node, _, record) = record(&cluster).await;
        let left = async || cluster.history().await.iter().map(|row| row.0).collect::<Vec<_>>();
        assert_eq!(record.trim(1000).await.unwrap(), 0);
        assert_eq!(record.trim(3000).await.unwrap(), 1);
        assert_eq!(left().await, [2000, 3000, 4000]);
        assert_eq!(record.trim(i64::MAX).await.unwrap(), 1);
        assert_eq!(left().await, [2000, 4000]);
    })
    .await;
}

/// A plan that reads the whole history would delay the first firing after a failover by as much.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_firings_are_found_through_the_index() {
    Cluster::on_each(async |cluster| {
        if cluster.db.get_database_backend() != sea_orm::DbBackend::Sqlite {
            return; // An empty table is scanned by PostgreSQL, whatever indexes it has.
        }
        let rows = cluster
            .sql(
                "explain query plan select slot from leasehold_firing where cluster = :c and artifact = 't' \
                 and finished_at is null and token < 5 order by slot limit 100",
            )
            .await;
        let plan: Vec<String> = rows.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
        assert!(plan.iter().any(|line| line.contains("leasehold_firing_unfinished")), "{plan:?}");
    })
    .await;
}

/// Records of so many artifacts, in the order of their names, on a node that must be kept.
async fn records(cluster: &Cluster, artifacts: usize) -> (Node, Vec<(String, Record)>) {
    let (send, mut leases) = mpsc::unbounded_channel();
    let mut node = cluster.builder("a");
    for n in 0..artifacts {
        let send = send.clone();
        let job = move |lease: Lease| {
            let send = send.clone();
            async move {
                send.send(lease.clone())?;
                lease.revoked().await;
                Ok(())
            }
        };
        node = node.artifact(Lead::new(format!("t{n:02}"), job).unwrap());
    }
    let node = node.start().await.unwrap();
    let mut records = Vec::new();
    while records.len() < artifacts {
        let lease = next(&mut leases).await;
        records.push((lease.artifact().to_string(), Record::open(lease).await.unwrap()));
    }
    records.sort_by(|a, b| a.0.cmp(&b.0));
    (node, records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_locked_holds_up_the_claims_of_no_other() {
    Cluster::on_each(async |cluster| {
        // Its writers wait for each other, whatever they write.
        if cluster.db.get_database_backend() == DbBackend::Sqlite {
            return;
        }
        let (_node, records) = records(&cluster, 5).await;
        let lock = cluster.db.begin().await.unwrap();
        let text = format!(
            "select token from leasehold_lease where cluster = '{}' and artifact = 't03' for update",
            cluster.name
        );
        lock.query_all_raw(Statement::from_string(cluster.db.get_database_backend(), text)).await.unwrap();

        let mut claims: FuturesUnordered<_> = records
            .iter()
            .map(async |(name, record)| (name, record.claim(slot(1000), 1).await.unwrap()))
            .collect();
        for _ in 0..4 {
            let (name, claim) = tokio::time::timeout(PATIENCE, claims.next()).await.unwrap().unwrap();
            assert!(name != "t03", "a claim under a lease that another has locked");
            assert_eq!(claim, Claim::Taken(1));
        }
        lock.rollback().await.unwrap();
        assert_eq!(claims.next().await.unwrap(), (&"t03".to_owned(), Claim::Taken(1)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_node_claim_together_and_each_under_its_own_lease() {
    const TASKS: usize = 20;
    Cluster::on_each(async |cluster| {
        let (_node, records) = records(&cluster, TASKS).await;
        // One was granted away, and the node has not heard of it; another's firing was completed.
        let (lost, _) = &records[3];
        cluster.sql(&format!("update leasehold_lease set token = token + 1 where cluster = :c and artifact = '{lost}'")).await;
        records[5].1.claim(slot(1000), 1).await.unwrap();
        records[5].1.complete(slot(1000), 1001, &Outcome::Succeeded).await.unwrap();

        let claims = join_all(records.iter().map(|(_, record)| record.claim(slot(1000), 1))).await;
        for (n, claim) in claims.iter().enumerate() {
            match (n, claim) {
                (3, Err(Error::Lost(_))) | (5, Ok(Claim::Done)) => {}
                (3 | 5, other) => panic!("claim {n}: {other:?}"),
                (_, claim) => assert_eq!(*claim.as_ref().unwrap(), Claim::Taken(1), "claim {n}"),
            }
        }
        let failed = Outcome::Failed("é \" \\ \0".to_owned());
        let completions = records.iter().map(|(_, record)| record.complete(slot(1000), 1002, &failed));
        for (n, completed) in join_all(completions).await.iter().enumerate() {
            assert_eq!(completed.is_err(), n == 3, "completion {n}: {completed:?}");
        }
        let rows = "select outcome, count(*) as firings, max(error) as error from leasehold_firing where cluster = :c \
                    and finished_at is not null group by outcome order by outcome";
        let rows = cluster.sql(rows).await;
        let count = |row: &sea_orm::QueryResult| row.try_get::<i64>("", "firings").unwrap();
        assert_eq!(rows.iter().map(count).collect::<Vec<_>>(), [18, 1]);
        assert_eq!(rows[0].try_get::<String>("", "error").unwrap(), "é \" \\ \u{fffd}");
    })
    .await;
}
