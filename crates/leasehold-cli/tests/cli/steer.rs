//! What operators ask for, and that `--wait` returns when it is so.

use std::time::Duration;

use leasehold_core::artifact::ArtifactError;
use leasehold_task::{Firing, Task};
use sea_orm::ConnectionTrait;

use crate::bed::{Bed, job, on_each};

#[tokio::test]
async fn paused_resumed_moved_and_unmoved() {
    on_each(async |bed: Bed| {
        let a = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        let b = bed.0.builder("b").artifact(job("import")).start().await.unwrap();
        bed.ask(&["pause", "import", "--wait"]).await.well();
        assert!(!a.status().borrow().runs("import") && !b.status().borrow().runs("import"));
        let said = bed.ask(&["resume", "import", "--wait"]).await.well();
        assert!(said.starts_with("import is held by "), "{said}");

        bed.ask(&["move", "import", "--to", "b", "--wait"]).await.well();
        b.wait(|status| status.runs("import")).await.unwrap();
        bed.ask(&["move", "import", "--to", "a", "--wait"]).await.well();
        a.wait(|status| status.runs("import")).await.unwrap();
        bed.ask(&["unmove", "import"]).await.well();
        assert!(bed.json(&["show", "import"]).await["artifact"]["preferred"].is_null());
        a.shutdown().await;
        b.shutdown().await;
    })
    .await;
}

/// What a verb leaves in the audit trail: who asked, and why.
#[tokio::test]
async fn each_change_is_told_with_who_asked_and_why() {
    on_each(async |bed: Bed| {
        let hourly = Task::fixed_rate("hourly", Duration::from_secs(3600)).unwrap();
        let task = hourly.handler(|_| async { Ok(()) });
        let node = bed.0.builder("a").artifact(job("import")).artifact(task).start().await.unwrap();
        bed.until_held("import", "a").await;
        let asked = [
            ("paused", &["pause", "import"][..]),
            ("resumed", &["resume", "import"]),
            ("moved", &["move", "import", "--to", "a"]),
            ("unmoved", &["unmove", "import"]),
            ("commanded", &["fire", "hourly"]),
            ("drained", &["drain", "a"]),
            ("readmitted", &["undrain", "a"]),
            ("evicted", &["evict", "a", "--yes"]),
            ("readmitted", &["undrain", "a"]),
        ];
        let before = bed.json(&["nodes"]).await;
        for (_, asked) in asked {
            bed.ask(&[asked, &["--by", "ops", "--reason", "it is night"]].concat()).await.well();
        }
        // Its next session: one that is not there yet would be left behind.
        let joined = |nodes: &serde_json::Value| {
            let node = &nodes["nodes"][0];
            node["session"] != before["nodes"][0]["session"] && node["state"] == "active"
        };
        bed.until(&["nodes"], joined).await;
        node.shutdown().await;
        bed.ask(&["forget", "import", "--yes", "--by", "ops", "--reason", "it is night"]).await.well();
        let max_ttl = ["cluster", "set", "max-ttl", "5s", "--by", "ops", "--reason", "it is night"];
        bed.ask(&max_ttl).await.well();
        let told = bed.ask(&["events", "-n", "200", "--json"]).await.well();
        let told: Vec<serde_json::Value> =
            told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let by_ops = told.iter().filter(|event| {
            let detail = event["detail"].as_str().unwrap();
            detail.contains("\"by\":\"ops\"") && detail.contains("\"reason\":\"it is night\"")
        });
        let kinds: Vec<&str> = by_ops.map(|event| event["kind"].as_str().unwrap()).collect();
        let mut expected: Vec<&str> = asked.map(|(kind, _)| kind).to_vec();
        expected.extend(["forgotten", "max-ttl"]);
        assert_eq!(kinds, expected);
    })
    .await;
}

