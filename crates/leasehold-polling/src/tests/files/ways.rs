//! How files come, what they consist of, and where they go.

use std::io::Write;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_testkit::cluster::Cluster;
use tokio::sync::mpsc::unbounded_channel;

use super::{Drop, names};
use crate::Endpoint;
use crate::conformance::{Bed, Polled, Probe};
use crate::files::{After, Complete, FileRef, Records};
use crate::tests::{next, start, teller, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_taken_when_nobody_writes_to_it_any_more() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    let (tell, mut told) = unbounded_channel();
    let stable = Complete::Stable(Duration::from_millis(400));
    let node =
        start(&cluster, "a", drop.watch(Records::Whole).complete(stable).handler(teller(tell)).unwrap())
            .await;
    let mut file = std::fs::File::create(drop.inbound().join("a")).unwrap();
    for part in 0..8 {
        file.write_all(part.to_string().as_bytes()).unwrap();
        // A writer that pauses between two parts.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(next(&mut told).await.0, "01234567");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_completes_a_file_and_leaves_with_it() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    let (tell, mut told) = unbounded_channel();
    let marker = Complete::Marker(".done".to_owned());
    let node =
        start(&cluster, "a", drop.watch(Records::Whole).complete(marker).handler(teller(tell)).unwrap())
            .await;
    drop.put("a", "one");
    drop.put("b", "two");
    drop.put("b.done", "");
    assert_eq!(next(&mut told).await.0, "two");
    until("it is moved", async || drop.files() == names(["a", "done/b"])).await;
    assert!(told.try_recv().is_err());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_where_they_are_told_to_and_replace_nothing() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    let (tell, mut told) = unbounded_channel();
    let node = start(&cluster, "a", drop.watch(Records::Whole).handler(teller(tell.clone())).unwrap()).await;
    for n in 0..3 {
        drop.put("a", n.to_string());
        assert_eq!(next(&mut told).await.0, n.to_string());
        until("it is moved", async || !drop.files().contains("a")).await;
    }
    node.shutdown().await;
    assert_eq!(drop.files(), names(["done/a", "done/a.1", "done/a.2"]));
    assert_eq!([drop.read("done/a"), drop.read("done/a.1"), drop.read("done/a.2")], ["0", "1", "2"]);

    let stamped = drop.watch(Records::Whole).after(After::MoveStamped("old".to_owned()));
    let node = start(&cluster, "b", stamped.handler(teller(tell.clone())).unwrap()).await;
    drop.put("b", "x");
    let is_stamped = |name: &String| name.starts_with("old/b.20") && name.ends_with('Z');
    until("it is moved", async || drop.files().iter().any(is_stamped)).await;
    node.shutdown().await;

    let deleting = drop.watch(Records::Whole).after(After::Delete);
    let node = start(&cluster, "c", deleting.handler(teller(tell)).unwrap()).await;
    drop.put("c", "x");
    next(&mut told).await;
    until("it is deleted", async || !drop.files().contains("c")).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_below_are_watched_if_asked_for_but_for_those_of_what_is_done() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    for name in ["a", "x/b", "x/y/c", "done/d", "failed/e"] {
        drop.put(name, name);
    }
    let (tell, mut told) = unbounded_channel();
    let mut files = drop.watch(Records::Whole).recursive().config().clone();
    files.pattern = "**/*".to_owned();
    let node =
        start(&cluster, "a", crate::Files::from_config(files).unwrap().handler(teller(tell)).unwrap()).await;
    for name in ["a", "x/b", "x/y/c"] {
        assert_eq!(next(&mut told).await.0, name);
    }
    let all = names(["done/a", "done/x/b", "done/x/y/c", "done/d", "failed/e"]);
    until("they are moved", async || drop.files() == all).await;
    assert!(told.try_recv().is_err());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_read_in_parts_by_its_handler() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    drop.put("a", &content);
    let (tell, mut told) = unbounded_channel();
    let handler = move |message: Message, _: Lease| {
        let tell = tell.clone();
        async move {
            let file = FileRef::of(&message).ok_or_else(|| HandlerError::reject("no file"))?;
            assert_eq!((message.body(), file.path(), file.size()), (None, "a", 400_000));
            let (mut all, mut at) = (Vec::new(), 0);
            while at < file.size() {
                let part = file.read(at, 70_000).await?;
                at += part.len() as u64;
                all.extend_from_slice(&part);
            }
            Ok(tell.send(all)?)
        }
    };
    let node = start(&cluster, "a", drop.watch(Records::Reference).handler(handler).unwrap()).await;
    assert!(next(&mut told).await == content);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_csv_file_are_objects_in_the_middle_of_it_too() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    let rows: String = (0..2000).map(|n| format!("{n};\"text; {n}\"\r\n")).collect();
    drop.put("a.csv", format!("id;text\r\n{rows}"));
    let (tell, mut told) = unbounded_channel();
    let watch = || drop.watch(Records::Delimited { delimiter: ';', header: true }).batch(100);
    let mut n = 0;
    for id in ["a", "b"] {
        let node = start(&cluster, id, watch().handler(teller(tell.clone())).unwrap()).await;
        for _ in 0..700 {
            assert_eq!(next(&mut told).await.0, format!("{{\"id\":\"{n}\",\"text\":\"text; {n}\"}}"));
            n += 1;
        }
        node.shutdown().await;
        while told.try_recv().is_ok() {
            n += 1;
        }
    }
    let node = start(&cluster, "c", watch().handler(teller(tell)).unwrap()).await;
    until("it is moved", async || drop.files() == names(["done/a.csv"])).await;
    while told.try_recv().is_ok() {
        n += 1;
    }
    assert_eq!(n, 2000);
    node.shutdown().await;
}

/// The suite for pollers, on lines and on whole files.
struct Texts {
    drop: Drop,
    records: Records,
    files: std::sync::Mutex<usize>,
}

#[async_trait]
impl Polled for Texts {
    fn endpoint(&self, probe: Probe) -> Endpoint {
        self.drop.watch(self.records.clone()).handler(probe).unwrap()
    }

    async fn put(&self, texts: Vec<String>) {
        let mut files = self.files.lock().unwrap();
        if self.records == Records::Whole {
            for text in texts {
                self.drop.put(&text, &text);
            }
        } else {
            *files += 1;
            self.drop.put(&format!("{:03}", *files), texts.join("\n"));
        }
    }
}

async fn bed(records: Records) -> Bed<Texts> {
    let cluster = Cluster::sqlite().await;
    let (database, name) = (cluster.url.clone(), cluster.name.clone());
    let polled = Texts { drop: Drop::new(), records, files: Default::default() };
    Bed { polled, database, cluster: name, keep: Some(Box::new(cluster)) }
}

mod lines {
    crate::poller_conformance!(super::bed(crate::files::Records::lines()));
}

mod whole {
    crate::poller_conformance!(super::bed(crate::files::Records::Whole));
}
