//! The holder of an endpoint of files is killed under load, again and again: how often did each record take effect.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use leasehold::prelude::*;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::LIMIT;
use crate::Options;
use crate::figures::{Bound, Report, percentile};
use crate::line::now;
use crate::servers::{Server, random};

const TTL: Duration = Duration::from_secs(2);
const NAMES: [&str; 3] = ["a", "b", "c"];
/// Lines of a file.
const LINES: u64 = 200;

/// What a polling process is to do; by its standard input, because a URL may hold a password.
#[derive(Clone, Serialize, Deserialize)]
struct Role {
    database: String,
    cluster: String,
    name: String,
    folder: PathBuf,
    table: String,
    /// The handler records progress in its transaction.
    in_handler: bool,
}

/// The polling process.
pub(crate) fn poller() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let role: Role = serde_json::from_str(&line)?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let db = connect(&role.database).await?;
        let Role { database, cluster, name, folder, table, in_handler } = role;
        let progress = if in_handler { Progress::InHandler } else { Progress::AfterHandler };
        let files = Files::watch("drop", folder, "*")?.records(Records::lines()).complete(Complete::Renamed);
        let files = files.every(Duration::from_millis(100)).progress(progress);
        let by = name.clone();
        let handler = move |message: Message, lease: Lease| {
            let (db, table, by) = (db.clone(), table.clone(), by.clone());
            async move {
                let sql = format!("insert into {table} (line, node) values ({}, '{by}')", message.text()?);
                if !in_handler {
                    lease.check()?;
                    db.execute_unprepared(&sql).await?;
                    return Ok(());
                }
                let booking = lease.transaction(&db, async |txn| {
                    txn.execute_unprepared(&sql).await?;
                    message.record(&lease, txn).await?;
                    Ok::<_, ArtifactError>(())
                });
                booking.await.map_err(|error| HandlerError::retry(error.to_string()))
            }
        };
        let node = Node::builder(database).cluster(cluster).node_id(name).ttl(TTL);
        node.artifact(files.handler(handler)?).start().await?.run_until_signal().await;
        Ok(())
    })
}

async fn connect(url: &str) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(2).sqlx_logging(false);
    Ok(Database::connect(options).await?)
}

async fn start(role: &Role, name: &str) -> Result<Child> {
    let role = Role { name: name.to_owned(), ..role.clone() };
    let mut child = Command::new(std::env::current_exe()?)
        .arg("poller")
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting a poller")?;
    let mut input = child.stdin.take().context("its input")?;
    input.write_all(format!("{}\n", serde_json::to_string(&role)?).as_bytes()).await?;
    Ok(child)
}

pub(super) async fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    if options.kills == 0 {
        return Ok(());
    }
    for in_handler in [true, false] {
        kill(server, options.kills, in_handler, report).await?;
    }
    Ok(())
}

/// What took effect: the last one, how many, and how many different ones.
struct Seen<'a> {
    db: &'a DatabaseConnection,
    table: &'a str,
}

