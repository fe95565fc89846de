//! The next holder goes on where the last one stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leasehold_core::artifact::ArtifactError;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_testkit::cluster::Cluster;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tokio::sync::mpsc::unbounded_channel;

use super::{Drop, names};
use crate::Progress;
use crate::files::{After, Records};
use crate::tests::{next, on_each, start, teller, until};

fn lines(from: u32, to: u32) -> String {
    (from..to).map(|n| format!("{n}\n")).collect()
}

/// After this line it waits for ever, as if its process hung.
fn hanging(
    tell: tokio::sync::mpsc::UnboundedSender<(String, u32)>,
    at: &'static str,
) -> impl Fn(Message, Lease) -> std::pin::Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>
+ Send
+ Sync
+ 'static {
    move |message: Message, _: Lease| {
        let tell = tell.clone();
        Box::pin(async move {
            let text = message.text()?.to_owned();
            let hangs = text == at;
            let _ = tell.send((text, message.attempt()));
            if hangs { std::future::pending().await } else { Ok(()) }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_file_at_the_record_that_was_not_done() {
    on_each(async |cluster| {
        let drop = Drop::new();
        drop.put("a", lines(0, 1000));
        drop.put("b", lines(1000, 1100));
        let (tell, mut told) = unbounded_channel();
        let watch = || drop.watch(Records::lines());
        let first = watch().lag(Duration::ZERO).handler(hanging(tell.clone(), "700")).unwrap();
        let first = start(&cluster, "a", first).await;
        for n in 0..=700 {
            assert_eq!(next(&mut told).await.0, n.to_string());
        }
        // Cut off in the middle of the handler.
        first.shutdown().await;
        let second = start(&cluster, "b", watch().handler(teller(tell)).unwrap()).await;
        let mut last: u32 = next(&mut told).await.0.parse().unwrap();
        assert!((636..=700).contains(&last), "what was settled together at most: {last}");
        while last < 1099 {
            let n: u32 = next(&mut told).await.0.parse().unwrap();
            assert!(n <= last + 1, "{n} after {last}");
            last = last.max(n);
        }
        until("both are moved", async || drop.files() == names(["done/a", "done/b"])).await;
        second.shutdown().await;
    })
    .await;
}

async fn booked(db: &DatabaseConnection, table: &str) -> Vec<String> {
    let backend = db.get_database_backend();
    let rows =
        db.query_all_raw(Statement::from_string(backend, format!("select body from {table}"))).await.unwrap();
    let mut all: Vec<String> = rows.iter().map(|row| row.try_get("", "body").unwrap()).collect();
    all.sort_unstable();
    all
}

/// Books in a table, and fails after the commit while it is told to.
fn booking(
    db: DatabaseConnection,
    table: String,
    broken: Arc<AtomicBool>,
) -> impl Fn(Message, Lease) -> std::pin::Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>
+ Send
+ Sync
+ 'static {
    move |message: Message, lease: Lease| {
        let (db, table, broken) = (db.clone(), table.clone(), Arc::clone(&broken));
        Box::pin(async move {
            let booking = lease.transaction(&db, async |txn| {
                let sql = format!("insert into {table} values ('{}')", message.text()?.trim());
                txn.execute_unprepared(&sql).await?;
                message.record(&lease, txn).await?;
                Ok::<_, ArtifactError>(())
            });
            booking.await.map_err(|error| HandlerError::retry(error.to_string()))?;
            if broken.load(Ordering::Relaxed) { std::future::pending().await } else { Ok(()) }
        })
    }
}

async fn table(cluster: &Cluster) -> String {
    let table = format!("booked_{}", cluster.name.trim_start_matches("test-"));
    cluster.db.execute_unprepared(&format!("create table {table} (body varchar(100))")).await.unwrap();
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn effect_and_progress_commit_together() {
    on_each(async |cluster| {
        let (drop, table) = (Drop::new(), table(&cluster).await);
        drop.put("a", lines(100, 110));
        let broken = Arc::new(AtomicBool::new(true));
        let endpoint = || {
            let handler = booking(cluster.db.clone(), table.clone(), Arc::clone(&broken));
            drop.watch(Records::lines()).progress(Progress::InHandler).handler(handler).unwrap()
        };
        for n in 0..3 {
            let node = start(&cluster, &format!("n{n}"), endpoint()).await;
            until("one more is booked", async || booked(&cluster.db, &table).await.len() == n + 1).await;
            // It has committed, and nobody has heard of it.
            node.shutdown().await;
        }
        broken.store(false, Ordering::Relaxed);
        let node = start(&cluster, "last", endpoint()).await;
        until("it is moved", async || drop.files() == names(["done/a"])).await;
        node.shutdown().await;
        assert_eq!(booked(&cluster.db, &table).await, (100..110).map(|n| n.to_string()).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_files_are_done_once_in_any_order_with_the_ledger_in_the_transaction() {
    on_each(async |cluster| {
        let (drop, table) = (Drop::new(), table(&cluster).await);
        for n in 10..16 {
            drop.put(&n.to_string(), n.to_string());
        }
        let broken = Arc::new(AtomicBool::new(true));
        let endpoint = || {
            let handler = booking(cluster.db.clone(), table.clone(), Arc::clone(&broken));
            let files = drop.watch(Records::Whole).order(leasehold_core::dispatch::Order::Unordered(4));
            files.progress(Progress::InHandler).handler(handler).unwrap()
        };
        let node = start(&cluster, "a", endpoint()).await;
        until("four are booked", async || booked(&cluster.db, &table).await.len() == 4).await;
        node.shutdown().await;
        assert_eq!(drop.files().len(), 6, "none is moved");
        broken.store(false, Ordering::Relaxed);
        let node = start(&cluster, "b", endpoint()).await;
        let all = names(["done/10", "done/11", "done/12", "done/13", "done/14", "done/15"]);
        until("all are moved", async || drop.files() == all).await;
        node.shutdown().await;
        assert_eq!(booked(&cluster.db, &table).await, (10..16).map(|n| n.to_string()).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_remembered_until_it_changes_or_goes() {
    on_each(async |cluster| {
        let drop = Drop::new();
        drop.put("a", "one");
        drop.put("b", "two");
        let (tell, mut told) = unbounded_channel();
        let endpoint =
            || drop.watch(Records::Whole).after(After::Keep).handler(teller(tell.clone())).unwrap();
        let node = start(&cluster, "a", endpoint()).await;
        assert_eq!(next(&mut told).await.0, "one");
        assert_eq!(next(&mut told).await.0, "two");
        node.shutdown().await;
        let node = start(&cluster, "b", endpoint()).await;
        drop.put("b", "changed");
        assert_eq!(next(&mut told).await.0, "changed");
        let rows = async || {
            let sql = format!("select path as body from leasehold_file where cluster = '{}'", cluster.name);
            let backend = cluster.db.get_database_backend();
            cluster.db.query_all_raw(Statement::from_string(backend, sql)).await.unwrap().len()
        };
        until("two are remembered", async || rows().await == 2).await;
        std::fs::remove_file(drop.inbound().join("a")).unwrap();
        until("one is", async || rows().await == 1).await;
        node.shutdown().await;
        assert_eq!(drop.files(), names(["b"]));
        assert!(told.try_recv().is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_put_back_comes_again_also_to_the_next_holder() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    drop.put("a", "one");
    let (tell, mut told) = unbounded_channel();
    let endpoint = || drop.watch(Records::lines()).lag(Duration::ZERO).handler(teller(tell.clone())).unwrap();
    let db = cluster.db.clone();
    let cursor = async || {
        let (cluster, artifact) = (cluster.name.as_str().try_into().unwrap(), "drop".try_into().unwrap());
        let found = leasehold_core::store::checkpoint::get(&db, &cluster, &artifact, "cursor").await.unwrap();
        found.map(|found| found.value)
    };
    let node = start(&cluster, "a", endpoint()).await;
    assert_eq!(next(&mut told).await.0, "one");
    until("all is done", async || cursor().await.as_deref() == Some("idle")).await;
    node.shutdown().await;
    std::fs::rename(drop.inbound().join("done/a"), drop.inbound().join("a")).unwrap();
    let node = start(&cluster, "b", endpoint()).await;
    assert_eq!(next(&mut told).await.0, "one");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_could_not_be_moved_is_not_begun_again_by_the_next_holder() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    drop.put("a", "one");
    drop.put("b", "two");
    let storage = super::odd::Odd::new(drop.inbound());
    storage.set(Some(("rename a", std::io::ErrorKind::StorageFull)));
    let (tell, mut told) = unbounded_channel();
    let watch = || drop.watch(Records::lines()).storage(storage.clone()).lag(Duration::ZERO);
    let node = start(&cluster, "a", watch().handler(teller(tell.clone())).unwrap()).await;
    assert_eq!(next(&mut told).await.0, "one");
    assert_eq!(next(&mut told).await.0, "two");
    until("the other one is moved", async || drop.files() == names(["a", "done/b"])).await;
    node.shutdown().await;
    storage.set(None);
    let node = start(&cluster, "b", watch().handler(teller(tell)).unwrap()).await;
    until("it is moved", async || drop.files() == names(["done/a", "done/b"])).await;
    assert!(told.try_recv().is_err(), "it came again");
    node.shutdown().await;
}

/// What comes again has the same id, by which an inbox knows it.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_knows_what_comes_again() {
    for records in [Records::lines(), Records::Whole] {
        let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
        drop.put(&format!("{}file", "long/".repeat(40)), "one");
        let drop_in = |drop: &Drop| drop.watch(records.clone()).recursive();
        let hangs = Arc::new(AtomicBool::new(true));
        let (tell, mut told) = unbounded_channel();
        let endpoint = || {
            let (db, hangs, tell) = (cluster.db.clone(), Arc::clone(&hangs), tell.clone());
            let inbox = Arc::new(leasehold_core::inbox::Inbox::new("drop").unwrap());
            let handler = move |message: Message, lease: Lease| {
                let (db, hangs, tell, inbox) =
                    (db.clone(), Arc::clone(&hangs), tell.clone(), Arc::clone(&inbox));
                async move {
                    let noting = lease.transaction(&db, async |txn| {
                        Ok::<_, ArtifactError>(inbox.is_new(&lease, txn, &message).await?)
                    });
                    let is_new = noting.await.map_err(|error| HandlerError::retry(error.to_string()))?;
                    let _ = tell.send((message.id().into_owned(), is_new));
                    if hangs.load(Ordering::Relaxed) { std::future::pending().await } else { Ok(()) }
                }
            };
            let mut config = drop_in(&drop).config().clone();
            config.pattern = "**/*".to_owned();
            crate::Files::from_config(config).unwrap().handler(handler).unwrap()
        };
        let node = start(&cluster, "a", endpoint()).await;
        let (id, is_new) = next(&mut told).await;
        assert!(is_new && id.len() <= 255, "{id}");
        node.shutdown().await;
        hangs.store(false, Ordering::Relaxed);
        let node = start(&cluster, "b", endpoint()).await;
        assert_eq!(next(&mut told).await, (id, false));
        node.shutdown().await;
    }
}
