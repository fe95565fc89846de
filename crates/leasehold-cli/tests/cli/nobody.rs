//! A cluster whose nodes have all died at once: their rows are there, and nobody lives who would remove them.

use std::time::Duration;

use crate::bed::{Bed, PATIENCE, job, on_each, reason};
use crate::member::Process;

const TTL: Duration = Duration::from_millis(1600);
const TOLD: &str = "has renewed its session for";

/// Both nodes are dead, and told so.
async fn killed(bed: &Bed) {
    let mut nodes = ["a", "b"].map(|node| Process::start(bed, node, TTL, false));
    let made = async { while bed.ask(&["status"]).await.code != 0 {} };
    tokio::time::timeout(PATIENCE, made).await.expect("one of them makes the cluster");
    bed.until(&["status"], |status| status["nodes"] == 2 && status["held"] == 1).await;
    // At once: a survivor would expire the other one.
    for node in &mut nodes {
        node.child.start_kill().unwrap();
    }
    for node in nodes {
        node.child.wait_with_output().await.unwrap();
    }
    bed.until(&["status"], |status| status["silent"] == 2).await;
}

#[tokio::test]
async fn whoever_looks_is_told() {
    on_each(async |bed: Bed| {
        killed(&bed).await;
        let status = bed.ask(&["status"]).await.well();
        assert!(status.contains("2 silent, nobody leads") && status.contains(TOLD), "{status}");
        let nodes = bed.json(&["nodes"]).await;
        let states: Vec<_> = nodes["nodes"].as_array().unwrap().iter().map(|node| &node["state"]).collect();
        assert_eq!(states, ["silent", "silent"]);
        assert!(nodes["nodes"][0]["renewed_ms"].is_i64());
        let artifacts = bed.ask(&["artifacts"]).await.well();
        assert!(artifacts.contains("held by a node that is silent"), "{artifacts}");
        let explained = bed.json(&["explain", "import"]).await;
        let codes: Vec<_> =
            explained["reasons"].as_array().unwrap().iter().map(|reason| &reason["code"]).collect();
        assert_eq!(codes[..3], ["all-silent", "silent", "held"], "{explained}");
        let all = reason(&explained, "all-silent").unwrap();
        assert!(all["remedy"].as_str().unwrap().contains("start a node"), "{all}");
        // How fast this machine is at the moment is not what is asked here.
        let doctor = bed.ask(&["doctor", "--json"]).await;
        let doctor: serde_json::Value = serde_json::from_str(&doctor.out).unwrap();
        let found = doctor["findings"].as_array().unwrap().iter().find(|one| one["check"] == "silent");
        let text = found.unwrap()["text"].as_str().unwrap();
        assert!(
            text.ends_with("a, b") || text.ends_with("b, a"),
            "in the order in which they joined: {text}"
        );
        let drawn = bed.ask(&["timeline", "--svg", "-"]).await.well();
        assert!(drawn.contains("<svg"), "{drawn}");
    })
    .await;
}

#[tokio::test]
async fn whoever_asks_in_vain_is_refused_and_nothing_changes() {
    on_each(async |bed: Bed| {
        killed(&bed).await;
        let seen = async || {
            let events = bed.ask(&["events", "-n", "200"]).await.well();
            (events, bed.json(&["artifacts"]).await, bed.json(&["nodes"]).await["excluded"].clone())
        };
        let before = seen().await;
        for asked in [
            &["move", "import", "--to", "a"][..],
            &["pause", "import", "--wait"],
            &["resume", "import", "--wait"],
            &["drain", "a", "--wait"],
            &["evict", "b", "--wait", "--yes"],
        ] {
            let refused = bed.ask(asked).await.badly(4);
            assert!(refused.contains(TOLD) && refused.contains("start one"), "{asked:?}: {refused}");
        }
        let refused = bed.ask(&["cluster", "set", "max-ttl", "10s"]).await.badly(4);
        assert!(refused.contains("a (not renewed for"), "{refused}");
        assert_eq!(before, seen().await);
    })
    .await;
}

#[tokio::test]
async fn what_nobody_has_to_do_is_done_and_a_new_node_does_the_rest() {
    on_each(async |bed: Bed| {
        killed(&bed).await;
        bed.ask(&["pause", "import", "--by", "ops"]).await.well();
        bed.ask(&["resume", "import"]).await.well();
        bed.ask(&["drain", "b"]).await.well();
        let node = bed.0.builder("c").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "c").await;
        bed.until(&["status"], |status| status["nodes"] == 1 && status["silent"] == 0).await;
        assert_eq!(bed.json(&["nodes"]).await["excluded"][0]["node"], "b");
        node.shutdown().await;
    })
    .await;
}
