//! A replica that polls a folder beside its log, and books each line in a table, or writes it to the log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use leasehold::prelude::*;
use leasehold_tests::courier::Delivery;
use sea_orm::{ConnectionTrait, DatabaseConnection};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, name, ttl_ms, log] = &arguments[..] else {
        return Err("usage: poller DATABASE NODE TTL_MS LOG".into());
    };
    let db = sea_orm::Database::connect(database).await?;
    let (log, folder) = (PathBuf::from(log), Path::new(log).parent().unwrap_or(Path::new(".")));
    let in_handler = folder.join("in-handler").exists();
    let files = Files::watch("drop", folder.join("in"), "*")?.records(Records::lines());
    let files = files.complete(Complete::Renamed).every(Duration::from_millis(50));
    let progress = if in_handler { Progress::InHandler } else { Progress::AfterHandler };
    let node = name.clone();
    let handler = move |message: Message, lease: Lease| {
        let (db, log, node) = (db.clone(), log.clone(), node.clone());
        async move {
            if in_handler {
                book(&db, &node, &message, &lease).await
            } else {
                note(&log, node, &message, &lease).await
            }
        }
    };
    let node = Node::builder(database.as_str())
        .cluster("suite")
        .node_id(name)
        .ttl(Duration::from_millis(ttl_ms.parse()?));
    node.artifact(files.progress(progress).handler(handler)?).start().await?.run_until_signal().await;
    Ok(())
}

async fn book(
    db: &DatabaseConnection,
    node: &str,
    message: &Message,
    lease: &Lease,
) -> Result<(), HandlerError> {
    let (line, token) = (message.text()?.to_owned(), lease.token());
    let booking = lease.transaction(db, async |txn| {
        let sql = format!("insert into booked (line, node, token) values ({line}, '{node}', {token})");
        txn.execute_unprepared(&sql).await?;
        message.record(lease, txn).await?;
        Ok::<_, ArtifactError>(())
    });
    booking.await.map_err(|error| HandlerError::retry(error.to_string()))
}

async fn note(log: &Path, node: String, message: &Message, lease: &Lease) -> Result<(), HandlerError> {
    lease.check()?;
    let text = message.text()?;
    let delivery = Delivery {
        id: text.to_owned(),
        key: String::new(),
        number: text.parse()?,
        token: lease.token().0,
        node,
    };
    delivery.append(log)?;
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}
