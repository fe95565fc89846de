//! Coordination writes. The incarnation is the file's, which this process examines: only what is adopted is in the rows.

use sea_orm::{ConnectionTrait, ExecResult, Value};

use super::{BACKEND, SqliteWire, commit, execute, executed, statement};
use crate::name::ClusterName;
use crate::protocol::ids::Incarnation;
use crate::protocol::request::{Answer, NewNode, Request};
use crate::store::error::StoreError;
use crate::store::{json, rows};

/// The rows of parameter `?2`. Materialized: else every lease is compared with all of the JSON, 2,000 times 10,000.
macro_rules! with_rows {
    ($rest:literal) => {
        concat!(
            "with w as materialized (select value ->> '$.a' as a, value ->> '$.t' as t, \
             unhex(value ->> '$.g', '-') as g from json_each(?2)) ",
            $rest
        )
    };
}

const RAISE: &str = "update leasehold_cluster set revision = revision + 1 where name = ?1";

const GRANT: &str = with_rows!(
    "update leasehold_lease as l set holder = w.g, token = max(l.token, ?4 << 20) + 1 \
     from w \
     where l.cluster = ?1 and l.artifact = w.a and l.token = w.t \
     and exists (select 1 from leasehold_cluster where name = ?1 and incarnation = ?3 and term = ?5)"
);

/// While another incarnation answers (`?6` is 0) leases are freed instead, and freeing raises no token.
const HAND_OVER: &str = with_rows!(
    "update leasehold_lease as l set holder = case when c.same then w.g end, \
     token = case when c.same and w.g is not null then max(l.token, ?4 << 20) + 1 else l.token end \
     from w, \
     (select incarnation = ?3 and ?6 as same from leasehold_cluster where name = ?1) as c \
     where l.cluster = ?1 and l.artifact = w.a and l.token = w.t and l.holder = ?5"
);

const RERUN: &str = with_rows!(
    "update leasehold_lease as l set token = max(l.token, ?4 << 20) + 1 \
     from w \
     where l.cluster = ?1 and l.artifact = w.a and l.token = w.t and l.holder = ?5 \
     and exists (select 1 from leasehold_cluster where name = ?1 and incarnation = ?3)"
);

const COUNT_TARGETS: &str = "select count(*) as matched from leasehold_artifact where cluster = ?1 \
     and name in (select value ->> '$.a' from json_each(?2))";

const TARGET: &str = with_rows!(
    "update leasehold_artifact as a set target = w.g, changed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
     from w \
     where a.cluster = ?1 and a.name = w.a and a.target is not w.g"
);

const JOIN: &str = "insert into leasehold_node (session, cluster, node_id, ttl_ms, labels, deployment, draining, version) \
     values (?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8) on conflict do nothing";

const EXPIRE: &str = "delete from leasehold_node where session = ?2 and cluster = ?1 and beat = ?3 \
     and (select incarnation from leasehold_cluster where name = ?1) = ?4";

const LEAVE: &str = "delete from leasehold_node where cluster = ?1 \
     and session in (select unhex(value ->> '$.g', '-') from json_each(?2))";

const DRAIN: &str = "update leasehold_node set draining = ?3 where session = ?2 and cluster = ?1";

const DEPLOY: &str = "update leasehold_node set deployment = ?3 where session = ?2 and cluster = ?1";

const ELECT: &str = "update leasehold_cluster set leader = ?2, term = term + 1 \
     where name = ?1 and term = ?3 and incarnation = ?4";

const FORM: &str = "update leasehold_cluster set formed = ?2 where name = ?1 and term = ?3";

const ADOPT: &str = "update leasehold_cluster set incarnation = ?3, term = term + 1, leader = null, revision = revision + 1, \
     epoch = max(epoch + 1, ?4 + 1, (unixepoch() - 1577836800) * 10) where name = ?1 and incarnation = ?2";

const KEEP_OUT: &str = "insert into leasehold_keepout (cluster, artifact, session, failures, until_beat, error) \
     select ?1, value ->> '$.a', unhex(value ->> '$.g', '-'), value ->> '$.f', value ->> '$.u', value ->> '$.e' \
     from json_each(?2) where true on conflict (cluster, artifact, session) do update \
     set failures = excluded.failures, until_beat = excluded.until_beat, error = excluded.error";

/// Keep-outs of sessions that are gone keep nobody out.
const FORGET_KEEP_OUTS: &str = "delete from leasehold_keepout where cluster = ?1 \
     and session not in (select session from leasehold_node where cluster = ?1)";