impl Seen<'_> {
    async fn rows(&self, sql: String) -> Result<Vec<sea_orm::QueryResult>> {
        Ok(self.db.query_all_raw(Statement::from_string(self.db.get_database_backend(), sql)).await?)
    }

    /// The number of the last effect, and who made it.
    async fn last(&self) -> Result<Option<(i64, String)>> {
        let rows = self.rows(format!("select id, node from {} order by id desc limit 1", self.table)).await?;
        rows.first().map(|row| Ok((row.try_get("", "id")?, row.try_get("", "node")?))).transpose()
    }

    async fn counts(&self) -> Result<(u64, u64)> {
        let sql = format!("select count(*) as every, count(distinct line) as different from {}", self.table);
        let rows = self.rows(sql).await?;
        let row = rows.first().context("a row")?;
        let number = |column| Ok::<_, anyhow::Error>(row.try_get::<i64>("", column)?.unsigned_abs());
        Ok((number("every")?, number("different")?))
    }

    async fn until<T>(&self, what: &str, wanted: impl AsyncFn(&Self) -> Result<Option<T>>) -> Result<T> {
        let waiting = async {
            loop {
                if let Some(found) = wanted(self).await? {
                    return Ok(found);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.with_context(|| format!("waited in vain until {what}"))?
    }
}

async fn kill(server: &Server, kills: usize, in_handler: bool, report: &mut Report) -> Result<()> {
    let (folder, db) = (TempDir::with_prefix("leasehold-bench-drop-")?, connect(server.url()).await?);
    let table = format!("leasehold_bench_effects_{}_{}", std::process::id(), u8::from(in_handler));
    let id = match server.kind() {
        "PostgreSQL" => "bigserial",
        "SQLite" => "integer",
        _ => "bigint auto_increment",
    };
    db.execute_unprepared(&format!(
        "create table {table} (id {id} primary key, line bigint not null, node varchar(10) not null)"
    ))
    .await?;
    let inbound = folder.path().join("in");
    std::fs::create_dir(&inbound)?;
    let role = Role {
        database: server.url().to_owned(),
        cluster: server.cluster("drop"),
        name: String::new(),
        folder: inbound,
        table: table.clone(),
        in_handler,
    };
    let mut members = HashMap::new();
    for name in NAMES {
        members.insert(name.to_owned(), start(&role, name).await?);
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(load(folder.path().to_owned(), stopped));
    let seen = Seen { db: &db, table: &table };
    let mut gaps = Vec::new();
    for _ in 0..kills {
        let (before, _) = seen.until("a record takes effect", async |seen| seen.last().await).await?;
        tokio::time::sleep(Duration::from_millis(300) + random(Duration::from_millis(700))).await;
        let more = async |seen: &Seen<'_>| Ok(seen.last().await?.filter(|(id, _)| *id > before));
        let (_, holder) = seen.until("records go on", more).await?;
        let mut child = members.remove(&holder).context("the holder")?;
        let at = now();
        child.kill().await?;
        let next = async |seen: &Seen<'_>| Ok(seen.last().await?.filter(|(_, by)| *by != holder));
        seen.until("another replica goes on", next).await?;
        gaps.push(Duration::from_nanos(now() - at));
        members.insert(holder.clone(), start(&role, &holder).await?);
    }
    stop.send_replace(true);
    let sent = load.await??;
    let all =
        async |seen: &Seen<'_>| Ok(Some(seen.counts().await?).filter(|(_, different)| *different >= sent));
    let (every, different) = seen.until("everything has taken effect", all).await?;
    let how = if in_handler { "progress in the handler's transaction" } else { "progress after the handler" };
    let name = |what: &str| format!("{kills} SIGKILLs of the holder, {how}, {what}");
    report.add(name("records"), sent as f64, "", None);
    report.add(name("lost"), sent.saturating_sub(different) as f64, "", Some(Bound::AtMost(0.0)));
    let again = (every - different) as f64;
    report.add(name("effects that happened again"), again, "", in_handler.then_some(Bound::AtMost(0.0)));
    report.time(name("to the next effect, median"), percentile(&gaps, 0.5), None);
    for child in members.values_mut() {
        child.kill().await?;
    }
    db.execute_unprepared(&format!("drop table {table}")).await?;
    Ok(())
}

/// Drops files until it is stopped; tells how many lines there are in them.
async fn load(folder: PathBuf, stopped: tokio::sync::watch::Receiver<bool>) -> Result<u64> {
    let mut sent = 0;
    while !*stopped.borrow() {
        put(&folder, sent / LINES, sent..sent + LINES)?;
        sent += LINES;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(sent)
}

fn put(folder: &Path, name: u64, lines: std::ops::Range<u64>) -> Result<()> {
    let partial = folder.join("partial");
    std::fs::write(&partial, lines.map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(std::fs::rename(partial, folder.join("in").join(format!("{name:08}")))?)
}
