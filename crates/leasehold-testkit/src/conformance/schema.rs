//! Migrations, and databases that are not what they should be.

use std::time::Duration;

use leasehold_core::protocol::ids::{SessionId, Token};
use leasehold_core::protocol::request::*;
use leasehold_core::store::{ErrorKind, Link, Target, fence, inspect, migrate};
use sea_orm::{ConnectionTrait, DbBackend};

use super::bed::{Bed, node};

const TABLES: [&str; 12] = [
    "cluster",
    "node",
    "lease",
    "artifact",
    "deployment",
    "command",
    "keepout",
    "exclusion",
    "checkpoint",
    "firing",
    "event",
    "migration",
];

/// An empty database.
async fn empty(bed: &Bed) {
    for table in TABLES {
        bed.sql(&format!("drop table leasehold_{table}")).await;
    }
}

pub async fn migrators_start_at_once(bed: Bed) {
    empty(&bed).await;
    let starts = (0..8).map(|_| {
        let target = bed.target.clone();
        tokio::spawn(async move { migrate(&target).await })
    });
    let mut made = 0;
    for start in starts.collect::<Vec<_>>() {
        made += usize::from(!start.await.unwrap().unwrap().is_complete());
    }
    assert_eq!(made, 1, "one of them did the work");
    bed.open("n1").await;
}

pub async fn a_newer_schema_stops_nobody(bed: Bed) {
    bed.sql("insert into leasehold_migration (version, applied_at) values ('leasehold_9999_future', 0)")
        .await;
    let state = migrate(&bed.target).await.unwrap();
    assert!(state.is_complete());
    assert_eq!(state.unknown, ["leasehold_9999_future"]);
}

pub async fn tables_of_others_are_left_alone(bed: Bed) {
    let refused = async |what: &str| {
        let error = migrate(&bed.target).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains(what) && error.to_string().contains("another program"), "{error}");
    };
    bed.sql("insert into leasehold_migration (version, applied_at) values ('m20200101_theirs', 0)").await;
    refused("m20200101_theirs").await;

    empty(&bed).await;
    bed.sql("create table leasehold_cluster (id integer)").await;
    refused("leasehold_cluster").await;
    bed.sql("drop table leasehold_cluster").await;
    bed.sql("create table leasehold_migration (id integer)").await;
    refused("leasehold_migration").await;
    bed.sql("drop table leasehold_migration").await;
    migrate(&bed.target).await.unwrap();
    bed.sql("alter table leasehold_cluster drop column formed").await;
    refused("formed").await;
}

pub async fn the_script_makes_the_whole_schema(bed: Bed) {
    empty(&bed).await;
    bed.sql(&leasehold_migration::script(bed.target.backend()).unwrap()).await;
    assert!(leasehold_migration::state(bed.link.connection()).await.unwrap().is_complete());
    bed.open("n1").await;
}

pub async fn a_fence_needs_the_tables(bed: Bed) {
    empty(&bed).await;
    let key = bed.key("a", Token(1), SessionId::fresh());
    let error = fence(bed.link.connection(), &key, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Elsewhere, "{error}");
    let open = Request::Open { node: node("n1"), max_ttl: Duration::from_secs(1) };
    assert_eq!(bed.try_call(open).await.unwrap_err().kind(), ErrorKind::Schema);
}

pub async fn a_target_comes_from_a_connection(bed: Bed) {
    let users = Link::open(&Target::from_url(&bed.url).unwrap()).await.unwrap();
    let target = Target::from_connection(users.connection()).await.unwrap();
    let found = inspect(&target).await.unwrap();
    let servers: &[&str] = match target.backend() {
        DbBackend::Postgres => &["PostgreSQL"],
        DbBackend::MySql => &["MariaDB", "MySQL"],
        _ => &["SQLite"],
    };
    assert!(servers.iter().any(|server| found.server.starts_with(server)), "{found:?}");
    let link = Link::open(&target).await.unwrap();
    link.connection().execute_unprepared("select 1").await.unwrap();
    let open = Request::Open { node: node("n1"), max_ttl: Duration::from_secs(5) };
    let Answer::Opened { live, .. } = link.call(&bed.cluster, &open).await.unwrap() else { panic!() };
    assert_eq!(live, bed.live);
}
