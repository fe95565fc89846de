//! What is shown, and that its fields stay as they are documented.

use std::time::Duration;

use leasehold_processor::{Outgoing, SqlStore};
use leasehold_task::Task;
use serde_json::Value;

use crate::bed::{Bed, job, on_each, program};

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn fields_are_stable() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").label("zone", "x").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let status = bed.json(&["status"]).await;
        assert_eq!(
            fields(&status),
            [
                "adopted",
                "artifacts",
                "cluster",
                "database",
                "draining",
                "evicted",
                "held",
                "leader",
                "max_ttl_ms",
                "nodes",
                "not_held",
                "paused",
                "silent",
                "waiting"
            ]
        );
        assert_eq!(
            (&status["held"], &status["leader"], &status["adopted"]),
            (&1.into(), &"a".into(), &true.into())
        );
        let nodes = bed.json(&["nodes"]).await;
        assert_eq!(
            fields(&nodes["nodes"][0]),
            [
                "beat",
                "deployed",
                "holds",
                "joined_ms",
                "labels",
                "leads",
                "node",
                "renewed_ms",
                "session",
                "state",
                "ttl_ms",
                "version"
            ]
        );
        assert_eq!(nodes["nodes"][0]["labels"]["zone"], "x");
        let artifacts = bed.json(&["artifacts"]).await;
        let artifact =
            ["artifact", "desired", "holder", "kind", "preferred", "silent", "target", "token", "waiting"];
        assert_eq!(fields(&artifacts["artifacts"][0]), artifact);
        let show = bed.json(&["show", "import"]).await;
        assert_eq!(
            fields(&show),
            [
                "artifact",
                "changed_ms",
                "commands_waiting",
                "events",
                "firings",
                "kind",
                "last_error",
                "last_error_ms",
                "placement",
                "positions",
                "schedule",
                "since_ms"
            ]
        );
        let explained = bed.json(&["explain", "import"]).await;
        assert_eq!(fields(&explained), ["artifact", "reasons", "schedule"]);
        assert_eq!(fields(&explained["reasons"][0]), ["code", "remedy", "text"]);
        let events = bed.ask(&["events", "--json", "-n", "1"]).await.well();
        let event: Value = serde_json::from_str(events.trim()).unwrap();
        assert_eq!(fields(&event), ["artifact", "at_ms", "detail", "id", "kind", "node", "token"]);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn fields_of_tasks_stores_and_databases_are_stable() {
    on_each(async |bed: Bed| {
        let hourly = Task::fixed_rate("hourly", Duration::from_secs(3600)).unwrap();
        let node = bed.0.builder("a").artifact(hourly.handler(|_| async { Ok(()) })).start().await.unwrap();
        let fired = |answer: &Value| answer["firings"][0]["outcome"] == "succeeded";
        let history = bed.until(&["history", "hourly"], fired).await;
        let firing =
            ["attempts", "begun_ms", "command", "duration_ms", "error", "node", "outcome", "slot_ms"];
        assert_eq!(fields(&history["firings"][0]), firing);
        bed.ask(&["drain", "a", "--by", "ops"]).await.well();
        let nodes = bed.json(&["nodes"]).await;
        assert_eq!(fields(&nodes), ["excluded", "nodes"]);
        assert_eq!(fields(&nodes["excluded"][0]), ["at_ms", "by", "node", "present", "reason"]);

        let name = format!("outbox-{}", &bed.0.name[5..]);
        let store = SqlStore::new(&bed.0.db, &name).unwrap();
        store.append(&bed.0.db, Outgoing::text("one")).await.unwrap();
        let depth = bed.json(&["store", "depth", &name]).await;
        assert_eq!(fields(&depth["stores"][0]), ["oldest_ms", "parked", "store", "waiting"]);
        let list = bed.json(&["store", "list", &name]).await;
        let message = [
            "answer",
            "appended_ms",
            "attempts",
            "bytes",
            "due_ms",
            "error",
            "id",
            "key",
            "message",
            "parked_ms",
        ];
        assert_eq!(fields(&list["messages"][0]), message);
        let id = list["messages"][0]["id"].to_string();
        let peek = bed.json(&["store", "peek", &name, &id]).await;
        assert_eq!(fields(&peek), ["body", "bytes", "content_type", "headers"]);
        let purged = bed.json(&["store", "purge", &name, "--all", "--yes"]).await;
        assert_eq!(fields(&purged), ["purged"]);

        assert_eq!(fields(&bed.json(&["migrate", "status"]).await), ["complete", "pending", "unknown"]);
        assert_eq!(fields(&bed.json(&["migrate", "up"]).await), ["complete", "pending", "unknown"]);
        let doctor: Value = serde_json::from_str(&bed.ask(&["doctor", "--json"]).await.out).unwrap();
        assert_eq!(fields(&doctor["findings"][0]), ["check", "level", "remedy", "text"]);
        assert_eq!(fields(&bed.json(&["undrain", "a"]).await), ["done"]);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn tables_have_no_colours_where_nobody_sees_them() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        for asked in [&["status"][..], &["nodes"], &["artifacts"], &["show", "import"], &["events"]] {
            let said = bed.ask(asked).await.well();
            assert!(!said.contains('\x1b') && !said.trim().is_empty(), "{said:?}");
        }
        let table = bed.ask(&["artifacts"]).await.well();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["ARTIFACT", "KIND", "HOLDER", "TOKEN", "STATE"]);
        assert_eq!((lines[1][0], lines[1][2], lines[1][4]), ("import", "a", "held"));
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn events_are_followed() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let arguments =
            ["--database", &bed.0.url, "--cluster", &bed.0.name, "events", "--follow", "--json", "-n", "1"];
        let mut child = program().args(arguments).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It has begun.
        lines.next_line().await.unwrap().unwrap();
        bed.ask(&["pause", "import", "--by", "ops"]).await.well();
        let heard = async {
            loop {
                let line = lines.next_line().await.unwrap().unwrap();
                let event: Value = serde_json::from_str(&line).unwrap();
                if event["kind"] == "paused" {
                    return event["detail"].as_str().unwrap().to_owned();
                }
            }
        };
        let detail = tokio::time::timeout(crate::bed::PATIENCE, heard).await.expect("it is heard");
        assert!(detail.contains("ops"), "{detail}");
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_night_is_drawn() {
    on_each(async |bed: Bed| {
        let a = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let b = bed.0.builder("b").artifact(job("import")).start().await.unwrap();
        bed.ask(&["move", "import", "--to", "b", "--wait"]).await.well();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("night.svg");
        let drawn = async {
            // The audit trail is written beside the protocol.
            loop {
                let file = file.to_str().unwrap();
                let said = bed.ask(&["timeline", "--since", "1h", "--svg", file]).await.well();
                if said.contains("2 leases in 2 lanes over 1h, 0 failovers") {
                    return;
                }
            }
        };
        tokio::time::timeout(crate::bed::PATIENCE, drawn).await.expect("both are drawn");
        let svg = std::fs::read_to_string(&file).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("import on a, token ") && svg.contains("import on b, token "), "{svg}");
        let other = bed.ask(&["timeline", "--svg", "-", "--artifact", "imprt"]).await.badly(3);
        assert!(other.contains("did you mean import?"), "{other}");
        let nowhere = bed.ask(&["timeline", "--svg", "/no/such/folder/night.svg"]).await.badly(1);
        assert!(nowhere.contains("name another file"), "{nowhere}");
        a.shutdown().await;
        b.shutdown().await;
    })
    .await;
}

/// Starts this view with `--watch --json` and waits for its first answer.
async fn watching(
    url: &str,
    cluster: &str,
    view: &[&str],
) -> (tokio::process::Child, tokio::io::Lines<impl tokio::io::AsyncBufRead + use<>>) {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let place = ["--database", url, "--cluster", cluster, "--json", "--watch"];
    let mut child = program().args(view).args(place).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.starts_with('{'), "{first}");
    (child, lines)
}

