//! The night's billing: one replica bills each customer once a night, whatever happens.
//!
//! `cargo run --example nightly-billing` starts two replicas on one SQLite file and lets nights pass, of three seconds each;
//! stops the replica that bills, then both, and bills once by hand. On a server: `--features postgres` (or `mysql`) and
//! `-- --database URL`.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use leasehold::control::Control;
use leasehold::prelude::*;
use leasehold::task::{chrono_tz, history};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, Statement};

const CLUSTER: &str = "billing";
const TASK: &str = "nightly-billing";
const CUSTOMERS: [&str; 3] = ["ada", "grace", "edsger"];
/// In earnest: `0 30 2 * * *`, at half past two each night. Seconds come first.
const NIGHTS: &str = "*/3 * * * * *";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let folder = std::env::temp_dir().join(format!("leasehold-billing-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let done = show(&format!("sqlite://{}/billing.db?mode=rwc", folder.display())).await;
            std::fs::remove_dir_all(&folder)?;
            done
        }
        ["--database", url] => show(url).await,
        _ => bail!("usage: nightly-billing [--database URL]"),
    }
}

/// One replica of the service.
async fn replica(name: &'static str, url: &str, db: &DatabaseConnection) -> Result<Node, Error> {
    let db = db.clone();
    let billing = Task::cron(TASK, NIGHTS)?
        .zone(chrono_tz::Europe::London)
        // Nights that nobody was there for are not billed one by one: the latest stands for all.
        .misfire(Misfire::FireOnce)
        .threshold(Duration::from_secs(4))
        .retry(Retry::attempts(3))
        .handler(move |firing: Firing| bill(name, db.clone(), firing));
    Node::builder(url)
        .cluster(CLUSTER)
        .node_id(name)
        .ttl(Duration::from_secs(2))
        .artifact(billing)
        .start()
        .await
}

/// All customers of a night, or none: the transaction commits only while this replica holds the lease. The key of an invoice
/// is the night and the customer, so a second attempt at a night leaves alone what the first has written.
async fn bill(replica: &'static str, db: DatabaseConnection, firing: Firing) -> Result<(), ArtifactError> {
    let lease = firing.lease();
    lease
        .transaction(&db, async |txn| {
            for customer in CUSTOMERS {
                invoice(txn, &firing.idempotency_key(), customer, replica).await?;
            }
            Ok::<_, ArtifactError>(())
        })
        .await?;
    let night = firing.slot().with_timezone(&chrono_tz::Europe::London).format("%H:%M:%S %Z");
    let asked = if firing.is_scheduled() { "" } else { ", asked for by hand" };
    println!("  {replica} billed the night of {night}, attempt {}{asked}", firing.attempt());
    Ok(())
}

async fn invoice(
    txn: &DatabaseTransaction,
    night: &str,
    customer: &str,
    replica: &str,
) -> Result<(), ArtifactError> {
    let backend = txn.get_database_backend();
    let sql = match backend {
        sea_orm::DbBackend::MySql => "insert ignore into invoice (night, customer, replica) values (?, ?, ?)",
        _ => "insert into invoice (night, customer, replica) values ($1, $2, $3) on conflict do nothing",
    };
    let values = [night.into(), customer.into(), replica.into()];
    txn.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(())
}

async fn show(url: &str) -> Result<()> {
    let db = Database::connect(url).await?;
    db.execute_unprepared("drop table if exists invoice").await?;
    db.execute_unprepared(
        "create table invoice (night varchar(200) not null, customer varchar(100) not null, \
         replica varchar(100) not null, primary key (night, customer))",
    )
    .await?;

    println!("Two replicas; a night takes three seconds.");
    let a = replica("a", url, &db).await?;
    until_billed(&db, 1).await?;
    let b = replica("b", url, &db).await?;
    until_billed(&db, 2).await?;

    println!("Replica a is stopped; b goes on.");
    a.shutdown().await;
    until_billed(&db, 4).await?;

    println!("Nobody is there for four nights.");
    b.shutdown().await;
    tokio::time::sleep(Duration::from_secs(13)).await;

    println!("Replica a is back: the latest night that was missed is billed, and then the next ones.");
    let billed = nights(&db).await?;
    let a = replica("a", url, &db).await?;
    until_billed(&db, billed + 2).await?;

    println!("An operator asks for one more, from any process that reaches the database.");
    let billed = nights(&db).await?;
    let operator = Control::open(url, CLUSTER).await?.by("night shift").reason("a customer called");
    operator.fire_now(&ArtifactName::new(TASK)?).await?;
    until_billed(&db, billed + 1).await?;
    a.shutdown().await;

    println!("\nThe history of the task, the latest first:");
    let name = ArtifactName::new(TASK)?;
    for fired in history::latest(&db, &leasehold::name::ClusterName::new(CLUSTER)?, &name, 20).await? {
        let outcome = fired.outcome.as_deref().unwrap_or("under way");
        println!(
            "  {}  {} on {}, attempt {}",
            fired.slot.format("%H:%M:%S UTC"),
            outcome,
            fired.node,
            fired.attempts
        );
    }
    let (nights, invoices) = (nights(&db).await?, count(&db, "select count(*) from invoice").await?);
    println!("\n{nights} nights, {invoices} invoices: each customer once a night.");
    ensure!(invoices == nights * CUSTOMERS.len() as i64, "a night was billed in part");
    Ok(())
}

async fn until_billed(db: &DatabaseConnection, wanted: i64) -> Result<()> {
    for _ in 0..300 {
        if nights(db).await? >= wanted {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("no {wanted} nights were billed within 30 s")
}

async fn nights(db: &DatabaseConnection) -> Result<i64> {
    count(db, "select count(distinct night) from invoice").await
}

async fn count(db: &DatabaseConnection, sql: &str) -> Result<i64> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get_by_index(0))?)
}
