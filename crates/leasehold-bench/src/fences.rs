//! What a fence costs: concurrent transactions with and without it, on the same pool.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use leasehold::clock::{BootClock, Clock};
use leasehold::prelude::*;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::figures::{Bound, Report};
use crate::servers::Server;

const CONCURRENT: usize = 32;
const RUNS: usize = 5;
const RUN: Duration = Duration::from_secs(3);
/// Of SQLite one connection has the best tail: writers queue in the pool, rather than poll a file lock.
const SQLITE_CONNECTIONS: u32 = 1;

pub(crate) async fn measure(server: &Server, report: &mut Report) -> Result<()> {
    let mut options = ConnectOptions::new(server.url());
    let connections = if server.is_sqlite() { SQLITE_CONNECTIONS } else { u32::try_from(CONCURRENT)? };
    options.max_connections(connections).sqlx_logging(false).acquire_timeout(Duration::from_secs(60));
    let db = Database::connect(options).await?;

    let (sender, mut leases) = mpsc::unbounded_channel();
    let mut builder = Node::builder(server.url()).cluster(server.cluster("fences")).node_id("bench");
    for index in 0..CONCURRENT {
        let sender = sender.clone();
        let job = move |lease: Lease| {
            let sender = sender.clone();
            async move {
                sender.send(lease.clone())?;
                lease.revoked().await;
                Ok(())
            }
        };
        builder = builder.artifact(Lead::new(format!("job-{index:02}"), job)?);
    }
    let node = builder.start().await?;
    let mut held = Vec::new();
    while held.len() < CONCURRENT {
        held.push(leases.recv().await.context("a lease")?);
    }
    let create = "create table if not exists leasehold_bench_row (id varchar(100) primary key, value varchar(100) not null)";
    db.execute_unprepared(create).await?;

    for (leases, name) in [(&held[..1], "of one lease"), (&held[..], "of 32 leases")] {
        let mut rates = Vec::new();
        for _ in 0..RUNS {
            let unfenced = rate(&db, None).await?;
            let fenced = rate(&db, Some(leases)).await?;
            rates.push((fenced / unfenced, unfenced, fenced));
        }
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, unfenced, fenced) = rates.get(RUNS / 2).copied().context("a median")?;
        report.add(
            format!("{CONCURRENT} concurrent unfenced transactions, beside those {name}"),
            unfenced,
            "/s",
            None,
        );
        report.add(format!("{CONCURRENT} concurrent fenced transactions {name}"), fenced, "/s", None);
        let name = format!("ratio {name}, median of {RUNS} alternating runs");
        report.add(name, ratio, "x", Some(Bound::AtLeast(0.8)));
    }
    db.execute_unprepared("drop table leasehold_bench_row").await?;
    node.shutdown().await;
    Ok(())
}

/// Transactions per second. Both kinds go through the same pool, so they are equally durable.
async fn rate(db: &DatabaseConnection, leases: Option<&[Lease]>) -> Result<f64> {
    let begin = BootClock.now();
    let end = begin + RUN;
    let mut tasks = JoinSet::new();
    for index in 0..CONCURRENT {
        let db = db.clone();
        let lease = leases.and_then(|leases| leases.get(index % leases.len())).cloned();
        tasks.spawn(async move {
            let mut done = 0_u32;
            let id: Arc<str> = format!("row-{index}").into();
            while BootClock.now() < end {
                match &lease {
                    Some(lease) => fenced(&db, lease, &id).await?,
                    None => unfenced(&db, &id).await?,
                }
                done += 1;
            }
            Ok::<_, anyhow::Error>(done)
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    Ok(f64::from(done) / BootClock.now().since(begin).as_secs_f64())
}

async fn fenced(db: &DatabaseConnection, lease: &Lease, id: &str) -> Result<()> {
    let done = lease
        .transaction(db, async |txn| {
            write(txn, id).await?;
            Ok::<_, ArtifactError>(())
        })
        .await;
    done.map_err(|error| anyhow::anyhow!("{error}"))
}

async fn unfenced(db: &DatabaseConnection, id: &str) -> Result<()> {
    let immediate =
        (db.get_database_backend() == sea_orm::DbBackend::Sqlite).then_some(SqliteTransactionMode::Immediate);
    let options = TransactionOptions { sqlite_transaction_mode: immediate, ..Default::default() };
    let txn = db.begin_with_options(options).await?;
    write(&txn, id).await?;
    txn.commit().await?;
    Ok(())
}

/// The user's own work: one row each, so that the transactions wait for each other only at the fence.
async fn write(txn: &DatabaseTransaction, id: &str) -> Result<(), DbErr> {
    let sql = "insert into leasehold_bench_row (id, value) values ($1, $2) on conflict (id) do update set value = $2";
    let values = [id.into(), BootClock.now().as_nanos().to_string().into()];
    txn.execute_raw(Statement::from_sql_and_values(txn.get_database_backend(), sql, values)).await.map(drop)
}
