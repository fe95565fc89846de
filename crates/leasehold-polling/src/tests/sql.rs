//! Endpoints of queries, on each database.

#[cfg(feature = "test-postgres")]
mod late;
mod suites;

use leasehold_testkit::cluster::Cluster;
use sea_orm::{ConnectionTrait, DbBackend};

/// A table of the test's own.
pub(super) async fn table(cluster: &Cluster, columns: &str) -> String {
    let name = format!("rows_{}", cluster.name.trim_start_matches("test-"));
    cluster.db.execute_unprepared(&format!("create table {name} ({columns})")).await.unwrap();
    name
}

pub(super) async fn run(cluster: &Cluster, sql: &str) {
    cluster.db.execute_unprepared(sql).await.unwrap();
}

/// What numbers rows by itself.
pub(super) fn serial(cluster: &Cluster) -> &'static str {
    match cluster.db.get_database_backend() {
        DbBackend::Postgres => "id bigserial primary key",
        DbBackend::MySql => "id bigint not null auto_increment primary key",
        _ => "id integer primary key autoincrement",
    }
}
