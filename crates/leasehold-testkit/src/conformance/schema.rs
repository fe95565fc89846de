//! Migrations, and databases that are not what they should be.

use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::lead::Lead;
use leasehold_core::lease::Lease;
use leasehold_core::node::Node;
use leasehold_core::protocol::ids::{SessionId, Token};
use leasehold_core::protocol::request::*;
use leasehold_core::store::{ErrorKind, Link, Target, fence, inspect, migrate, verify};
use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::bed::{Bed, node};

const TABLES: [&str; 17] = [
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
    "inbox",
    "store",
    "message",
    "parked",
    "file",
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

/// A node that runs one job, and the leases that it gets.
pub(super) async fn worker(
    url: &str,
    bed: &Bed,
    id: &str,
) -> Result<(Node, UnboundedReceiver<Lease>), Error> {
    worker_of(url, bed.cluster.as_str(), id).await
}

async fn worker_of(url: &str, cluster: &str, id: &str) -> Result<(Node, UnboundedReceiver<Lease>), Error> {
    let (send, leases) = unbounded_channel();
    let job = Lead::new("job", move |lease: Lease| {
        let send = send.clone();
        async move {
            send.send(lease.clone())?;
            lease.revoked().await;
            Ok(())
        }
    });
    let node = Node::builder(url).cluster(cluster).node_id(id).ttl(Duration::from_millis(1600));
    Ok((node.artifact(job?).start().await?, leases))
}

pub(super) async fn next(leases: &mut UnboundedReceiver<Lease>) -> Lease {
    tokio::time::timeout(Duration::from_secs(60), leases.recv()).await.unwrap().unwrap()
}

/// The same artifact on nodes of the same id: each cluster has its own lease, progress, desired state and audit trail.
pub async fn clusters_of_one_schema_do_not_meet(bed: Bed) {
    let other = format!("{}-other", bed.cluster);
    let (a, mut on_a) = worker(&bed.url, &bed, "n").await.unwrap();
    let (b, mut on_b) = worker_of(&bed.url, &other, "n").await.unwrap();
    let (first, second) = (next(&mut on_a).await, next(&mut on_b).await);
    first.save("at", "a").await.unwrap();
    second.save("at", "b").await.unwrap();
    a.control().pause(first.artifact()).await.unwrap();
    first.revoked().await;
    assert!(second.is_valid() && !second.is_revoked());
    assert_eq!(second.load("at").await.unwrap().as_deref(), Some("b"));
    a.shutdown().await;
    second.save("at", "c").await.unwrap();
    assert!(second.is_valid(), "the end of a cluster's last node ends nothing in another one");
    b.shutdown().await;
}

/// A rolling upgrade: the first new node adds columns under the old ones, which go on and are joined by others.
pub async fn columns_are_added_while_nodes_run(bed: Bed) {
    let (a, mut on_a) = worker(&bed.url, &bed, "a").await.unwrap();
    let first = next(&mut on_a).await;
    first.save("at", 1).await.unwrap();
    for table in TABLES.iter().filter(|table| **table != "migration") {
        bed.sql(&format!("alter table leasehold_{table} add column added varchar(10) default 'x'")).await;
        bed.sql(&format!("alter table leasehold_{table} add column counted integer not null default 7"))
            .await;
    }
    bed.sql("insert into leasehold_migration (version, applied_at) values ('leasehold_9999_future', 0)")
        .await;
    bed.sql("update leasehold_cluster set min_program = 1").await;

    let (b, mut on_b) = worker(&bed.url, &bed, "b").await.unwrap();
    first.save("at", 2).await.unwrap();
    a.shutdown().await;
    let second = next(&mut on_b).await;
    assert!(second.token() > first.token(), "{second:?} after {first:?}");
    assert_eq!(second.load("at").await.unwrap().as_deref(), Some("2"));

    // The upgrade is over: what does not know the columns is kept out, and who runs goes on.
    bed.sql("update leasehold_cluster set min_program = 1000").await;
    let refused = worker(&bed.url, &bed, "c").await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("1000") && refused.contains("update this replica"), "{refused}");
    second.save("at", 3).await.unwrap();
    b.shutdown().await;
}

