//! Offsets in the database: effect and progress commit together.

use leasehold_core::artifact::ArtifactError;
use leasehold_core::dispatch::RetryPolicy;
use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::store::{Target, checkpoint};
use leasehold_event::kafka::{Offsets, Start};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::common::{Cluster, PATIENCE, next, seen};

async fn progress(db: &DatabaseConnection, broker: &Broker) -> Option<String> {
    let (cluster, artifact) = ("suite".try_into().unwrap(), "payments-in".try_into().unwrap());
    let name = format!("kafka/{}/0", broker.topic);
    checkpoint::get(db, &cluster, &artifact, &name).await.unwrap().map(|found| found.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn effect_and_progress_commit_together_and_the_next_holder_goes_on_from_there() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let db = Target::from_url(&cluster.url()).unwrap().pool(2).unwrap();
    let book = |broken: bool, saw: mpsc::UnboundedSender<crate::common::Seen>| {
        let db = db.clone();
        move |message: Message, lease: Lease| {
            let (db, saw) = (db.clone(), saw.clone());
            async move {
                lease
                    .transaction(&db, async |txn| {
                        let sql = format!("insert into booked values ('{}')", message.text()?);
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
    db.execute_unprepared("create table booked (body text)").await.unwrap();
    broker.put(0, "k", "one").await;
    broker.put(0, "k", "two").await;
    assert_eq!(next(&mut inbox).await.0, "one");
    assert_eq!(progress(&db, &broker).await.as_deref(), Some("1"));
    // Cut off in the middle of the handler, after its commit.
    first.shutdown().await;
    let second = cluster.node("b", kafka().handler(book(false, saw))).await;
    assert_eq!(next(&mut inbox).await.0, "two", "what has taken effect does not come again");
    second.shutdown().await;
    let rows = db.query_all_raw(sea_orm::Statement::from_string(
        db.get_database_backend(),
        "select body from booked order by rowid",
    ));
    let rows: Vec<String> = rows.await.unwrap().iter().map(|row| row.try_get("", "body").unwrap()).collect();
    assert_eq!(rows, ["one", "two"]);
    assert_eq!(progress(&db, &broker).await.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_records_nothing_has_its_progress_written_after_it() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let db = Target::from_url(&cluster.url()).unwrap().pool(2).unwrap();
    let (saw, mut inbox) = mpsc::unbounded_channel();
    let handler = move |message: Message, _: Lease| {
        let saw = saw.clone();
        async move { Ok(saw.send(seen(&message))?) }
    };
    let node = cluster.node("a", broker.consume().offsets(Offsets::InDatabase).handler(handler)).await;
    broker.put(0, "k", "one").await;
    assert_eq!(next(&mut inbox).await.0, "one");
    node.shutdown().await;
    assert_eq!(progress(&db, &broker).await.as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_after_its_commit_has_taken_effect_and_is_not_called_again() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let db = Target::from_url(&cluster.url()).unwrap().pool(2).unwrap();
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
    let node = cluster.node("a", kafka.handler(handler)).await;
    for body in ["early", "late", "last"] {
        broker.put(0, "k", body).await;
    }
    for expected in [("early", 1), ("early", 2), ("late", 1), ("last", 1)] {
        let (body, attempt) = next(&mut inbox).await;
        assert_eq!((body.as_str(), attempt), expected);
    }
    node.shutdown().await;
    assert_eq!(progress(&db, &broker).await.as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_latest_begins_is_written_before_the_first_message() {
    let (broker, cluster) = (Broker::new(1).await, Cluster::new());
    let db = Target::from_url(&cluster.url()).unwrap().pool(2).unwrap();
    broker.put(0, "k", "old").await;
    let kafka = broker.consume().offsets(Offsets::InDatabase).start(Start::Latest);
    let node = cluster.node("a", kafka.handler(|_: Message, _: Lease| async { Ok(()) })).await;
    let written = async {
        while progress(&db, &broker).await.as_deref() != Some("1") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
    node.shutdown().await;
}