/// The change is made; that the trail lacks it is said.
#[tokio::test]
async fn a_trail_that_takes_nothing_is_told() {
    let bed = Bed(leasehold_testkit::cluster::Cluster::sqlite().await);
    let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
    bed.until_held("import", "a").await;
    let full =
        "create trigger full before insert on leasehold_event begin select raise(abort, 'disk full'); end";
    bed.0.db.execute_unprepared(full).await.unwrap();
    let did = bed.ask(&["pause", "import"]).await;
    assert_eq!(did.code, 0, "{did:?}");
    assert!(did.err.contains("the audit trail does not say so") && did.err.contains("disk full"), "{did:?}");
    assert_eq!(did.err.lines().count(), 1, "{did:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn whoever_waits_is_told_why() {
    on_each(async |bed: Bed| {
        let stubborn = leasehold_core::lead::Lead::new("import", |_| std::future::pending()).unwrap();
        let node = bed.0.builder("a").drain_timeout(Duration::from_secs(600)).artifact(stubborn);
        let node = node.start().await.unwrap();
        bed.until_held("import", "a").await;
        let did = bed.ask(&["drain", "a", "--wait", "--timeout", "300ms"]).await;
        let lines: Vec<&str> = did.err.lines().collect();
        assert_eq!(lines[0], "waiting: a holds 1 leases", "{did:?}");
        assert_eq!((did.code, lines.len()), (5, 2), "what is said once is not said again at once: {did:?}");
        // It takes part again, though it holds what it was to give away.
        bed.ask(&["undrain", "a", "--wait"]).await.well();
        drop(node);
    })
    .await;
}

#[tokio::test]
async fn drained_evicted_and_let_in_again() {
    on_each(async |bed: Bed| {
        let a = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let b = bed.0.builder("b").artifact(job("import")).start().await.unwrap();
        bed.ask(&["drain", "a", "--wait"]).await.well();
        bed.until_held("import", "b").await;
        bed.ask(&["undrain", "a"]).await.well();
        let again = bed.ask(&["undrain", "a"]).await.badly(4);
        assert!(again.contains("nothing to undo"), "{again}");

        bed.ask(&["evict", "b", "--wait", "--yes"]).await.well();
        bed.until_held("import", "a").await;
        bed.ask(&["undrain", "b"]).await.well();
        a.shutdown().await;
        b.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn fired_now_and_told_how_it_ended() {
    on_each(async |bed: Bed| {
        let fire = |firing: Firing| async move {
            if firing.is_scheduled() { Ok(()) } else { Err(ArtifactError::message("the printer is on fire")) }
        };
        let late = Task::fixed_rate("report", Duration::from_secs(3600)).unwrap().handler(fire);
        let well =
            Task::fixed_rate("clean-up", Duration::from_secs(3600)).unwrap().handler(|_| async { Ok(()) });
        let node = bed.0.builder("a").artifact(late).artifact(well).start().await.unwrap();
        let said = bed.ask(&["fire", "clean-up", "--wait"]).await.well();
        assert_eq!(said, "clean-up fired on a: succeeded\n");
        let failed = bed.ask(&["fire", "report", "--wait"]).await;
        assert_eq!(failed.code, 1);
        assert!(failed.err.contains("the printer is on fire"), "{failed:?}");
        let history = bed.json(&["history", "clean-up"]).await;
        let commands = history["firings"].as_array().unwrap().iter().filter(|fired| fired["command"] != 0);
        assert_eq!(commands.count(), 1);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn each_who_waits_is_told_of_the_firing_that_was_asked_for() {
    on_each(async |bed: Bed| {
        let turns = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let fire = move |firing: Firing| {
            let turn =
                turns.fetch_add(usize::from(!firing.is_scheduled()), std::sync::atomic::Ordering::SeqCst);
            async move {
                if firing.is_scheduled() {
                    Ok(())
                } else {
                    Err(ArtifactError::message(format!("turn {turn}")))
                }
            }
        };
        let task = Task::fixed_rate("report", Duration::from_secs(3600)).unwrap().handler(fire);
        let node = bed.0.builder("a").artifact(task).start().await.unwrap();
        bed.until_held("report", "a").await;
        let asked = ["fire", "report", "--wait"];
        let (one, other) = tokio::join!(bed.ask(&asked), bed.ask(&asked));
        assert_eq!((one.code, other.code), (1, 1));
        assert_ne!(one.err, other.err, "of one firing each");
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn not_done_in_time_and_it_goes_on_by_itself() {
    on_each(async |bed: Bed| {
        let stubborn = leasehold_core::lead::Lead::new("import", |_| std::future::pending()).unwrap();
        let node = bed.0.builder("a").drain_timeout(Duration::from_secs(600)).artifact(stubborn);
        let node = node.start().await.unwrap();
        bed.until_held("import", "a").await;
        let did = bed.ask(&["pause", "import", "--wait", "--timeout", "300ms"]).await;
        assert_eq!(did.code, 5, "{did:?}");
        assert!(
            did.err.contains("was not done within 300ms: paused") && did.err.contains("goes on"),
            "{did:?}"
        );
        assert_eq!(bed.json(&["show", "import"]).await["artifact"]["desired"], "paused");
        drop(node);
    })
    .await;
}

#[tokio::test]
async fn forgotten_when_nobody_deploys_it() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        let refused = bed.ask(&["forget", "import", "--yes"]).await.badly(4);
        assert!(refused.contains("is deployed by a node"), "{refused}");
        node.shutdown().await;
        bed.ask(&["forget", "import", "--yes"]).await.well();
        bed.ask(&["show", "import"]).await.badly(3);
    })
    .await;
}

#[tokio::test]
async fn max_ttl_is_set_while_no_node_lives() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        let refused = bed.ask(&["cluster", "set", "max-ttl", "10s"]).await.badly(4);
        assert!(refused.contains("have a session: a; stop them first"), "{refused}");
        assert_eq!(bed.json(&["status"]).await["max_ttl_ms"], 1600);
        node.shutdown().await;
        bed.ask(&["cluster", "set", "max-ttl", "10s"]).await.well();
        assert_eq!(bed.json(&["status"]).await["max_ttl_ms"], 10_000);
        bed.ask(&["cluster", "set", "max-ttl", "10ms"]).await.badly(2);
    })
    .await;
}

#[tokio::test]
async fn a_node_whose_ttl_is_above_a_lowered_max_ttl_goes() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        // As a change that commits while the node joins.
        let sql = format!("update leasehold_cluster set max_ttl_ms = 500 where name = '{}'", bed.0.name);
        bed.0.db.execute_unprepared(&sql).await.unwrap();
        node.wait(|status| status.refusal.is_some() && status.running.is_empty()).await.unwrap();
        drop(node);
    })
    .await;
}
