//! What a doctor asks a database that nodes find out the hard way.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::audit::{self, AuditEvent};
use super::error::{ErrorKind, StoreError};
use super::{Link, Target, dialect, marker, statement};
use crate::clock::{BootClock, Clock};
use crate::name::ClusterName;

/// The tables that nodes and plugins read and write, with a column of each.
const TABLES: [(&str, &str); 16] = [
    ("leasehold_cluster", "term"),
    ("leasehold_node", "beat"),
    ("leasehold_lease", "token"),
    ("leasehold_artifact", "desired"),
    ("leasehold_deployment", "kind"),
    ("leasehold_command", "verb"),
    ("leasehold_keepout", "failures"),
    ("leasehold_exclusion", "reason"),
    ("leasehold_checkpoint", "value"),
    ("leasehold_event", "kind"),
    ("leasehold_firing", "outcome"),
    ("leasehold_inbox", "token"),
    ("leasehold_store", "name"),
    ("leasehold_message", "attempts"),
    ("leasehold_parked", "reason"),
    ("leasehold_file", "path"),
];

/// The kind of the audit events by which latency is measured; they are deleted again.
const PROBE: &str = "probe";

/// What this user may not do, as `update leasehold_node`. Changes no row.
///
/// # Errors
/// Never for what is not allowed; when the database does not answer.
pub async fn lacking_rights(link: &Link) -> Result<Vec<String>, StoreError> {
    let db = link.connection();
    let mut lacking = Vec::new();
    for (table, column) in TABLES {
        for (verb, sql) in [
            ("select", format!("select {column} from {table} where 1 = 0")),
            ("insert", format!("insert into {table} ({column}) select {column} from {table} where 1 = 0")),
            ("update", format!("update {table} set {column} = {column} where 1 = 0")),
            ("delete", format!("delete from {table} where 1 = 0")),
        ] {
            match db.execute_unprepared(&sql).await {
                Ok(_) => {}
                Err(error) => {
                    let error = StoreError::database(db.get_database_backend(), "examine", error);
                    match error.kind() {
                        ErrorKind::Denied => lacking.push(format!("{verb} {table}")),
                        // Whoever may insert is then told that columns lack their values.
                        _ if verb == "insert" && !error.is_temporary() => {}
                        _ => return Err(error),
                    }
                }
            }
        }
    }
    Ok(lacking)
}

/// At which level of isolation transactions on this connection run, in the server's words; none where writers follow one
/// another.
///
/// # Errors
/// When the database does not answer.
pub async fn isolation(link: &Link) -> Result<Option<String>, StoreError> {
    let db = link.connection();
    dialect::of(db.get_database_backend())?.isolation(db).await
}

/// How far this server is behind another one whose changes it applies, if it does and this user may know.
///
/// # Errors
/// When the database does not answer.
pub async fn lag(link: &Link) -> Result<Option<Duration>, StoreError> {
    let db = link.connection();
    dialect::of(db.get_database_backend())?.lag(db).await
}

/// How long durable writes of a row take, one after the other, as renewals are; on this machine's monotonic clock.
///
/// # Errors
/// When the database does not answer, or this user may not insert audit events.
pub async fn latency(link: &Link, cluster: &ClusterName, times: usize) -> Result<Vec<Duration>, StoreError> {
    let db = link.connection();
    let event = [AuditEvent { kind: PROBE.to_owned(), ..AuditEvent::default() }];
    let mut taken = Vec::with_capacity(times);
    let mut written = Ok(());
    while written.is_ok() && taken.len() < times {
        let begun = BootClock.now();
        written = audit::record(db, cluster, &event).await;
        taken.push(BootClock.now().since(begun));
    }
    // Also when it broke off in the middle.
    let forgotten = forget_probes(db, cluster).await;
    written.and(forgotten).map(|()| taken)
}

async fn forget_probes(db: &DatabaseConnection, cluster: &ClusterName) -> Result<(), StoreError> {
    let backend = db.get_database_backend();
    let p = marker(backend);
    let text = format!("delete from leasehold_event where cluster = {p}1 and kind = {p}2");
    let done = db.execute_raw(statement(backend, &text, [cluster.as_str().into(), PROBE.into()])).await;
    done.map(drop).map_err(|error| StoreError::database(backend, "forget probes", error))
}

/// Whether a notification reaches another connection within `patience`; none where the database has none. Where it does not, a
/// pooler in transaction mode stands in front, and nodes learn of changes by their watches.
///
/// # Errors
/// When the database does not answer.
#[allow(unused_variables, reason = "only one database has notifications")]
pub async fn notifies(
    target: &Target,
    link: &Link,
    cluster: &ClusterName,
    patience: Duration,
) -> Result<Option<bool>, StoreError> {
    #[cfg(feature = "postgres")]
    if target.backend() == sea_orm::DbBackend::Postgres {
        let mut listener = super::Listener::open(target, cluster).await?;
        let tell = statement(
            target.backend(),
            "select pg_notify($1, '')",
            [super::postgres::channel(cluster).into()],
        );
        let told = link.connection().execute_raw(tell).await;
        told.map_err(|error| StoreError::database(target.backend(), "notify", error))?;
        return Ok(Some(
            tokio::time::timeout(patience, listener.recv()).await.is_ok_and(|heard| heard.is_ok()),
        ));
    }
    Ok(None)
}
