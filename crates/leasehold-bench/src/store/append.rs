//! Appending, against bare inserts of the same rows.

use anyhow::Result;
use leasehold::clock::{BootClock, Clock};
use leasehold::prelude::*;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, Value};
use tokio::task::JoinSet;

use super::{AT_ONCE, BODY, FEWER, KEYS, Stage, compare};
use crate::figures::Report;

const BATCH: u32 = 100;

pub(super) async fn measure(stage: &Stage<'_>, many: u32, report: &mut Report) -> Result<()> {
    for (batch, called, many) in [(1, "one by one", many / FEWER), (BATCH, "by hundreds", many)] {
        let name = format!("{many} messages appended {called}, {AT_ONCE} at once");
        let bare = async || appended(stage, many, batch, false).await;
        let ours = async || appended(stage, many, batch, true).await;
        compare(report, &name, "of bare inserts", bare, ours, 0.9).await?;
    }
    stage.empty().await
}

async fn appended(stage: &Stage<'_>, many: u32, batch: u32, ours: bool) -> Result<f64> {
    stage.empty().await?;
    let store = stage.store()?;
    let begin = BootClock.now();
    let mut tasks = JoinSet::new();
    let share = many / AT_ONCE as u32;
    for task in 0..AT_ONCE as u32 {
        let (db, store) = (stage.db.clone(), store.clone());
        tasks.spawn(async move {
            let body = "x".repeat(BODY);
            for first in (0..share).step_by(batch as usize) {
                let keys: Vec<u32> =
                    (first..share.min(first + batch)).map(|n| (task * share + n) % KEYS).collect();
                if ours {
                    let messages: Vec<_> =
                        keys.iter().map(|key| Outgoing::text(body.as_str()).key(key)).collect();
                    store.append_batch(&db, &messages).await?;
                } else {
                    insert(&db, &keys, &body).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(f64::from(share * AT_ONCE as u32) / BootClock.now().since(begin).as_secs_f64())
}

/// As somebody would write it by hand.
async fn insert(db: &DatabaseConnection, keys: &[u32], body: &str) -> Result<()> {
    let backend = db.get_database_backend();
    let mut text = "insert into leasehold_message (store, message, order_key, headers, content_type, body, appended_at) values ".to_owned();
    let mut values: Vec<Value> = Vec::new();
    for (row, key) in keys.iter().enumerate() {
        let place =
            |n: usize| if backend == DbBackend::MySql { "?".to_owned() } else { format!("${}", row * 7 + n) };
        let places = (1..=7).map(place).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("{}({places})", if row == 0 { "" } else { ", " }));
        let id = uuid_like(*key);
        values.extend::<[Value; 7]>([
            "bench-outbox".into(),
            id.into(),
            key.to_string().into(),
            "[]".into(),
            "text/plain; charset=utf-8".into(),
            body.as_bytes().to_vec().into(),
            0_i64.into(),
        ]);
    }
    db.execute_raw(Statement::from_sql_and_values(backend, text, values)).await?;
    Ok(())
}

fn uuid_like(key: u32) -> String {
    format!("{:032x}{key:04x}", BootClock.now().as_nanos())
}