fn matched(done: ExecResult) -> Answer {
    Answer::Matched(done.rows_affected())
}

impl SqliteWire {
    pub(super) async fn write(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        let name = || Value::from(cluster.as_str());
        let is_live = |incarnation: &Incarnation| incarnation == self.live();
        match request {
            // Nothing happens while another incarnation answers than the one that the asker means.
            Request::Join { incarnation, .. }
            | Request::Expire { incarnation, .. }
            | Request::Elect { incarnation, .. }
            | Request::Adopt { live: incarnation, .. }
            | Request::Grant { incarnation, .. }
            | Request::Rerun { incarnation, .. }
                if !is_live(incarnation) =>
            {
                Ok(Answer::Matched(0))
            }
            Request::Join { node, .. } => self.join(cluster, node).await,
            Request::Expire { session, beat, incarnation } => {
                let values = [name(), session.0.into(), (*beat).into(), (*incarnation.0).into()];
                self.matched("expire", EXPIRE, values).await
            }
            Request::Elect { session, term, incarnation } => {
                let values = [name(), session.0.into(), (*term).into(), (*incarnation.0).into()];
                self.matched("elect", ELECT, values).await
            }
            Request::Adopt { old, live, highest_epoch } => {
                let values = [name(), (*old.0).into(), (*live.0).into(), (*highest_epoch).into()];
                self.matched("adopt", ADOPT, values).await
            }
            Request::Grant { rows, incarnation, epoch, term } => {
                let rows = json::grants(rows).into();
                let values = [name(), rows, (*incarnation.0).into(), (*epoch).into(), (*term).into()];
                self.raising("grant", cluster, GRANT, values).await.map(matched)
            }
            Request::HandOver { session, rows, incarnation, epoch } => {
                let rows = json::handovers(rows).into();
                let (inc, live) = (Value::from(&*incarnation.0), is_live(incarnation).into());
                let values = [name(), rows, inc, (*epoch).into(), session.0.into(), live];
                self.raising("hand over", cluster, HAND_OVER, values).await.map(matched)
            }
            Request::Rerun { session, rows, incarnation, epoch } => {
                let rows = json::reruns(rows).into();
                let values = [name(), rows, (*incarnation.0).into(), (*epoch).into(), session.0.into()];
                self.raising("rerun", cluster, RERUN, values).await.map(matched)
            }
            Request::Target { rows } => {
                let values = || [name(), json::targets(rows).into()];
                self.changing("target", cluster, (COUNT_TARGETS, values()), (TARGET, values())).await
            }
            Request::KeepOut { rows } => {
                execute(&self.db, "keep out", FORGET_KEEP_OUTS, [name()]).await?;
                self.matched("keep out", KEEP_OUT, [name(), json::keep_outs(rows).into()]).await
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

    async fn join(&self, cluster: &ClusterName, node: &NewNode) -> Result<Answer, StoreError> {
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
        ];
        self.matched("join", JOIN, values).await
    }

    /// A write that raises the revision if it matched anything.
    pub(super) async fn raising<const N: usize>(
        &self,
        operation: &'static str,
        cluster: &ClusterName,
        sql: &str,
        values: [Value; N],
    ) -> Result<ExecResult, StoreError> {
        let txn = self.begin(operation).await?;
        let done = executed(&txn, operation, sql, values).await?;
        if done.rows_affected() > 0 {
            execute(&txn, operation, RAISE, [cluster.as_str().into()]).await?;
        }
        commit(txn, operation).await?;
        Ok(done)
    }

    /// A write that raises the revision if it changed anything, and tells what it matched, changed or not.
    pub(super) async fn changing<const M: usize, const N: usize>(
        &self,
        operation: &'static str,
        cluster: &ClusterName,
        (count, keys): (&str, [Value; M]),
        (sql, values): (&str, [Value; N]),
    ) -> Result<Answer, StoreError> {
        let txn = self.begin(operation).await?;
        let row = txn.query_one_raw(statement(count, keys)).await;
        let row = row.map_err(|e| StoreError::database(BACKEND, operation, e))?;
        let matched = rows::matched(row.as_ref())?;
        if execute(&txn, operation, sql, values).await? > 0 {
            execute(&txn, operation, RAISE, [cluster.as_str().into()]).await?;
        }
        commit(txn, operation).await?;
        Ok(Answer::Matched(matched))
    }
}
