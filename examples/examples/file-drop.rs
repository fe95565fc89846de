//! Files are dropped into a folder that three replicas watch; one is killed in mid-file, and every record arrives once.
//!
//! `cargo run --example file-drop --features polling` starts three replicas on one SQLite file. The one that holds the lease reads the
//! files row by row and books each row in a transaction, in which it also writes how far it has come. It is killed in the middle of a file; the
//! next holder goes on at the row that was not booked. On a server: `--features polling,postgres` (or `mysql`) and `-- --database URL`.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use leasehold::prelude::*;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use tokio::process::{Child, Command};
use tokio::time::Instant;

const FILES: usize = 3;
/// Rows of a file.
const ROWS: usize = 400;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["replica", name, database, folder] => replica(name, database, folder).await,
        [] => {
            let folder = std::env::temp_dir().join(format!("leasehold-drop-{}", std::process::id()));
            std::fs::create_dir_all(folder.join("in"))?;
            let done =
                show(&format!("sqlite://{}/drop.db?mode=rwc", folder.display()), &folder.join("in")).await;
            std::fs::remove_dir_all(&folder)?;
            done
        }
        ["--database", url] => {
            let folder = std::env::temp_dir().join(format!("leasehold-drop-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let done = show(url, &folder).await;
            std::fs::remove_dir_all(&folder)?;
            done
        }
        _ => bail!("usage: file-drop [--database URL]"),
    }
}

/// What a replica of the service does: this is all of it.
async fn replica(name: &str, database: &str, folder: &str) -> Result<()> {
    let (db, by) = (connect(database).await?, name.to_owned());
    let files = Files::watch("bank-drop", folder, "*.csv")?
        .records(Records::csv()) // each row a JSON object, by the names of the header
        .complete(Complete::Renamed) // or: stable for a while, or with a marker beside it
        .after(After::MoveTo("done".to_owned())) // what fails goes to `failed`, with the reason beside it
        .progress(Progress::InHandler) // effect and progress commit together
        .handler(move |row: Message, lease: Lease| book(db.clone(), by.clone(), row, lease))?;
    let node = Node::builder(database).cluster("bank").node_id(name).ttl(Duration::from_secs(2));
    node.artifact(files).start().await?.run_until_signal().await;
    Ok(())
}

async fn book(db: DatabaseConnection, by: String, row: Message, lease: Lease) -> Result<(), HandlerError> {
    let fields: BTreeMap<String, String> = serde_json::from_str(row.text()?)?;
    let (Ok(payment), Ok(amount)) = (fields["payment"].parse::<i64>(), fields["amount"].parse::<i64>())
    else {
        return Err(HandlerError::reject("the amount is no number"));
    };
    let booking = lease.transaction(&db, async |txn| {
        txn.execute_unprepared(&format!(
            "insert into booked (payment, amount, node) values ({payment}, {amount}, '{by}')"
        ))
        .await?;
        row.record(&lease, txn).await?;
        Ok::<_, ArtifactError>(())
    });
    booking.await.map_err(|error| HandlerError::retry(error.to_string()))
}

async fn connect(database: &str) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(database);
    options.max_connections(2).sqlx_logging(false);
    Ok(Database::connect(options).await?)
}

fn start(name: &str, database: &str, folder: &Path) -> Result<Child> {
    let mut program = Command::new(std::env::current_exe()?);
    program.args(["replica", name, database]).arg(folder).stdout(Stdio::null()).kill_on_drop(true);
    program.spawn().context("starting a replica")
}

async fn show(database: &str, folder: &Path) -> Result<()> {
    let db = connect(database).await?;
    db.execute_unprepared("drop table if exists booked").await?;
    db.execute_unprepared("create table booked (payment bigint, amount bigint, node varchar(10))").await?;
    let mut replicas = BTreeMap::new();
    for name in ["a", "b", "c"] {
        replicas.insert(name.to_owned(), start(name, database, folder)?);
    }
    println!("Three replicas watch a folder; {FILES} files of {ROWS} payments are dropped into it.\n");
    for file in 0..FILES {
        drop_file(folder, file)?;
    }

    // In the middle of the second file.
    let holder =
        until(&db, "select node, count(*) as n from booked group by node", |n| n > ROWS as i64 * 3 / 2)
            .await?;
    let mut killed = replicas.remove(&holder).context("the holder is one of ours")?;
    killed.kill().await?;
    let (at, booked) = (Instant::now(), count(&db, "select count(*) as n from booked").await?);
    println!("  SIGKILL   {holder} died after {booked} payments, in the middle of a file");
    let others = format!("select node, count(*) as n from booked where node <> '{holder}' group by node");
    let next = until(&db, &others, |n| n > 0).await?;
    println!("  {next} goes on {:.2} s later", at.elapsed().as_secs_f64());

    let all = (FILES * ROWS - 1) as i64;
    until(&db, "select '' as node, count(*) as n from booked", |n| n >= all).await?;
    let moved = async {
        while std::fs::read_dir(folder.join("done")).map_or(0, Iterator::count) < FILES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), moved).await.context("the files are not moved")?;
    let (rows, different) = (
        count(&db, "select count(*) as n from booked").await?,
        count(&db, "select count(distinct payment) as n from booked").await?,
    );
    ensure!(rows == all && different == all, "{rows} rows, {different} different ones, of {all}");
    let reason = std::fs::read_to_string(folder.join("failed/payments-1.csv.7.reason"))?;
    println!(
        "\nEvery payment was booked once: {rows} rows, {different} different ones. The files are in `done`, and the one"
    );
    println!("row that could not be booked is in `failed`, with the reason beside it:\n\n{reason}");
    for replica in replicas.values_mut() {
        replica.kill().await?;
    }
    Ok(())
}

/// Written elsewhere and renamed: a reader sees all of it or nothing.
fn drop_file(folder: &Path, file: usize) -> Result<()> {
    let row = |n: usize| {
        let amount = if (file, n) == (1, 6) { "a lot".to_owned() } else { (n * 7).to_string() };
        format!("{},{amount}\n", file * ROWS + n)
    };
    let rows: String = (0..ROWS).map(row).collect();
    let partial = folder.join(format!("payments-{file}.csv.part"));
    std::fs::write(&partial, format!("payment,amount\n{rows}"))?;
    Ok(std::fs::rename(partial, folder.join(format!("payments-{file}.csv")))?)
}

async fn count(db: &DatabaseConnection, sql: &str) -> Result<i64> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    Ok(row.context("a row")?.try_get("", "n")?)
}

/// Waits until a node's number is so, and tells which node.
async fn until(db: &DatabaseConnection, sql: &str, so: impl Fn(i64) -> bool) -> Result<String> {
    let waiting = async {
        loop {
            for row in db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await? {
                if so(row.try_get("", "n")?) {
                    return Ok(row.try_get("", "node")?);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.context("nobody goes on")?
}