/// Presses Ctrl-C, and waits for the end.
async fn interrupt(mut child: tokio::process::Child) {
    use rustix::process::{Pid, Signal, kill_process};

    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = tokio::time::timeout(crate::bed::PATIENCE, child.wait()).await.expect("it ends");
    assert!(ended.unwrap().success());
}

#[tokio::test]
async fn what_is_watched_is_shown_again_until_ctrl_c() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        for view in [
            &["status"][..],
            &["nodes"],
            &["artifacts"],
            &["show", "import"],
            &["explain", "import"],
            &["store", "depth"],
        ] {
            let (child, mut lines) = watching(&bed.0.url, &bed.0.name, view).await;
            lines.next_line().await.unwrap().unwrap();
            interrupt(child).await;
        }
        node.shutdown().await;
    })
    .await;
}

/// Far longer than a look takes; statements are given up after more.
#[cfg(feature = "test-postgres")]
#[tokio::test]
async fn ctrl_c_ends_it_while_the_database_hangs() {
    use leasehold_testkit::proxy::{Fault, FaultProxy};

    let bed = Bed(leasehold_testkit::cluster::Cluster::on("LEASEHOLD_TEST_POSTGRES").await);
    let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
    let place = bed.0.url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let proxy = FaultProxy::start(place.parse().unwrap()).await.unwrap();
    let url = bed.0.url.replace(place, &proxy.address().to_string());
    let (child, mut lines) = watching(&url, &bed.0.name, &["status"]).await;
    proxy.set(Fault::BlackHole);
    // No answer is under way any more, and none comes.
    let quiet = std::time::Duration::from_secs(3);
    while let Ok(answered) = tokio::time::timeout(quiet, lines.next_line()).await {
        assert!(answered.unwrap().is_some(), "it goes on looking");
    }
    interrupt(child).await;
    node.shutdown().await;
}
