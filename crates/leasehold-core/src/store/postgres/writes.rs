//! Coordination writes. Leases are locked in key order and before the cluster's row, which is touched only when an
//! assignment changed; a notification goes out in the same statement, only when others should look.

use sea_orm::Value;

use super::{PostgresWire, channel, live};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, NewNode, Request};
use crate::store::error::StoreError;
use crate::store::json;

/// Counts the rows of `u` and wakes the cluster on channel `$2`.
macro_rules! count_and_tell {
    () => {
        " select count(*) as matched, case when count(*) > 0 then pg_notify($2, '')::text end as told from u"
    };
}

/// Raises the revision if `u` has rows, brings `$what` as `matched` and wakes the cluster.
macro_rules! raise_and_tell {
    ($what:literal) => {
        concat!(
            ", r as (update leasehold_cluster set revision = revision + 1 where name = $1 and (select count(*) from u) > 0 \
             returning 1) select (select ",
            $what,
            ") as matched, case when (select count(*) from r) > 0 then pg_notify($2, '')::text end as told"
        )
    };
}

pub(super) use {count_and_tell, raise_and_tell};

/// Whether the adopted incarnation, `$4`, answers.
macro_rules! adopted_is_live {
    () => {
        concat!("(select incarnation from leasehold_cluster where name = $1) = $4 and ", live!(), " = $4")
    };
}

/// A grant reads no row of a node, and skips leases that a user's transaction has fenced: waiting for one would hold up
/// the others, and whoever waits behind them.
pub(super) const GRANT: &str = concat!(
    "with w as (select * from jsonb_to_recordset($3::jsonb) as w(a text, t bigint, g uuid)), \
     c as materialized (select 1 from leasehold_cluster where name = $1 and term = $6 and incarnation = $4 and ",
    live!(),
    " = $4), \
     p as (select l.artifact, w.g from leasehold_lease l join w on l.artifact = w.a where l.cluster = $1 and l.token = w.t \
     and exists (select 1 from c) order by l.artifact for update of l skip locked), \
     u as (update leasehold_lease l set holder = p.g, token = greatest(l.token, $5::bigint << 20) + 1 from p \
     where l.cluster = $1 and l.artifact = p.artifact returning 1)",
    raise_and_tell!("count(*) from u")
);

/// While another incarnation answers, leases are freed instead, and freeing raises no token.
const HAND_OVER: &str = concat!(
    "with w as (select * from jsonb_to_recordset($3::jsonb) as w(a text, t bigint, g uuid)), \
     c as materialized (select ",
    adopted_is_live!(),
    " as same), \
     p as (select l.artifact, case when (select same from c) then w.g end as g from leasehold_lease l \
     join w on l.artifact = w.a where l.cluster = $1 and l.holder = $6 and l.token = w.t \
     order by l.artifact for update of l skip locked), \
     u as (update leasehold_lease l set holder = p.g, \
     token = case when p.g is null then l.token else greatest(l.token, $5::bigint << 20) + 1 end from p \
     where l.cluster = $1 and l.artifact = p.artifact returning 1)",
    raise_and_tell!("count(*) from u")
);

const RERUN: &str = concat!(
    "with w as (select * from jsonb_to_recordset($3::jsonb) as w(a text, t bigint)), \
     c as materialized (select 1 where ",
    adopted_is_live!(),
    "), \
     p as (select l.artifact from leasehold_lease l join w on l.artifact = w.a where l.cluster = $1 and l.holder = $6 \
     and l.token = w.t and exists (select 1 from c) order by l.artifact for update of l skip locked), \
     u as (update leasehold_lease l set token = greatest(l.token, $5::bigint << 20) + 1 from p \
     where l.cluster = $1 and l.artifact = p.artifact returning 1)",
    raise_and_tell!("count(*) from u")
);

const TARGET: &str = concat!(
    "with w as (select * from jsonb_to_recordset($3::jsonb) as w(a text, g uuid)), \
     m as (select a.name, w.g from leasehold_artifact a join w on a.name = w.a where a.cluster = $1 \
     order by a.name for update of a), \
     u as (update leasehold_artifact a set target = m.g, changed_at = now() from m where a.cluster = $1 and a.name = m.name \
     and a.target is distinct from m.g returning 1)",
    raise_and_tell!("count(*) from m")
);

const JOIN: &str = concat!(
    "with u as (insert into leasehold_node (session, cluster, node_id, ttl_ms, labels, deployment, draining, version) \
     select $2, $1, $3, $4, $5, $6, $7, $8 where ",
    live!(),
    " = $9 on conflict do nothing returning 1) select count(*) as matched from u"
);

const EXPIRE: &str = concat!(
    "with u as (delete from leasehold_node where session = $3 and cluster = $1 and beat = $5 and ",
    adopted_is_live!(),
    " returning 1)",
    count_and_tell!()
);

const LEAVE: &str = concat!(
    "with u as (delete from leasehold_node where cluster = $1 \
     and session in (select g from jsonb_to_recordset($3::jsonb) as w(g uuid)) returning 1)",
    count_and_tell!()
);

const DRAIN: &str = concat!(
    "with u as (update leasehold_node set draining = $4 where session = $3 and cluster = $1 returning 1)",
    count_and_tell!()
);

const DEPLOY: &str = concat!(
    "with u as (update leasehold_node set deployment = $4 where session = $3 and cluster = $1 returning 1)",
    count_and_tell!()
);