const NOT_RENEWED: &str = "delete from leasehold_migration where version = 'leasehold_0005_renewed'";
/// Longer than a migration waits in one turn.
const TURNS: Duration = Duration::from_millis(2500);

/// An upgrade while a backup reads: the migration waits for the table in turns, between which everybody comes through.
pub async fn a_table_in_use_is_changed_later_and_holds_up_nobody(bed: Bed) {
    bed.sql("alter table leasehold_node drop column renewed_at").await;
    bed.sql(NOT_RENEWED).await;
    let backup = bed.another().await;
    let reading = backup.connection().begin().await.unwrap();
    reading.execute_unprepared("select count(*) from leasehold_node").await.unwrap();
    let target = bed.target.clone();
    let migration = tokio::spawn(async move { migrate(&target).await });
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < TURNS {
        let watch = bed.call(Request::Watch { scope: Scope::Everyone });
        tokio::time::timeout(Duration::from_secs(30), watch).await.expect("nobody waits for the backup");
    }
    reading.rollback().await.unwrap();
    let before = migration.await.unwrap().unwrap();
    assert_eq!(before.pending, ["leasehold_0005_renewed"]);
    assert!(migrate(&bed.target).await.unwrap().is_complete());
    bed.join("n1").await;
    assert_eq!(bed.number("select count(*) from leasehold_node where renewed_at is not null").await, 1);
}

/// Where changes commit by themselves it is what an interrupted migration leaves; elsewhere somebody else has added it.
pub async fn a_column_that_is_there_already(bed: Bed) {
    bed.sql(NOT_RENEWED).await;
    let done = migrate(&bed.target).await;
    if bed.target.backend() == DbBackend::MySql {
        assert_eq!(done.unwrap().pending, ["leasehold_0005_renewed"]);
        assert!(migrate(&bed.target).await.unwrap().is_complete());
    } else {
        let error = done.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
        assert!(error.to_string().contains("renewed_at"), "{error}");
    }
}

/// A URL of the same database for a user who may read and write its rows and nothing else. None on SQLite, whose files
/// have no users.
async fn unprivileged(bed: &Bed) -> Option<String> {
    let name = format!("u{}", SessionId::fresh().0.simple());
    let name = name.get(..25)?;
    let rights = "select, insert, update, delete";
    let (start, rest) = bed.url.split_once("://")?;
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    match bed.target.backend() {
        DbBackend::Postgres => {
            let schema = bed.url.rsplit_once("%3D")?.1;
            bed.sql(&format!(
                "create role {name} login password 'secret'; grant usage on schema {schema} to {name}; \
                 grant {rights} on all tables in schema {schema} to {name}"
            ))
            .await;
        }
        DbBackend::MySql => {
            let version = "select if(version() like '%MariaDB%', 1, 0)";
            let with = if bed.number(version).await == 1 { "" } else { "with mysql_native_password " };
            bed.sql(&format!("create user {name}@'%' identified {with}by 'secret'")).await;
            let database = host.rsplit_once('/')?.1.split('?').next()?;
            bed.sql(&format!("grant {rights} on {database}.* to {name}@'%'")).await;
        }
        _ => return None,
    }
    Some(format!("{start}://{name}:secret@{host}"))
}

pub async fn a_prepared_schema_needs_no_right_to_change_it(bed: Bed) {
    let Some(url) = unprivileged(&bed).await else { return };
    let (node, mut leases) = worker(&url, &bed, "a").await.unwrap();
    let lease = next(&mut leases).await;
    lease.save("at", 1).await.unwrap();
    node.shutdown().await;

    empty(&bed).await;
    let error = worker(&url, &bed, "a").await.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("leasehold_0001") && error.contains("script"),
        "what is missing and what helps: {error}"
    );
    assert!(!error.contains("secret"), "{error}");
    let missing = verify(&Target::from_url(&url).unwrap()).await;
    assert!(missing.is_err(), "nothing was made");
}
