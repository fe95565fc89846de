//! What somebody would write who needs no leases, no order and no retries.

use anyhow::{Context, Result};
use leasehold::clock::{BootClock, Clock, Instant};
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};
use tokio::task::JoinSet;

use super::{AT_ONCE, BODY, Stage};
use crate::sink;

const PAGE: u32 = 200;

fn rate(many: u32, begin: Instant) -> f64 {
    f64::from(many) / BootClock.now().since(begin).as_secs_f64()
}

fn numbered(backend: DbBackend, text: &str) -> String {
    if backend == DbBackend::MySql { text.replace("$1", "?").replace("$2", "?") } else { text.to_owned() }
}

async fn page(stage: &Stage<'_>, limit: u32) -> Result<Vec<(i64, Vec<u8>)>> {
    let backend = stage.db.get_database_backend();
    let text = numbered(
        backend,
        &format!(
            "select id, message, order_key, headers, content_type, body from leasehold_message where store = $1 order by id limit {limit}"
        ),
    );
    let rows = stage
        .db
        .query_all_raw(Statement::from_sql_and_values(backend, text, ["bench-outbox".into()]))
        .await?;
    let read = |row: &QueryResult| Ok((row.try_get("", "id")?, row.try_get("", "body")?));
    rows.iter().map(read).collect()
}

async fn delete(stage: &Stage<'_>, ids: &[i64]) -> Result<()> {
    let backend = stage.db.get_database_backend();
    let list = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let store: Value = "bench-outbox".into();
    let statement = match backend {
        DbBackend::Postgres => Statement::from_sql_and_values(
            backend,
            "delete from leasehold_message where store = $1 and id = any(string_to_array($2, ',')::bigint[])",
            [store, list.into()],
        ),
        _ => {
            let text = numbered(
                backend,
                &format!("delete from leasehold_message where store = $1 and id in ({list})"),
            );
            Statement::from_sql_and_values(backend, text, [store])
        }
    };
    stage.db.execute_raw(statement).await?;
    Ok(())
}

fn ids(page: &[(i64, Vec<u8>)]) -> Vec<i64> {
    page.iter().map(|(id, _)| *id).collect()
}

/// A page, and one deletion of it.
pub(super) async fn pages(stage: &Stage<'_>, many: u32) -> Result<f64> {
    stage.fill(many).await?;
    let begin = BootClock.now();
    loop {
        let page = page(stage, PAGE).await?;
        if page.is_empty() {
            return Ok(rate(many, begin));
        }
        delete(stage, &ids(&page)).await?;
    }
}

fn client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().retry(reqwest::retry::never()).no_proxy().build()?;
    Ok(client)
}

async fn post(client: &reqwest::Client, url: &str, body: Vec<u8>) -> Result<()> {
    let response = client.post(url).body(body).send().await?.error_for_status()?;
    response.bytes().await?;
    Ok(())
}

/// A page, its messages posted some at once, and one deletion of it.
pub(super) async fn pages_over_http(stage: &Stage<'_>, many: u32) -> Result<f64> {
    stage.fill(many).await?;
    let (address, _) = sink::start()?;
    let (client, url) = (client()?, format!("http://{address}/"));
    let begin = BootClock.now();
    loop {
        let page = page(stage, PAGE).await?;
        if page.is_empty() {
            return Ok(rate(many, begin));
        }
        let ids = ids(&page);
        let mut posts = JoinSet::new();
        for (_, body) in page {
            if posts.len() >= AT_ONCE {
                posts.join_next().await.context("a post")???;
            }
            let (client, url) = (client.clone(), url.clone());
            posts.spawn(async move { post(&client, &url, body).await });
        }
        while let Some(posted) = posts.join_next().await {
            posted??;
        }
        delete(stage, &ids).await?;
    }
}

/// One after the other, without a database.
pub(super) async fn posts(many: u32) -> Result<f64> {
    let (address, _) = sink::start()?;
    let (client, url, body) = (client()?, format!("http://{address}/"), vec![b'x'; BODY]);
    let begin = BootClock.now();
    for _ in 0..many {
        post(&client, &url, body.clone()).await?;
    }
    Ok(rate(many, begin))
}

/// Each read, posted and deleted before the next.
pub(super) async fn one_by_one(stage: &Stage<'_>, many: u32) -> Result<f64> {
    stage.fill(many).await?;
    let (address, _) = sink::start()?;
    let (client, url) = (client()?, format!("http://{address}/"));
    let begin = BootClock.now();
    loop {
        let Some((id, body)) = page(stage, 1).await?.pop() else { return Ok(rate(many, begin)) };
        post(&client, &url, body).await?;
        delete(stage, &[id]).await?;
    }
}
