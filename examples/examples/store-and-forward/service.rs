//! A replica of the service: takes orders, and forwards them while it holds the lease.

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use leasehold::prelude::*;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement, TransactionTrait};

const CREATE: &str =
    "create table if not exists example_order (customer varchar(100) not null, body varchar(1000) not null)";

/// The service's own table, and leasehold's.
pub(crate) async fn prepare(database: &str) -> Result<()> {
    let db = Database::connect(database).await?;
    db.execute_unprepared(CREATE).await?;
    Node::builder(database).cluster("orders").start().await?.shutdown().await;
    Ok(())
}

pub(crate) async fn run(name: &str, database: &str, endpoint: &str) -> Result<()> {
    let mut options = ConnectOptions::new(database);
    options.max_connections(4).sqlx_logging(false);
    let db = Database::connect(options).await?;
    let outbox = SqlStore::new(&db, "outbox")?;

    // Sends each order on: those of a customer one after the other, those of others meanwhile. What fails is tried again.
    let forward = Forward::post(format!("{endpoint}/{{key}}"))?.header("x-replica", name)?;
    let push =
        Processor::new("order-push", outbox.clone(), forward)?.order(Order::PerKey(8)).attempts(20).park();
    let node = Node::builder(database)
        .cluster("orders")
        .node_id(name)
        .ttl(std::time::Duration::from_secs(2))
        .artifact(push)
        .start()
        .await?;

    let app = Router::new().route("/orders/{customer}", post(take)).with_state(Service { db, outbox });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    node.run_until_signal().await;
    Ok(())
}

#[derive(Clone)]
struct Service {
    db: DatabaseConnection,
    outbox: SqlStore,
}

async fn take(State(service): State<Service>, Path(customer): Path<String>, order: String) -> StatusCode {
    match store(&service, &customer, order).await {
        Ok(()) => StatusCode::CREATED,
        // Who posted it tries again; nothing was stored.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The order and its message, both or neither.
async fn store(service: &Service, customer: &str, order: String) -> Result<()> {
    let backend = service.db.get_database_backend();
    let places = if backend == sea_orm::DbBackend::Postgres { "$1, $2" } else { "?, ?" };
    let insert = format!("insert into example_order (customer, body) values ({places})");
    let txn = service.db.begin().await?;
    txn.execute_raw(Statement::from_sql_and_values(
        backend,
        insert,
        [customer.into(), order.as_str().into()],
    ))
    .await?;
    service.outbox.append(&txn, Outgoing::text(order).content_type("application/json").key(customer)).await?;
    txn.commit().await?;
    Ok(())
}
