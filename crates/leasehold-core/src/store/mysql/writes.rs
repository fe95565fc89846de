//! Coordination writes. Leases are locked before the cluster's row, which is touched only when an assignment changed.

use std::collections::BTreeSet;

use sea_orm::Value;

use super::{MySqlWire, execute};
use crate::name::ClusterName;
use crate::protocol::ids::SessionId;
use crate::protocol::request::{Answer, NewNode, Request};
use crate::store::error::StoreError;
use crate::store::json;

/// The rows of parameter `?2`, `w`, followed by their leases, `l`, in cluster `?1`.
macro_rules! leases_of_rows {
    ($start:literal) => {
        concat!(
            $start,
            " json_table(?2, '$[*]' columns (a varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.a', t bigint path '$.t', g char(36) path '$.g')) w \
             straight_join leasehold_lease l on l.cluster = ?1 and l.artifact = w.a and l.token = w.t"
        )
    };
}

/// Those of the rows that nobody has locked. A user's transaction that has fenced a lease must not hold up the others of
/// the statement, nor whoever waits behind them.
const FREE: &str = "select l.artifact as artifact from leasehold_lease l where l.cluster = ?1 and l.artifact in (select w.a \
     from json_table(?2, '$[*]' columns (a varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.a')) w) order by l.artifact for update skip locked";

/// A grant reads no row of a node: it would be locked, and with it that node's renewals. The revision rises once for the
/// statement, whose cluster row is locked with the first lease: a lease that is fenced between the probe and this delays
/// other assignments by the lock timeout at most, and no renewal, which only reads that row.
const GRANT: &str = concat!(
    leases_of_rows!("update"),
    " straight_join leasehold_cluster c on c.name = ?1 and c.incarnation = ?3 and c.term = ?5 and LIVE = ?3 \
     set l.holder = unhex(replace(w.g, '-', '')), l.token = greatest(l.token, cast(?4 << 20 as signed)) + 1, \
     c.revision = c.revision + 1"
);

/// While another incarnation answers, leases are freed instead, and freeing raises no token.
const HAND_OVER: &str = concat!(
    leases_of_rows!("update"),
    " and l.holder = ?5 straight_join leasehold_cluster c on c.name = ?1 \
     set l.token = if(c.incarnation = ?3 and LIVE = ?3 and w.g is not null, greatest(l.token, cast(?4 << 20 as signed)) + 1, l.token), \
     l.holder = if(c.incarnation = ?3 and LIVE = ?3, unhex(replace(w.g, '-', '')), null), c.revision = c.revision + 1"
);

const RERUN: &str = concat!(
    leases_of_rows!("update"),
    " and l.holder = ?5 straight_join leasehold_cluster c on c.name = ?1 and c.incarnation = ?3 and LIVE = ?3 \
     set l.token = greatest(l.token, cast(?4 << 20 as signed)) + 1, c.revision = c.revision + 1"
);

const COUNT_TARGETS: &str = "select count(*) as matched from leasehold_artifact where cluster = ?1 and name in \
     (select w.a from json_table(?2, '$[*]' columns (a varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.a')) w)";

const TARGET: &str = "update json_table(?2, '$[*]' columns (a varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.a', g char(36) path '$.g')) w \
     straight_join leasehold_artifact a on a.cluster = ?1 and a.name = w.a \
     and not (a.target <=> unhex(replace(w.g, '-', ''))) straight_join leasehold_cluster c on c.name = ?1 \
     set a.target = unhex(replace(w.g, '-', '')), a.changed_at = current_timestamp(3), c.revision = c.revision + 1";

const JOIN: &str = "insert ignore into leasehold_node (session, cluster, node_id, ttl_ms, labels, deployment, draining, version) \
     select ?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8 from dual where LIVE = ?9";

const EXPIRE: &str = "delete from leasehold_node where session = ?2 and cluster = ?1 and beat = ?4 and LIVE = ?3 \
     and (select incarnation from leasehold_cluster where name = ?1) = ?3";

const LEAVE: &str = "delete from leasehold_node where cluster = ?1 and session in (select unhex(replace(w.g, '-', '')) \
     from json_table(?2, '$[*]' columns (g char(36) path '$.g')) w)";

const DRAIN: &str = "update leasehold_node set draining = ?3 where session = ?2 and cluster = ?1";

const DEPLOY: &str = "update leasehold_node set deployment = ?3 where session = ?2 and cluster = ?1";

const ELECT: &str = "update leasehold_cluster set leader = ?2, term = term + 1 where name = ?1 and term = ?3 \
     and incarnation = ?4 and LIVE = ?4";

const FORM: &str = "update leasehold_cluster set formed = ?2 where name = ?1 and term = ?3";

const ADOPT: &str = "update leasehold_cluster set incarnation = ?3, term = term + 1, leader = null, revision = revision + 1, \
     epoch = greatest(epoch + 1, ?4 + 1, cast(floor((unix_timestamp(sysdate(3)) - 1577836800) * 10) as signed)) \
     where name = ?1 and incarnation = ?2 and LIVE = ?3";

const KEEP_OUT: &str = "insert into leasehold_keepout (cluster, artifact, session, failures, until_beat, error) \
     select ?1, w.a, unhex(replace(w.g, '-', '')), w.f, w.u, coalesce(w.e, '') from json_table(?2, '$[*]' columns \
     (a varchar(100) character set utf8mb4 collate utf8mb4_bin path '$.a', g char(36) path '$.g', f bigint path '$.f', u bigint path '$.u', e text character set utf8mb4 collate utf8mb4_bin path '$.e')) w \
     on duplicate key update failures = values(failures), until_beat = values(until_beat), error = values(error)";

