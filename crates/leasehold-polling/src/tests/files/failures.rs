//! What fails is kept with the reason, and the rest goes on.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_testkit::cluster::Cluster;
use sea_orm::{ConnectionTrait, Statement};
use tokio::sync::mpsc::unbounded_channel;

use super::odd::Odd;
use super::{Drop, names};
use crate::files::{After, Records};
use crate::tests::{SOON, condition, impaired, next, on_each, start, teller, until};

/// Rejects what contains "bad".
fn picky(message: Message, _: Lease) -> std::future::Ready<Result<(), HandlerError>> {
    std::future::ready(match message.text() {
        Ok(text) if text.contains("bad") => Err(HandlerError::reject("no good")),
        _ => Ok(()),
    })
}

fn reason(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_failed_is_moved_aside_with_the_reason_beside_it() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    for (name, text) in [("a", "good"), ("b", "bad"), ("c", "good")] {
        drop.put(name, text);
    }
    let node = start(&cluster, "a", drop.watch(Records::Whole).handler(picky).unwrap()).await;
    let all = names(["done/a", "done/c", "failed/b", "failed/b.reason"]);
    until("each is where it belongs", async || drop.files() == all).await;
    let told = reason(&drop.read("failed/b.reason"));
    assert_eq!(
        (&told["file"], &told["reason"], &told["attempts"]),
        (&"b".into(), &"no good".into(), &1.into())
    );
    assert_eq!(drop.read("failed/b"), "bad");
    // One of the same name replaces nothing.
    drop.put("b", "bad again");
    until("it is moved, too", async || drop.files().contains("failed/b.1.reason")).await;
    assert_eq!((drop.read("failed/b"), drop.read("failed/b.1")), ("bad".to_owned(), "bad again".to_owned()));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_failed_are_set_aside_and_the_file_goes_on() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    drop.put("a", "{\"n\":1}\n{\"n\":\n{\"n\":\"bad\"}\n{\"n\":4}\n");
    let (tell, mut told) = unbounded_channel();
    let handler = move |message: Message, lease: Lease| {
        let judged = picky(message.clone(), lease).into_inner();
        let _ = tell.send(message.text().unwrap().to_owned());
        std::future::ready(judged)
    };
    let node = start(&cluster, "a", drop.watch(Records::json_lines()).handler(handler).unwrap()).await;
    for text in ["{\"n\":1}", "{\"n\":\"bad\"}", "{\"n\":4}"] {
        assert_eq!(next(&mut told).await, text);
    }
    let all = names(["done/a", "failed/a.2", "failed/a.2.reason", "failed/a.3", "failed/a.3.reason"]);
    until("each is where it belongs", async || drop.files() == all).await;
    assert_eq!(drop.read("failed/a.2"), "{\"n\":");
    assert!(
        reason(&drop.read("failed/a.2.reason"))["reason"].as_str().unwrap().contains("record 2 is no JSON")
    );
    assert_eq!(reason(&drop.read("failed/a.3.reason"))["reason"], "record 3: no good");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_set_aside_fails_its_file() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    drop.put("a", "one\nbad\nthree\n");
    let storage = Odd::new(drop.inbound());
    storage.set(Some(("write failed/a.2", io::ErrorKind::StorageFull)));
    let node =
        start(&cluster, "a", drop.watch(Records::lines()).storage(storage).handler(picky).unwrap()).await;
    until("it is aside", async || drop.files() == names(["failed/a", "failed/a.reason"])).await;
    let told = reason(&drop.read("failed/a.reason"));
    assert!(
        told["reason"].as_str().unwrap().starts_with("record 2: no good (which cannot be set aside: "),
        "{told}"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_long_fails_its_file_after_those_before_it() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    drop.put("a", format!("one\n{}\nthree\n", "x".repeat(2_000_000)));
    drop.put("b", "four");
    let (tell, mut told) = unbounded_channel();
    let node = start(&cluster, "a", drop.watch(Records::lines()).handler(teller(tell)).unwrap()).await;
    assert_eq!(next(&mut told).await.0, "one");
    assert_eq!(next(&mut told).await.0, "four");
    let all = names(["done/b", "failed/a", "failed/a.reason"]);
    until("each is where it belongs", async || drop.files() == all).await;
    let told = reason(&drop.read("failed/a.reason"));
    assert!(
        told["reason"].as_str().unwrap().contains("record 2 has more than max-record 1048576 bytes"),
        "{told}"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_holds_up_the_move_and_nothing_else() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    for name in ["a", "b", "c"] {
        drop.put(name, name);
    }
    let storage = Odd::new(drop.inbound());
    storage.set(Some(("rename b", io::ErrorKind::StorageFull)));
    let (tell, mut told) = unbounded_channel();
    let endpoint = drop.watch(Records::Whole).storage(storage.clone()).handler(teller(tell)).unwrap();
    let node = start(&cluster, "a", endpoint).await;
    for name in ["a", "b", "c"] {
        assert_eq!(next(&mut told).await.0, name);
    }
    condition(&node, |shown| impaired(shown).contains("\"b\" is done and cannot leave the folder")).await;
    until("the others are moved", async || drop.files() == names(["b", "done/a", "done/c"])).await;
    tokio::time::sleep(SOON * 5).await;
    assert!(told.try_recv().is_err(), "it is done, and does not come again");
    storage.set(None);
    until("there is room again", async || drop.files() == names(["done/a", "done/b", "done/c"])).await;
    condition(&node, leasehold_core::status::Condition::is_working).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_vanishes_is_told_and_watched_again_when_it_is_back() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    std::fs::remove_dir(drop.inbound()).unwrap();
    let (tell, mut told) = unbounded_channel();
    let node = start(&cluster, "a", drop.watch(Records::Whole).handler(teller(tell)).unwrap()).await;
    condition(&node, |shown| impaired(shown).contains("the folder cannot be read")).await;
    std::fs::create_dir(drop.inbound()).unwrap();
    drop.put("a", "one");
    assert_eq!(next(&mut told).await.0, "one");
    condition(&node, leasehold_core::status::Condition::is_working).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_renamed_the_database_remembers() {
    on_each(async |cluster| {
        let drop = Drop::new();
        for (name, text) in [("a", "good"), ("b", "bad"), ("c", "good")] {
            drop.put(name, text);
        }
        let mut storage = Odd::new(drop.inbound());
        storage.rename = false;
        let (tell, mut told) = unbounded_channel();
        let endpoint = |tell: tokio::sync::mpsc::UnboundedSender<String>| {
            let handler = move |message: Message, lease: Lease| {
                let _ = tell.send(message.text().unwrap().to_owned());
                picky(message, lease)
            };
            drop.watch(Records::Whole).after(After::Keep).storage(storage.clone()).handler(handler).unwrap()
        };
        let node = start(&cluster, "a", endpoint(tell.clone())).await;
        for text in ["good", "bad", "good"] {
            assert_eq!(next(&mut told).await, text);
        }
        let remembered = async || {
            let sql = format!(
                "select path, outcome, reason from leasehold_file where cluster = '{}' order by path",
                cluster.name
            );
            let rows = cluster
                .db
                .query_all_raw(Statement::from_string(cluster.db.get_database_backend(), sql))
                .await
                .unwrap();
            let text = |row: &sea_orm::QueryResult, column| {
                row.try_get::<Option<String>>("", column).unwrap().unwrap_or_default()
            };
            rows.iter()
                .map(|row| ["path", "outcome", "reason"].map(|column| text(row, column)).join(" "))
                .collect::<Vec<_>>()
        };
        until("all are remembered", async || {
            remembered().await == ["a done ", "b failed no good", "c done "]
        })
        .await;
        node.shutdown().await;
        let node = start(&cluster, "b", endpoint(tell)).await;
        drop.put("d", "more");
        assert_eq!(next(&mut told).await, "more");
        node.shutdown().await;
        assert_eq!(drop.files(), names(["a", "b", "c", "d"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_while_it_was_handled_is_not_taken_for_done() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    drop.put("a", "old");
    let (tell, mut told) = unbounded_channel();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let passes = Arc::clone(&gate);
    let handler = move |message: Message, _: Lease| {
        let (tell, passes) = (tell.clone(), Arc::clone(&passes));
        async move {
            let _ = tell.send(message.text()?.to_owned());
            passes.acquire().await?.forget();
            Ok(())
        }
    };
    let node = start(&cluster, "a", drop.watch(Records::Whole).handler(handler).unwrap()).await;
    assert_eq!(next(&mut told).await, "old");
    drop.put("a", "new");
    gate.add_permits(2);
    assert_eq!(next(&mut told).await, "new");
    until("the new one is moved", async || drop.files() == names(["done/a"])).await;
    assert_eq!(drop.read("done/a"), "new");
    node.shutdown().await;
}

/// Each holder is cut off in the middle of it, as if it had taken its process down.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_holder_survives_is_set_aside_and_what_is_beside_it_is_not() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    drop.put("a", "1\npoison\n3\n");
    let came = Arc::new(Mutex::new(Vec::new()));
    let endpoint = || {
        let came = Arc::clone(&came);
        let handler = move |message: Message, _: Lease| {
            let text = message.text().unwrap().to_owned();
            let is_poison = text == "poison";
            came.lock().unwrap().push((text, message.attempt()));
            async move { if is_poison { std::future::pending().await } else { Ok(()) } }
        };
        drop.watch(Records::lines()).lag(Duration::ZERO).attempts(3).handler(handler).unwrap()
    };
    let count = || came.lock().unwrap().iter().filter(|(text, _)| text == "poison").count();
    // The first one did not know that there is something to write down first.
    for n in 1..=4 {
        let node = start(&cluster, &format!("n{n}"), endpoint()).await;
        until("it is handed over", async || count() == n).await;
        node.shutdown().await;
    }
    let node = start(&cluster, "last", endpoint()).await;
    until("it is set aside", async || drop.files() == names(["done/a", "failed/a.2", "failed/a.2.reason"]))
        .await;
    assert!(
        reason(&drop.read("failed/a.2.reason"))["reason"]
            .as_str()
            .unwrap()
            .contains("did not survive 3 attempts")
    );
    node.shutdown().await;
    let came = came.lock().unwrap();
    let poison: Vec<u32> =
        came.iter().filter(|(text, _)| text == "poison").map(|(_, attempt)| *attempt).collect();
    assert_eq!(poison, [1, 1, 2, 3]);
    assert!(came.iter().any(|(text, _)| text == "3"));
}
