//! A replica that forwards messages to a file: one line each. One message it does not survive.

use std::time::Duration;

use leasehold::prelude::*;
use leasehold_core::handler::HandlerError;
use leasehold_core::message::Message;
use leasehold_tests::courier::{AT_ONCE, ATTEMPTS, Delivery, POISON, STORE};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, name, ttl_ms, log] = &arguments[..] else {
        return Err("usage: courier DATABASE NODE TTL_MS LOG".into());
    };
    let db = sea_orm::Database::connect(database).await?;
    let (log, node) = (log.clone(), name.clone());
    let handler = move |message: Message, lease: Lease| deliver(log.clone(), node.clone(), message, lease);
    let processor = Processor::new("push", SqlStore::new(&db, STORE)?, handler)?;
    let processor =
        processor.order(Order::PerKey(AT_ONCE)).attempts(ATTEMPTS).park().poll(Duration::from_millis(20));
    let node = Node::builder(database.as_str())
        .cluster("suite")
        .node_id(name)
        .ttl(Duration::from_millis(ttl_ms.parse()?));
    node.artifact(processor).start().await?.run_until_signal().await;
    Ok(())
}

async fn deliver(log: String, node: String, message: Message, lease: Lease) -> Result<(), HandlerError> {
    let body = message.text()?.to_owned();
    if body == POISON {
        std::process::abort();
    }
    lease.check()?;
    let delivery = Delivery {
        id: message.id().into_owned(),
        key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default(),
        number: body.parse()?,
        token: lease.token().0,
        node,
    };
    delivery.append(log.as_ref())?;
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}
