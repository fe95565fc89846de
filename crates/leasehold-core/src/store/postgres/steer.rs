//! What operators ask of a cluster. Each is kept until somebody asks otherwise, whoever restarts.

use sea_orm::Value;

use super::writes::{count_and_tell, raise_and_tell};
use super::{PostgresWire, channel};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Request};
use crate::store::error::StoreError;
use crate::store::rows;

const DESIRE: &str = concat!(
    "with m as (select name from leasehold_artifact where cluster = $1 and name = $3 for update), \
     u as (update leasehold_artifact a set desired = $4, changed_at = now() from m where a.cluster = $1 and a.name = m.name \
     and a.desired <> $4 returning 1)",
    raise_and_tell!("count(*) from m")
);

const PREFER: &str = concat!(
    "with m as (select name from leasehold_artifact where cluster = $1 and name = $3 for update), \
     u as (update leasehold_artifact a set preferred = $4, changed_at = now() from m where a.cluster = $1 and a.name = m.name \
     and a.preferred is distinct from $4 returning 1)",
    raise_and_tell!("count(*) from m")
);

const EXCLUDE: &str = "with x as (insert into leasehold_exclusion (cluster, node_id, by_whom, reason) values ($1, $3, $5, $6) \
     on conflict (cluster, node_id) do update set by_whom = excluded.by_whom, reason = excluded.reason, at = now() returning 1), \
     u as (update leasehold_node set evicted = evicted or $4 where cluster = $1 and node_id = $3 returning 1) \
     select count(*) as matched, pg_notify($2, '')::text as told from u";

const READMIT: &str = concat!(
    "with u as (delete from leasehold_exclusion where cluster = $1 and node_id = $3 returning 1)",
    count_and_tell!()
);

const COMMAND: &str = concat!(
    "with u as (insert into leasehold_command (cluster, artifact, verb, args, by_whom, reason) \
     select $1, name, $4, $5, $6, $7 from leasehold_artifact where cluster = $1 and name = $3 returning id)",
    raise_and_tell!("coalesce(max(id), 0) from u")
);

const FORGET: &str = concat!(
    "with u as (delete from leasehold_artifact a where a.cluster = $1 and a.name = $3 \
     and not exists (select 1 from leasehold_node n join leasehold_deployment d on d.cluster = n.cluster and d.hash = n.deployment \
     where n.cluster = $1 and d.artifact = $3) returning 1), \
     m as (delete from leasehold_command where cluster = $1 and artifact = $3 and exists (select 1 from u) returning 1)",
    raise_and_tell!("count(*) from u")
);

impl PostgresWire {
    pub(super) async fn steer(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        let (name, tell) = (Value::from(cluster.as_str()), Value::from(channel(cluster)));
        match request {
            Request::Desire { artifact, desired } => {
                let values = [name, tell, artifact.as_str().into(), rows::desired_text(*desired).into()];
                self.matched("desire", DESIRE, values).await
            }
            Request::Prefer { artifact, node } => {
                let node = node.as_ref().map(|node| node.as_str().to_owned());
                self.matched("prefer", PREFER, [name, tell, artifact.as_str().into(), node.into()]).await
            }
            Request::Exclude { node, evict, by, reason } => {
                let (by, reason) = (by.as_str().into(), reason.as_str().into());
                let values = [name, tell, node.as_str().into(), (*evict).into(), by, reason];
                self.matched("exclude", EXCLUDE, values).await
            }
            Request::Readmit { node } => {
                self.matched("readmit", READMIT, [name, tell, node.as_str().into()]).await
            }
            Request::Command { artifact, verb, args, by, reason } => {
                let [verb, args, by, reason] = [verb, args, by, reason].map(|text| text.as_str().into());
                let values = [name, tell, artifact.as_str().into(), verb, args, by, reason];
                let rows = self.all("command", COMMAND, values).await?;
                Ok(rows::commanded(rows::matched(rows.first())?))
            }
            Request::Forget { artifact } => {
                self.matched("forget", FORGET, [name, tell, artifact.as_str().into()]).await
            }
            _ => Err(StoreError::corrupt("steer", "no operator asks for this")),
        }
    }
}