/// Keep-outs of sessions that are gone keep nobody out. Read first: inside a deletion the rows of the nodes would be locked.
const OLD_KEEP_OUTS: &str = "select distinct k.session as session from leasehold_keepout k \
     left join leasehold_node n on n.session = k.session where k.cluster = ?1 and n.session is null";

const FORGET_KEEP_OUTS: &str = "delete from leasehold_keepout where cluster = ?1 and session in \
     (select unhex(replace(w.g, '-', '')) from json_table(?2, '$[*]' columns (g char(36) path '$.g')) w)";

impl MySqlWire {
    pub(super) async fn write(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        let name = || Value::from(cluster.as_str());
        match request {
            Request::Join { node, incarnation } => self.join(cluster, node, &incarnation.0).await,
            Request::Expire { session, beat, incarnation } => {
                let values = [name(), session.0.into(), (*incarnation.0).into(), (*beat).into()];
                self.matched("expire", &self.with_live(EXPIRE), values).await
            }
            Request::Elect { session, term, incarnation } => {
                let values = [name(), session.0.into(), (*term).into(), (*incarnation.0).into()];
                self.matched("elect", &self.with_live(ELECT), values).await
            }
            Request::Adopt { old, live, highest_epoch } => {
                let values = [name(), (*old.0).into(), (*live.0).into(), (*highest_epoch).into()];
                self.matched("adopt", &self.with_live(ADOPT), values).await
            }
            Request::Grant { rows, incarnation, epoch, term } => {
                let free = self.free(cluster, json::grants(rows), |row| row.artifact.as_str(), rows).await?;
                let values = [
                    name(),
                    json::grants(&free).into(),
                    (*incarnation.0).into(),
                    (*epoch).into(),
                    (*term).into(),
                ];
                self.leases("grant", &self.with_live(GRANT), values).await
            }
            Request::HandOver { session, rows, incarnation, epoch } => {
                let free =
                    self.free(cluster, json::handovers(rows), |row| row.artifact.as_str(), rows).await?;
                let rows = json::handovers(&free).into();
                let values = [name(), rows, (*incarnation.0).into(), (*epoch).into(), session.0.into()];
                self.leases("hand over", &self.with_live(HAND_OVER), values).await
            }
            Request::Rerun { session, rows, incarnation, epoch } => {
                let free = self.free(cluster, json::reruns(rows), |row| row.0.as_str(), rows).await?;
                let rows = json::reruns(&free).into();
                let values = [name(), rows, (*incarnation.0).into(), (*epoch).into(), session.0.into()];
                self.leases("rerun", &self.with_live(RERUN), values).await
            }
            Request::Target { rows } => {
                let values = || [name(), json::targets(rows).into()];
                execute(&self.db, "target", TARGET, values()).await?;
                self.count("target", COUNT_TARGETS, values()).await
            }
            Request::KeepOut { rows } => {
                let mut gone = Vec::new();
                for row in self.all("keep out", OLD_KEEP_OUTS, [name()]).await? {
                    gone.push(SessionId(crate::store::rows::get(&row, "session")?));
                }
                if !gone.is_empty() {
                    execute(&self.db, "keep out", FORGET_KEEP_OUTS, [name(), json::sessions(&gone).into()])
                        .await?;
                }
                execute(&self.db, "keep out", KEEP_OUT, [name(), json::keep_outs(rows).into()]).await?;
                let noted: BTreeSet<_> = rows.iter().map(|row| (&row.artifact, row.session)).collect();
                Ok(Answer::Matched(noted.len() as u64))
            }
            Request::Drain { session, draining } => {
                self.matched("drain", DRAIN, [name(), session.0.into(), (*draining).into()]).await
            }
            Request::Deploy { session, deployment } => {
                self.matched("deploy", DEPLOY, [name(), session.0.into(), deployment.0.into()]).await
            }
            Request::Leave { sessions } => {
                self.matched("leave", LEAVE, [name(), json::sessions(sessions).into()]).await
            }
            Request::Form { formed, term } => {
                self.matched("form", FORM, [name(), (*formed).into(), (*term).into()]).await
            }
            Request::Desire { .. }
            | Request::Prefer { .. }
            | Request::Exclude { .. }
            | Request::Readmit { .. }
            | Request::Command { .. }
            | Request::Forget { .. } => self.steer(cluster, request).await,
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
        self.matched("join", &self.with_live(JOIN), values).await
    }

    /// Those of the rows whose leases nobody has locked just now. Between this and the write somebody may lock one: then
    /// the write waits, at most as long as the connection's lock timeout, and is tried again.
    async fn free<T: Clone>(
        &self,
        cluster: &ClusterName,
        keys: String,
        artifact: impl Fn(&T) -> &str,
        rows: &[T],
    ) -> Result<Vec<T>, StoreError> {
        let found = self.all("look for locks", FREE, [cluster.as_str().into(), keys.into()]).await?;
        let mut free = BTreeSet::new();
        for row in &found {
            free.insert(crate::store::rows::get::<String>(row, "artifact")?);
        }
        Ok(rows.iter().filter(|row| free.contains(artifact(row))).cloned().collect())
    }

    /// A write of leases and, if it matched any, of the cluster's row.
    async fn leases(
        &self,
        operation: &'static str,
        sql: &str,
        values: [Value; 5],
    ) -> Result<Answer, StoreError> {
        let affected = execute(&self.db, operation, sql, values).await?;
        Ok(Answer::Matched(affected.saturating_sub(1)))
    }

    pub(super) async fn count<const N: usize>(
        &self,
        operation: &'static str,
        sql: &str,
        values: [Value; N],
    ) -> Result<Answer, StoreError> {
        let rows = self.all(operation, sql, values).await?;
        Ok(Answer::Matched(crate::store::rows::matched(rows.first())?))
    }
}