const ELECT: &str = concat!(
    "with u as (update leasehold_cluster set leader = $3, term = term + 1 where name = $1 and term = $5 and incarnation = $4 and ",
    live!(),
    " = $4 returning 1)",
    count_and_tell!()
);

const FORM: &str = "with u as (update leasehold_cluster set formed = $2 where name = $1 and term = $3 returning 1) \
     select count(*) as matched from u";

const ADOPT: &str = concat!(
    "with u as (update leasehold_cluster set incarnation = $4, term = term + 1, leader = null, revision = revision + 1, \
     epoch = greatest(epoch + 1, $5 + 1, floor((extract(epoch from clock_timestamp()) - 1577836800) * 10)::bigint) \
     where name = $1 and incarnation = $3 and ",
    live!(),
    " = $4 returning 1)",
    count_and_tell!()
);

const KEEP_OUT: &str = "with u as (insert into leasehold_keepout (cluster, artifact, session, failures, until_beat, error) \
     select $1, w.a, w.g, w.f, w.u, w.e \
     from jsonb_to_recordset($2::jsonb) as w(a text, g uuid, f bigint, u bigint, e text) order by 2, 3 \
     on conflict (cluster, artifact, session) do update \
     set failures = excluded.failures, until_beat = excluded.until_beat, error = excluded.error returning 1) \
     select count(*) as matched from u";

/// Keep-outs of sessions that are gone keep nobody out.
const FORGET_KEEP_OUTS: &str = "delete from leasehold_keepout k where k.cluster = $1 \
     and not exists (select 1 from leasehold_node n where n.session = k.session)";

impl PostgresWire {
    pub(super) async fn write(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        let name = || Value::from(cluster.as_str());
        let tell = || Value::from(channel(cluster));
        match request {
            Request::Join { node, incarnation } => self.join(cluster, node, &incarnation.0).await,
            Request::Expire { session, beat, incarnation } => {
                let values = [name(), tell(), session.0.into(), (*incarnation.0).into(), (*beat).into()];
                self.matched("expire", EXPIRE, values).await
            }
            Request::Elect { session, term, incarnation } => {
                let values = [name(), tell(), session.0.into(), (*incarnation.0).into(), (*term).into()];
                self.matched("elect", ELECT, values).await
            }
            Request::Adopt { old, live, highest_epoch } => {
                let values = [name(), tell(), (*old.0).into(), (*live.0).into(), (*highest_epoch).into()];
                self.matched("adopt", ADOPT, values).await
            }
            Request::Grant { rows, incarnation, epoch, term } => {
                let (count, rows) = (rows.len(), json::grants(rows).into());
                let values = [name(), tell(), rows, (*incarnation.0).into(), (*epoch).into(), (*term).into()];
                self.matched_set("grant", GRANT, count, values).await
            }
            Request::HandOver { session, rows, incarnation, epoch } => {
                let (count, rows) = (rows.len(), json::handovers(rows).into());
                let values =
                    [name(), tell(), rows, (*incarnation.0).into(), (*epoch).into(), session.0.into()];
                self.matched_set("hand over", HAND_OVER, count, values).await
            }
            Request::Rerun { session, rows, incarnation, epoch } => {
                let (count, rows) = (rows.len(), json::reruns(rows).into());
                let values =
                    [name(), tell(), rows, (*incarnation.0).into(), (*epoch).into(), session.0.into()];
                self.matched_set("rerun", RERUN, count, values).await
            }
            Request::Target { rows } => {
                let values = [name(), tell(), json::targets(rows).into()];
                self.matched_set("target", TARGET, rows.len(), values).await
            }
            Request::KeepOut { rows } => {
                self.all("keep out", FORGET_KEEP_OUTS, [name()]).await?;
                self.matched("keep out", KEEP_OUT, [name(), json::keep_outs(rows).into()]).await
            }
            Request::Drain { session, draining } => {
                let values = [name(), tell(), session.0.into(), (*draining).into()];
                self.matched("drain", DRAIN, values).await
            }
            Request::Deploy { session, deployment } => {
                let values = [name(), tell(), session.0.into(), deployment.0.into()];
                self.matched("deploy", DEPLOY, values).await
            }
            Request::Leave { sessions } => {
                self.matched("leave", LEAVE, [name(), tell(), json::sessions(sessions).into()]).await
            }
            Request::Desire { .. }
            | Request::Prefer { .. }
            | Request::Exclude { .. }
            | Request::Readmit { .. }
            | Request::Command { .. }
            | Request::Forget { .. } => self.steer(cluster, request).await,
            Request::Form { formed, term } => {
                self.matched("form", FORM, [name(), (*formed).into(), (*term).into()]).await
            }
            Request::Register { deployment } => self.register(cluster, deployment).await,
            Request::Open { .. }
            | Request::Renew { .. }
            | Request::Watch { .. }
            | Request::Held { .. }
            | Request::Leases { .. } => Err(StoreError::corrupt("write", "this request only reads")),
        }
    }

    async fn join(&self, cluster: &ClusterName, node: &NewNode, live: &str) -> Result<Answer, StoreError> {
        let labels = serde_json::json!(&*node.labels).to_string();
        let values = [
            cluster.as_str().into(),
            node.session.0.into(),
            node.node.as_str().into(),
            i64::try_from(node.ttl.as_millis()).unwrap_or(i64::MAX).into(),
            labels.into(),
            node.deployment.0.into(),
            node.draining.into(),
            env!("CARGO_PKG_VERSION").into(),
            live.into(),
        ];
        self.matched("join", JOIN, values).await
    }
}
