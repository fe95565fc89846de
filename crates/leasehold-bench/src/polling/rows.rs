//! Rows of a table, page by page.

use std::sync::Arc;

use anyhow::{Result, ensure};
use leasehold::clock::{BootClock, Clock};
use leasehold::prelude::*;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};

use super::{Given, compare, seconds, start};
use crate::figures::Report;
use crate::servers::Server;

const TABLE: &str = "leasehold_bench_rows";
const PAGE: usize = 5000;
const PAYLOAD: usize = 100;

pub(super) async fn measure(server: &Server, many: u32, report: &mut Report) -> Result<()> {
    let mut connection = ConnectOptions::new(server.url());
    connection.max_connections(if server.is_sqlite() { 1 } else { 4 }).sqlx_logging(false);
    let db = Database::connect(connection).await?;
    fill(&db, many).await?;
    let all = (f64::from(many), "/s");
    let bare = async || bare(&db, many).await;
    let payload = async || ours(server, &db, many, true).await;
    let name = format!("{many} rows of {PAYLOAD} bytes, a column as the payload");
    compare(report, &name, "bare paged query", all, bare, payload, Some(0.8)).await?;
    let objects = async || ours(server, &db, many, false).await;
    let name = format!("{many} rows, each as a JSON object");
    compare(report, &name, "bare paged query of the columns", all, bare, objects, None).await?;
    db.execute_unprepared(&format!("drop table {TABLE}")).await?;
    Ok(())
}

async fn fill(db: &DatabaseConnection, many: u32) -> Result<()> {
    db.execute_unprepared(&format!("drop table if exists {TABLE}")).await?;
    let table = format!("create table {TABLE} (id bigint primary key, payload varchar(200) not null)");
    db.execute_unprepared(&table).await?;
    let payload = "x".repeat(PAYLOAD);
    for first in (0..many).step_by(5000) {
        let rows: Vec<String> =
            (first..many.min(first + 5000)).map(|n| format!("({}, '{payload}')", n + 1)).collect();
        db.execute_unprepared(&format!("insert into {TABLE} values {}", rows.join(", "))).await?;
    }
    if db.get_database_backend() == DbBackend::Postgres {
        db.execute_unprepared(&format!("vacuum analyze {TABLE}")).await?;
    }
    Ok(())
}

async fn bare(db: &DatabaseConnection, many: u32) -> Result<f64> {
    let backend = db.get_database_backend();
    let p = if backend == DbBackend::Postgres { "$1" } else { "?" };
    let text = format!("select id, payload from {TABLE} where id > {p} order by id limit {PAGE}");
    let begin = BootClock.now();
    let (mut after, mut count, mut bytes) = (0_i64, 0, 0);
    loop {
        let page = Statement::from_sql_and_values(backend, text.as_str(), [after.into()]);
        let rows = db.query_all_raw(page).await?;
        for row in &rows {
            after = row.try_get("", "id")?;
            bytes += row.try_get::<String>("", "payload")?.len();
            count += 1;
        }
        if rows.len() < PAGE {
            break;
        }
    }
    let took = seconds(begin);
    ensure!(count == many && bytes == many as usize * PAYLOAD, "{count} rows were read");
    Ok(took)
}

async fn ours(server: &Server, db: &DatabaseConnection, many: u32, payload: bool) -> Result<f64> {
    let given = Given::of(many);
    let counted = Arc::clone(&given);
    let handler = move |message: Message, _: Lease| {
        counted.add(&message);
        std::future::ready(Ok(()))
    };
    let watermark = Watermark::new(Column::integer("id"), Late::Never);
    let sql =
        Sql::by_watermark("bench", db, format!("select id, payload from {TABLE}"), watermark)?.batch(PAGE);
    let sql = if payload { sql.body("payload") } else { sql };
    let (node, begin) = start(server, &server.cluster("rows"), sql.handler(handler)?).await?;
    let bytes = given.all().await?;
    let took = seconds(begin);
    node.shutdown().await;
    ensure!(bytes >= u64::from(many) * PAYLOAD as u64, "{bytes} bytes were read");
    Ok(took)
}
