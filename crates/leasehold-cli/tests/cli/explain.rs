//! Each reason, in the situation in which it is the answer.

use std::time::Duration;

use leasehold_core::artifact::ArtifactError;
use leasehold_core::lead::Lead;
use leasehold_core::lease::Lease;
use leasehold_core::protocol::placement::Placement;
use leasehold_core::resolver::{Problem, ResolveError, Resolver};
use leasehold_task::Task;
use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use tokio::sync::watch;

use crate::bed::{Bed, PATIENCE, job, on_each, reason};

#[track_caller]
fn says(reason: &serde_json::Value, parts: &[&str]) {
    let text =
        format!("{} / {}", reason["text"].as_str().unwrap(), reason["remedy"].as_str().unwrap_or_default());
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn held_and_since_when() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        says(&bed.until_explained("import", "held").await, &["a holds it"]);
        let since = |answer: &serde_json::Value| {
            reason(answer, "held").unwrap()["text"].as_str().unwrap().contains("since")
        };
        bed.until(&["explain", "import"], since).await;
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn paused_by_whom_and_when() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let asked = ["pause", "import", "--by", "ops", "--reason", "bank is closed", "--wait"];
        bed.ask(&asked).await.well();
        // Who asks again is not who paused it.
        bed.ask(&["pause", "import", "--by", "another"]).await.well();
        let paused = bed.until_explained("import", "paused").await;
        says(&paused, &["paused by ops at 20", "(bank is closed)", "leasehold resume"]);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn deployed_by_nobody_and_no_node_at_all() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        let other = bed.0.builder("b").artifact(job("other")).start().await.unwrap();
        node.shutdown().await;
        says(&bed.until_explained("import", "not-deployed").await, &["by no node", "leasehold forget"]);
        other.shutdown().await;
        says(
            &bed.until_explained("import", "no-node").await,
            &["no node of the cluster lives", "start a node"],
        );
    })
    .await;
}

