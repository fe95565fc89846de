//! Registration: a few statements, each of which may be repeated.

use sea_orm::Value;

use super::{MySqlWire, execute};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Deployment, MAX_ROWS};
use crate::store::error::StoreError;
use crate::store::{json, rows};

macro_rules! rows_of {
    () => {
        "json_table(?2, '$[*]' columns (a varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.a', k varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.k', f char(36) path '$.f', \
         p text character set utf8mb4 collate utf8mb4_bin path '$.p')) w"
    };
}

const OTHER_KIND: &str = concat!(
    "select a.name as artifact, a.kind as `stored`, w.k as wanted from ",
    rows_of!(),
    " straight_join leasehold_artifact a on a.cluster = ?1 and a.name = w.a \
     where a.kind <> w.k order by a.name limit 1"
);

// What exists stays: `on duplicate key` would lock more and count it as matched.
const ARTIFACTS: &str = concat!(
    "insert ignore into leasehold_artifact (cluster, name, kind, placement, fingerprint) \
     select ?1, w.a, w.k, w.p, unhex(replace(w.f, '-', '')) from ",
    rows_of!(),
    " order by w.a"
);

const LEASES: &str = concat!(
    "insert ignore into leasehold_lease (cluster, artifact) select ?1, w.a from ",
    rows_of!(),
    " order by w.a"
);

/// A fingerprint never seen before is the newest: its placement counts, and nodes that have it are preferred. A node that
/// restarts with an old one changes nothing.
const PLACEMENTS: &str = concat!(
    "update ",
    rows_of!(),
    " straight_join leasehold_artifact a on a.cluster = ?1 and a.name = w.a \
     and a.fingerprint <> unhex(replace(w.f, '-', '')) \
     set a.placement = w.p, a.fingerprint = unhex(replace(w.f, '-', '')), a.changed_at = current_timestamp(3) \
     where not exists (select 1 from leasehold_deployment d where d.cluster = ?1 and d.artifact = w.a \
     and d.fingerprint = unhex(replace(w.f, '-', '')))"
);

const RAISE: &str = "update leasehold_cluster set revision = revision + 1 where name = ?1";

const DEPLOYMENT: &str = concat!(
    "insert ignore into leasehold_deployment (cluster, hash, artifact, kind, fingerprint, placement) \
     select ?1, ?3, w.a, w.k, unhex(replace(w.f, '-', '')), w.p from ",
    rows_of!(),
    " order by w.a"
);

impl MySqlWire {
    /// Tells how many artifacts are new. Should it end half-way, the node registers again before it declares what it has
    /// deployed, and that declaration makes the leader look.
    pub(super) async fn register(
        &self,
        cluster: &ClusterName,
        deployment: &Deployment,
    ) -> Result<Answer, StoreError> {
        const OPERATION: &str = "register";
        let name = || Value::from(cluster.as_str());
        let all: Vec<_> = deployment.artifacts.iter().collect();
        let sets: Vec<String> = all.chunks(MAX_ROWS).map(|set| json::deployed(set.iter().copied())).collect();
        for set in &sets {
            let other = self.all(OPERATION, OTHER_KIND, [name(), set.as_str().into()]).await?;
            if let Some(row) = other.first() {
                return Err(rows::other_kind(row)?);
            }
        }
        let (mut new, mut changed) = (0, 0);
        for set in &sets {
            let values = || [name(), set.as_str().into()];
            new += execute(&self.db, OPERATION, ARTIFACTS, values()).await?;
            changed += execute(&self.db, OPERATION, LEASES, values()).await?;
            changed += execute(&self.db, OPERATION, PLACEMENTS, values()).await?;
        }
        if new + changed > 0 {
            execute(&self.db, OPERATION, RAISE, [name()]).await?;
        }
        for set in &sets {
            let values = [name(), set.as_str().into(), deployment.id.0.into()];
            execute(&self.db, OPERATION, DEPLOYMENT, values).await?;
        }
        Ok(Answer::Matched(new))
    }
}
