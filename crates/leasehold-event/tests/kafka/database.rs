//! Offsets in the database: effect and progress commit together. Every test runs on each database of this build.

use std::future::Future;

use leasehold_core::artifact::{Artifact, ArtifactError};
use leasehold_core::dispatch::RetryPolicy;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::node::Node;
use leasehold_core::store::checkpoint;
use leasehold_event::kafka::{Offsets, Start};
use leasehold_testkit::cluster::Cluster;
use sea_orm::ConnectionTrait;
use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::common::{PATIENCE, next, seen};

async fn on_each<F: Future<Output = ()>>(test: impl Fn(Cluster) -> F) {
    test(Cluster::sqlite().await).await;
    #[cfg(feature = "test-postgres")]
    test(Cluster::on("LEASEHOLD_TEST_POSTGRES").await).await;
    #[cfg(feature = "test-mariadb")]
    test(Cluster::on("LEASEHOLD_TEST_MARIADB").await).await;
    #[cfg(feature = "test-mysql")]
    test(Cluster::on("LEASEHOLD_TEST_MYSQL").await).await;
}

async fn node(cluster: &Cluster, id: &str, artifact: impl Artifact) -> Node {
    cluster.builder(id).artifact(artifact).start().await.unwrap()
}

async fn progress(cluster: &Cluster, broker: &Broker) -> Option<String> {
    let (name, artifact) = (cluster.name.as_str().try_into().unwrap(), "payments-in".try_into().unwrap());
    let checkpoint = format!("kafka/{}/0", broker.topic);
    let found = checkpoint::get(&cluster.db, &name, &artifact, &checkpoint).await.unwrap();
    found.map(|found| found.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn effect_and_progress_commit_together_and_the_next_holder_goes_on_from_there() {
    on_each(async |cluster| {
        let (broker, db) = (Broker::new(1).await, cluster.db.clone());
        let table = format!("booked_{}", cluster.name.replace('-', "_"));
        let book = |broken: bool, saw: mpsc::UnboundedSender<crate::common::Seen>| {
            let (db, table) = (db.clone(), table.clone());
            move |message: Message, lease: Lease| {
                let (db, saw, table) = (db.clone(), saw.clone(), table.clone());
                async move {
                    lease
                        .transaction(&db, async |txn| {
                            let sql = format!("insert into {table} values ('{}')", message.text()?);
                            txn.execute_unprepared(&sql).await?;
                            message.record(&lease, txn).await?;
                            Ok::<_, ArtifactError>(())
                        })
                        .await
                        .map_err(|error| HandlerError::retry(error.to_string()))?;
                    saw.send(seen(&message))?;
                    // It is done, and whoever counts acknowledgements would not know.
                    if broken { std::future::pending().await } else { Ok(()) }
                }
            }
        };
        let (saw, mut inbox) = mpsc::unbounded_channel();
        let kafka = || broker.consume().offsets(Offsets::InDatabase);
        let first = cluster.builder("a").drain_timeout(std::time::Duration::from_millis(100));
        let first = first.artifact(kafka().handler(book(true, saw.clone()))).start().await.unwrap();
        db.execute_unprepared(&format!("create table {table} (body varchar(9))")).await.unwrap();
        broker.put(0, "k", "one").await;
        broker.put(0, "k", "two").await;
        assert_eq!(next(&mut inbox).await.0, "one");
        assert_eq!(progress(&cluster, &broker).await.as_deref(), Some("1"));
        // Cut off in the middle of the handler, after its commit.
        first.shutdown().await;
        let second = node(&cluster, "b", kafka().handler(book(false, saw))).await;
        assert_eq!(next(&mut inbox).await.0, "two", "what has taken effect does not come again");
        second.shutdown().await;
        let rows = db.query_all_raw(sea_orm::Statement::from_string(
            db.get_database_backend(),
            format!("select body from {table} order by body"),
        ));
        let rows: Vec<String> =
            rows.await.unwrap().iter().map(|row| row.try_get("", "body").unwrap()).collect();
        assert_eq!(rows, ["one", "two"]);
        db.execute_unprepared(&format!("drop table {table}")).await.unwrap();
        assert_eq!(progress(&cluster, &broker).await.as_deref(), Some("2"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_records_nothing_has_its_progress_written_after_it() {
    on_each(async |cluster| {
        let broker = Broker::new(1).await;
        let (saw, mut inbox) = mpsc::unbounded_channel();
        let handler = move |message: Message, _: Lease| {
            let saw = saw.clone();
            async move { Ok(saw.send(seen(&message))?) }
        };
        let node = node(&cluster, "a", broker.consume().offsets(Offsets::InDatabase).handler(handler)).await;
        broker.put(0, "k", "one").await;
        assert_eq!(next(&mut inbox).await.0, "one");
        node.shutdown().await;
        assert_eq!(progress(&cluster, &broker).await.as_deref(), Some("1"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_after_its_commit_has_taken_effect_and_is_not_called_again() {
    on_each(async |cluster| {
        let (broker, db) = (Broker::new(1).await, cluster.db.clone());
        let (saw, mut inbox) = mpsc::unbounded_channel();
        let work = db.clone();
        let handler = move |message: Message, lease: Lease| {
            let (db, saw) = (work.clone(), saw.clone());
            async move {
                saw.send(seen(&message))?;
                if (message.text()?, message.attempt()) == ("early", 1) {
                    return Err("before its commit".into());
                }
                let recorded = lease
                    .transaction(&db, async |txn| Ok::<_, ArtifactError>(message.record(&lease, txn).await?));
                recorded.await.map_err(|error| HandlerError::retry(error.to_string()))?;
                if message.text()? == "late" { Err("after its commit".into()) } else { Ok(()) }
            }
        };
        let pause = std::time::Duration::from_millis(10);
        let retry = RetryPolicy { backoff: pause, max_backoff: pause, ..RetryPolicy::default() };
        let kafka = broker.consume().offsets(Offsets::InDatabase).retry(retry);
        let node = node(&cluster, "a", kafka.handler(handler)).await;
        for body in ["early", "late", "last"] {
            broker.put(0, "k", body).await;
        }
        for expected in [("early", 1), ("early", 2), ("late", 1), ("last", 1)] {
            let (body, attempt) = next(&mut inbox).await;
            assert_eq!((body.as_str(), attempt), expected);
        }
        node.shutdown().await;
        assert_eq!(progress(&cluster, &broker).await.as_deref(), Some("3"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_latest_begins_is_written_before_the_first_message() {
    on_each(async |cluster| {
        let broker = Broker::new(1).await;
        broker.put(0, "k", "old").await;
        let kafka = broker.consume().offsets(Offsets::InDatabase).start(Start::Latest);
        let node = node(&cluster, "a", kafka.handler(|_: Message, _: Lease| async { Ok(()) })).await;
        let written = async {
            while progress(&cluster, &broker).await.as_deref() != Some("1") {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.unwrap();
        node.shutdown().await;
    })
    .await;
}
