//! Registration: a few statements, each of which may be repeated.

use sea_orm::Value;

use super::{PostgresWire, channel};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Deployment, MAX_ROWS};
use crate::store::error::StoreError;
use crate::store::{json, rows};

macro_rules! rows_of {
    ($parameter:literal) => {
        concat!(
            "with w as (select * from jsonb_to_recordset(",
            $parameter,
            "::jsonb) as w(a text, k text, f uuid, p text))"
        )
    };
}

const OTHER_KIND: &str = concat!(
    rows_of!("$2"),
    " select a.name::text as artifact, a.kind::text as stored, w.k as wanted from leasehold_artifact a join w on a.name = w.a \
     where a.cluster = $1 and a.kind <> w.k order by a.name limit 1"
);

/// A fingerprint never seen before is the newest: its placement counts, and nodes that have it are preferred. A node that restarts with an old one changes nothing.
const ARTIFACTS: &str = concat!(
    rows_of!("$3"),
    ", a as (insert into leasehold_artifact (cluster, name, kind, placement, fingerprint) \
     select $1, w.a, w.k, w.p, w.f from w order by w.a \
     on conflict (cluster, name) do nothing returning 1), \
     l as (insert into leasehold_lease (cluster, artifact) select $1, w.a from w order by w.a \
     on conflict (cluster, artifact) do nothing returning 1), \
     x as (update leasehold_artifact a set placement = w.p, fingerprint = w.f, changed_at = now() from w where a.cluster = $1 and a.name = w.a \
     and a.kind = w.k and a.fingerprint <> w.f and not exists (select 1 from leasehold_deployment d where d.cluster = $1 \
     and d.artifact = w.a and d.fingerprint = w.f) returning 1), \
     r as (update leasehold_cluster set revision = revision + 1 where name = $1 \
     and (select count(*) from a) + (select count(*) from l) + (select count(*) from x) > 0 returning 1) \
     select (select count(*) from a) as matched, \
     case when (select count(*) from r) > 0 then pg_notify($2, '')::text end as told"
);

const DEPLOYMENT: &str = concat!(
    rows_of!("$3"),
    " insert into leasehold_deployment (cluster, hash, artifact, kind, fingerprint, placement) \
     select $1, $2, w.a, w.k, w.f, w.p from w order by w.a on conflict (cluster, hash, artifact) do nothing"
);

impl PostgresWire {
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
        for set in &sets {
            let other = self.all(OPERATION, OTHER_KIND, [name(), set.as_str().into()]).await?;
            if let Some(row) = other.first() {
                return Err(rows::other_kind(row)?);
            }
        }
        let mut new = 0;
        for set in &sets {
            let values = [name(), channel(cluster).into(), set.as_str().into()];
            let done = self.all(OPERATION, ARTIFACTS, values).await?;
            new += rows::matched(done.first())?;
        }
        for set in &sets {
            let values = [name(), deployment.id.0.into(), set.as_str().into()];
            self.all(OPERATION, DEPLOYMENT, values).await?;
        }
        Ok(Answer::Matched(new))
    }
}