#[tokio::test]
async fn fewer_nodes_than_it_asks_for() {
    on_each(async |bed: Bed| {
        let placement = Placement::active_passive().min_nodes(3);
        let node = bed.0.builder("a").placement(placement).artifact(job("import")).start().await.unwrap();
        let few = bed.until_explained("import", "too-few-nodes").await;
        says(&few, &["waits for 3 nodes", "1 take part", "min_nodes"]);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn the_node_that_could_was_drained() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let asked = ["drain", "a", "--by", "ops", "--reason", "new disk", "--wait"];
        bed.ask(&asked).await.well();
        let drained = bed.until_explained("import", "draining").await;
        says(
            &drained,
            &["a, which has deployed it, was drained by ops at", "(new disk)", "leasehold undrain a"],
        );
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn pinned_to_nodes_that_are_not_there_or_drained() {
    on_each(async |bed: Bed| {
        let placement = Placement::pinned(["a", "z"]).unwrap();
        let a = bed.0.builder("a").placement(placement.clone()).artifact(job("import"));
        let a = a.start().await.unwrap();
        bed.until_held("import", "a").await;
        let b = bed.0.builder("b").placement(placement).artifact(job("import")).start().await.unwrap();
        bed.ask(&["drain", "a", "--by", "ops", "--wait"]).await.well();
        let pinned = bed.until_explained("import", "no-pinned-node").await;
        says(&pinned, &["pinned to a, z", "none takes part", "start one of these nodes"]);
        let drained = bed.until_explained("import", "draining").await;
        says(&drained, &["a, which has deployed it, was drained by ops at", "leasehold undrain a"]);
        let codes = bed.json(&["explain", "import"]).await;
        assert!(reason(&codes, "joining").is_none(), "b, which may not run it, is no reason: {codes}");
        a.shutdown().await;
        b.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn no_node_has_its_labels() {
    on_each(async |bed: Bed| {
        let placement = Placement::active_passive().label("zone", "eu");
        let labelled = bed.0.builder("a").label("zone", "eu").placement(placement.clone());
        let a = labelled.artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let b = bed.0.builder("b").placement(placement).artifact(job("import")).start().await.unwrap();
        bed.ask(&["drain", "a", "--wait"]).await.well();
        let labels = bed.until_explained("import", "no-labelled-node").await;
        says(&labels, &["has the labels of its placement", "start a node with these labels"]);
        says(&bed.until_explained("import", "draining").await, &["a, which has deployed it, was drained"]);
        a.shutdown().await;
        b.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn its_holder_drains_and_nobody_else_may_have_it() {
    on_each(async |bed: Bed| {
        let stubborn = Lead::new("import", |_| std::future::pending()).unwrap();
        let node = bed.0.builder("a").drain_timeout(Duration::from_secs(600)).artifact(stubborn);
        let node = node.start().await.unwrap();
        bed.until_held("import", "a").await;
        bed.ask(&["drain", "a"]).await.well();
        let nowhere = bed.until_explained("import", "nowhere-else").await;
        says(&nowhere, &["a, which holds it, drains", "start another node"]);
        drop(node);
    })
    .await;
}

#[tokio::test]
async fn moved_to_a_node_that_is_not_there_any_more() {
    on_each(async |bed: Bed| {
        let a = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        let b = bed.0.builder("b").artifact(job("import")).start().await.unwrap();
        bed.ask(&["move", "import", "--to", "b", "--wait"]).await.well();
        b.shutdown().await;
        bed.until_held("import", "a").await;
        let preferred = bed.until_explained("import", "preferred").await;
        says(&preferred, &["an operator moved it to b, but it does not take part", "leasehold unmove"]);
        a.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn commands_wait_for_a_holder() {
    on_each(async |bed: Bed| {
        let hourly = Task::fixed_rate("hourly", Duration::from_secs(3600)).unwrap();
        let node = bed.0.builder("a").artifact(hourly.handler(|_| async { Ok(()) })).start().await.unwrap();
        bed.until_held("hourly", "a").await;
        bed.ask(&["pause", "hourly", "--wait"]).await.well();
        bed.ask(&["fire", "hourly"]).await.well();
        bed.ask(&["fire", "hourly"]).await.well();
        let commands = bed.until_explained("hourly", "commands").await;
        says(&commands, &["2 commands wait for its holder, the oldest (fire) since 20"]);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn nobody_leads() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        // A node that drains stands for no election.
        node.drain().await.unwrap();
        bed.until_explained("import", "draining").await;
        let sql = format!("update leasehold_cluster set leader = null where name = '{}'", bed.0.name);
        bed.0.db.execute_unprepared(&sql).await.unwrap();
        says(&bed.until_explained("import", "no-leader").await, &["no node leads", "stands for election"]);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_node_is_kept_out_after_failures_and_until_when() {
    on_each(async |bed: Bed| {
        let failing = |_: Lease| async { Err::<(), _>(ArtifactError::message("no such queue")) };
        // Alone, it is tried again and again, and passed over for longer each time: sooner or later that is seen.
        let a = bed.0.builder("a").artifact(Lead::new("import", failing).unwrap()).start().await.unwrap();
        let kept = bed.until_explained("import", "kept-out").await;
        let b = bed.0.builder("b").artifact(job("import")).start().await.unwrap();
        says(&kept, &["a is passed over after", "no such queue", "a restart of that node forgets it"]);
        let number = |before: &str| {
            let text = kept["text"].as_str().unwrap().split_once(before).unwrap().1;
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let (failures, beats, seconds) = (number("after "), number("for "), number("about "));
        // A renewal is due each quarter of a ttl.
        let expected = (beats as f64 * 0.4).round() as u64;
        assert!(failures >= 1 && beats >= 1 && seconds == expected, "{kept}");
        bed.until_held("import", "b").await;
        a.shutdown().await;
        b.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn its_last_run_failed() {
    on_each(async |bed: Bed| {
        let failing = |_: Lease| async { Err::<(), _>(ArtifactError::message("no such queue")) };
        let node = bed.0.builder("a").artifact(Lead::new("import", failing).unwrap()).start().await.unwrap();
        says(&bed.until_explained("import", "failed").await, &["failed on a at 20", "no such queue"]);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_target_is_set_and_the_holder_still_drains() {
    on_each(async |bed: Bed| {
        let (done, ended) = watch::channel(false);
        let slow = move |lease: Lease| {
            let mut ended = ended.clone();
            async move {
                lease.revoked().await;
                ended.wait_for(|ended| *ended).await?;
                Ok(())
            }
        };
        let long = Duration::from_secs(600);
        let a = bed.0.builder("a").drain_timeout(long).artifact(Lead::new("import", slow).unwrap());
        let a = a.start().await.unwrap();
        bed.until_held("import", "a").await;
        let b = bed.0.builder("b").artifact(job("import")).start().await.unwrap();
        bed.ask(&["move", "import", "--to", "b"]).await.well();
        let moving = bed.until_explained("import", "moving").await;
        says(&moving, &["it moves to b; a has not ended its run yet", "drain time"]);
        done.send_replace(true);
        bed.until_held("import", "b").await;
        a.shutdown().await;
        b.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn the_database_has_a_new_incarnation() {
    on_each(async |bed: Bed| {
        // Long enough that nobody adopts it meanwhile.
        let node = bed.0.builder("a").max_ttl(Duration::from_secs(600)).artifact(job("import"));
        let node = node.start().await.unwrap();
        bed.until_held("import", "a").await;
        let sql =
            format!("update leasehold_cluster set incarnation = 'before' where name = '{}'", bed.0.name);
        bed.0.db.execute_unprepared(&sql).await.unwrap();
        // Once the node has told when its wait began, which its audit trail does a moment later.
        let left = async || {
            let new = bed.until_explained("import", "new-incarnation").await;
            says(&new, &["restarted or failed over", "wait"]);
            let text = new["text"].as_str().unwrap().to_owned();
            let (_, left) = text.split_once("in about ")?;
            left.trim_end_matches(" s").parse::<f64>().ok()
        };
        let counts = async {
            let first = loop {
                if let Some(left) = left().await {
                    break left;
                }
            };
            assert!((540.0..=600.0).contains(&first), "{first}");
            while left().await.is_none_or(|left| left >= first) {}
        };
        tokio::time::timeout(PATIENCE, counts).await.expect("it counts down");
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_transaction_of_a_users_holds_the_lease() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        bed.ask(&["pause", "import", "--wait"]).await.well();
        // As a fence takes it.
        let lock = match bed.0.db.get_database_backend() {
            DbBackend::Postgres => "select 1 from leasehold_lease where cluster = ':c' for share",
            DbBackend::MySql => "select 1 from leasehold_lease where cluster = ':c' lock in share mode",
            _ => "update leasehold_lease set token = token where cluster = ':c'",
        };
        let sqlite = bed.0.db.get_database_backend() == DbBackend::Sqlite;
        let txn = bed.0.db.begin().await.unwrap();
        txn.execute_unprepared(&lock.replace(":c", &bed.0.name)).await.unwrap();
        let locked = bed.until_explained("import", "locked").await;
        let parts: &[&str] = match sqlite {
            true => &["SQLite does not tell which process"],
            false => &["holds the lease's row", "backend ", "of user ", "open for "],
        };
        says(&locked, parts);
        txn.rollback().await.unwrap();
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_task_waits_for_its_next_slot() {
    on_each(async |bed: Bed| {
        let hourly = Task::fixed_rate("hourly", Duration::from_secs(3600)).unwrap();
        let node = bed.0.builder("a").artifact(hourly.handler(|_| async { Ok(()) })).start().await.unwrap();
        let fired = |answer: &serde_json::Value| answer["schedule"]["last_ms"].is_i64();
        let answer = bed.until(&["explain", "hourly"], fired).await;
        let schedule = &answer["schedule"];
        assert_eq!(schedule["schedule"], "fixed-rate 1h");
        let (last, next) = (schedule["last_ms"].as_i64().unwrap(), schedule["next_ms"].as_i64().unwrap());
        assert_eq!(next - last, 3_600_000);
        let text = bed.ask(&["explain", "hourly"]).await.well();
        assert!(text.contains("the next fires at 20"), "{text}");
        node.shutdown().await;
    })
    .await;
}

#[derive(Debug)]
struct Own;

impl Resolver for Own {
    fn name(&self) -> &str {
        "own"
    }

    fn resolve(&self, problem: &Problem) -> Result<Vec<Option<usize>>, ResolveError> {
        Ok(problem.items.iter().map(|item| item.eligible.first().copied()).collect())
    }
}

#[tokio::test]
async fn the_leader_lacks_the_resolver() {
    on_each(async |bed: Bed| {
        // It leads, and for as long as its ttl nobody takes that for idling.
        let leader = bed.0.builder("leader").ttl(Duration::from_secs(30)).artifact(job("other"));
        let leader = leader.start().await.unwrap();
        bed.until_held("other", "leader").await;
        let node =
            bed.0.builder("a").add_resolver(Own).placement(Placement::by("own")).artifact(job("import"));
        let node = node.start().await.unwrap();
        says(&bed.until_explained("import", "resolver").await, &["\"own\"", "add_resolver"]);
        node.shutdown().await;
        leader.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn its_holder_is_evicted() {
    on_each(async |bed: Bed| {
        let node =
            bed.0.builder("a").ttl(Duration::from_secs(10)).artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        bed.ask(&["evict", "a", "--yes"]).await.well();
        says(&bed.until_explained("import", "evicted").await, &["a, which h", "is evicted", "wait out"]);
        node.shutdown().await;
    })
    .await;
}
