//! Registration: one batch per set of rows, each of which may be repeated.

use sea_orm::{ConnectionTrait, Value};

use super::{BACKEND, SqliteWire, commit, execute, statement};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Deployment, MAX_ROWS};
use crate::store::error::StoreError;
use crate::store::{json, rows};

/// The rows of parameter `?2`, read once.
macro_rules! with_rows {
    ($rest:literal) => {
        concat!(
            "with w as materialized (select value ->> '$.a' as a, value ->> '$.k' as k, unhex(value ->> '$.f', '-') as f, \
             value ->> '$.p' as p from json_each(?2)) ",
            $rest
        )
    };
}

// `cross join` keeps this order: for the sake of `order by` SQLite would look through all rows for each artifact.
const OTHER_KIND: &str = with_rows!(
    "select a.name as artifact, a.kind as stored, w.k as wanted from w cross join leasehold_artifact a \
     where a.cluster = ?1 and a.name = w.a and a.kind <> w.k order by a.name limit 1"
);

const ARTIFACTS: &str = with_rows!(
    "insert into leasehold_artifact (cluster, name, kind, placement, fingerprint) select ?1, a, k, p, f from w where true \
     on conflict (cluster, name) do nothing"
);

const LEASES: &str = with_rows!(
    "insert into leasehold_lease (cluster, artifact) select ?1, a from w where true \
     on conflict (cluster, artifact) do nothing"
);

/// A fingerprint never seen before is the newest: its placement counts, and nodes that have it are preferred. A node that restarts with an old one changes nothing.
const PLACEMENTS: &str = with_rows!(
    "update leasehold_artifact as a set placement = w.p, fingerprint = w.f, changed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') from w \
     where a.cluster = ?1 and a.name = w.a and a.fingerprint <> w.f and not exists (select 1 from leasehold_deployment d \
     where d.cluster = ?1 and d.artifact = w.a and d.fingerprint = w.f)"
);

const DEPLOYMENT: &str = with_rows!(
    "insert into leasehold_deployment (cluster, hash, artifact, kind, fingerprint, placement) \
     select ?1, ?3, a, k, f, p from w where true on conflict (cluster, hash, artifact) do nothing"
);

const RAISE: &str = "update leasehold_cluster set revision = revision + 1 where name = ?1";

impl SqliteWire {
    /// Tells how many artifacts are new.
    pub(super) async fn register(
        &self,
        cluster: &ClusterName,
        deployment: &Deployment,
    ) -> Result<Answer, StoreError> {
        const OPERATION: &str = "register";
        let name = || Value::from(cluster.as_str());
        let all: Vec<_> = deployment.artifacts.iter().collect();
        let sets: Vec<String> = all.chunks(MAX_ROWS).map(|set| json::deployed(set.iter().copied())).collect();
        // One batch for all: a node registers once in its life.
        let txn = self.begin(OPERATION).await?;
        let (mut new, mut changed) = (0, 0);
        for set in &sets {
            let values = || [name(), set.as_str().into()];
            let other = txn.query_one_raw(statement(OTHER_KIND, values())).await;
            if let Some(row) = other.map_err(|e| StoreError::database(BACKEND, OPERATION, e))? {
                return Err(rows::other_kind(&row)?);
            }
            new += execute(&txn, OPERATION, ARTIFACTS, values()).await?;
            changed += execute(&txn, OPERATION, LEASES, values()).await?;
            changed += execute(&txn, OPERATION, PLACEMENTS, values()).await?;
            let values = [name(), set.as_str().into(), deployment.id.0.into()];
            execute(&txn, OPERATION, DEPLOYMENT, values).await?;
        }
        if new + changed > 0 {
            execute(&txn, OPERATION, RAISE, [name()]).await?;
        }
        commit(txn, OPERATION).await?;
        Ok(Answer::Matched(new))
    }
}
