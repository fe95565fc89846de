//! Orders that are stored with what the service writes, and forwarded from one replica, in order, until they have arrived.
//!
//! `cargo run --example store-and-forward --features processor` starts two replicas of a web service on one SQLite file and a
//! flaky endpoint, posts orders to both, kills the replica that forwards, and proves in the end that every order arrived, in
//! order per customer. On a server: `--features processor,postgres` (or `mysql`) and `-- --database URL`.
#![allow(clippy::print_stdout, reason = "a program that talks to people")]

mod endpoint;
mod service;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use endpoint::Endpoint;

const CUSTOMERS: [&str; 4] = ["ada", "grace", "edsger", "barbara"];
const ORDERS: usize = 400;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["replica", name, database, endpoint] => service::run(name, database, endpoint).await,
        [] => {
            let folder = std::env::temp_dir().join(format!("leasehold-orders-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let done = show(&format!("sqlite://{}/orders.db?mode=rwc", folder.display())).await;
            std::fs::remove_dir_all(&folder)?;
            done
        }
        ["--database", url] => show(url).await,
        _ => bail!("usage: store-and-forward [--database URL]"),
    }
}

/// A replica of the service, as a process, and where it listens.
struct Replica {
    process: Child,
    url: String,
}

async fn start(name: &str, database: &str, endpoint: &str) -> Result<Replica> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["replica", name, database, endpoint])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = process.stdout.take().context("its output")?;
    let mut lines = BufReader::new(output).lines();
    let url = lines.next_line().await?.context("the replica did not start")?;
    Ok(Replica { process, url })
}

async fn show(database: &str) -> Result<()> {
    service::prepare(database).await?;
    let endpoint = Endpoint::start().await?;
    println!("Two replicas of a web service; an endpoint that fails every seventh time.\n");
    let mut replicas = BTreeMap::new();
    for name in ["a", "b"] {
        replicas.insert(name.to_owned(), start(name, database, &endpoint.url).await?);
    }

    let client = reqwest::Client::new();
    let mut victim = None;
    for n in 0..ORDERS {
        let customer = CUSTOMERS[n % CUSTOMERS.len()];
        // Whichever replica gets the request: it stores the order and what is to be forwarded in one transaction.
        let replica = replicas.values().nth(n % replicas.len()).context("a replica")?;
        let order = format!("{{\"customer\":\"{customer}\",\"number\":{}}}", n / CUSTOMERS.len() + 1);
        client
            .post(format!("{}/orders/{customer}", replica.url))
            .body(order)
            .send()
            .await?
            .error_for_status()?;
        if n == ORDERS / 2 {
            let holder = endpoint.forwarder().await;
            println!("  {n} orders taken; {holder}, which forwards them, is killed");
            let mut gone = replicas.remove(&holder).context("the forwarder is one of ours")?;
            gone.process.kill().await?;
            victim = Some(holder);
        }
    }
    println!("  {ORDERS} orders taken");
    endpoint.until(ORDERS).await?;
    let report = endpoint.report();
    println!("  {} orders arrived, forwarded by {}\n", report.orders, report.forwarders.join(" and then "));

    ensure!(report.orders == ORDERS, "{} of {ORDERS} orders arrived", report.orders);
    for customer in CUSTOMERS {
        let numbers = &report.by_customer[customer];
        ensure!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "the orders of {customer} came out of order: {numbers:?}"
        );
    }
    ensure!(
        report.forwarders.len() == 2 && report.forwarders.first() == victim.as_ref(),
        "{:?}",
        report.forwarders
    );
    println!(
        "Every order arrived, those of each customer in their order; {} came twice, each with the same",
        report.twice
    );
    println!("Idempotency-Key, by which the endpoint told; {} attempts had failed.", report.refused);
    for replica in replicas.values_mut() {
        let id = replica
            .process
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.context("its process id")?, rustix::process::Signal::TERM)?;
        tokio::time::timeout(Duration::from_secs(30), replica.process.wait()).await??;
    }
    Ok(())
}
