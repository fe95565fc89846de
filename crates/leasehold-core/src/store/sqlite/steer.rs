//! What operators ask of a cluster. Each is kept until somebody asks otherwise, whoever restarts.

use sea_orm::Value;

use super::{SqliteWire, commit, execute};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Request};
use crate::store::error::StoreError;
use crate::store::rows;

const COUNT_ARTIFACT: &str =
    "select count(*) as matched from leasehold_artifact where cluster = ?1 and name = ?2";

const DESIRE: &str = "update leasehold_artifact set desired = ?3, changed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
     where cluster = ?1 and name = ?2 and desired <> ?3";

const PREFER: &str = "update leasehold_artifact set preferred = ?3, changed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
     where cluster = ?1 and name = ?2 and preferred is not ?3";

const EXCLUDE: &str = "insert into leasehold_exclusion (cluster, node_id, by_whom, reason) values (?1, ?2, ?3, ?4) \
     on conflict (cluster, node_id) do update set by_whom = excluded.by_whom, reason = excluded.reason, \
     at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

const EVICT: &str = "update leasehold_node set evicted = evicted or ?3 where cluster = ?1 and node_id = ?2";

const READMIT: &str = "delete from leasehold_exclusion where cluster = ?1 and node_id = ?2";

const COMMAND: &str = "insert into leasehold_command (cluster, artifact, verb, args, by_whom, reason) \
     select ?1, name, ?3, ?4, ?5, ?6 from leasehold_artifact where cluster = ?1 and name = ?2";

const FORGET: &str = "delete from leasehold_artifact where cluster = ?1 and name = ?2 \
     and not exists (select 1 from leasehold_node n join leasehold_deployment d on d.cluster = n.cluster and d.hash = n.deployment \
     where n.cluster = ?1 and d.artifact = ?2)";

const FORGET_COMMANDS: &str = "delete from leasehold_command where cluster = ?1 and artifact = ?2 \
     and not exists (select 1 from leasehold_artifact where cluster = ?1 and name = ?2)";

impl SqliteWire {
    pub(super) async fn steer(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        let name = || Value::from(cluster.as_str());
        match request {
            Request::Desire { artifact, desired } => {
                let artifact = || Value::from(artifact.as_str());
                let values = [name(), artifact(), rows::desired_text(*desired).into()];
                let count = (COUNT_ARTIFACT, [name(), artifact()]);
                self.changing("desire", cluster, count, (DESIRE, values)).await
            }
            Request::Prefer { artifact, node } => {
                let artifact = || Value::from(artifact.as_str());
                let node = node.as_ref().map(|node| node.as_str().to_owned());
                let count = (COUNT_ARTIFACT, [name(), artifact()]);
                self.changing("prefer", cluster, count, (PREFER, [name(), artifact(), node.into()])).await
            }
            Request::Exclude { node, evict, by, reason } => {
                const OPERATION: &str = "exclude";
                let node = || Value::from(node.as_str());
                let values = [name(), node(), by.as_str().into(), reason.as_str().into()];
                let txn = self.begin(OPERATION).await?;
                execute(&txn, OPERATION, EXCLUDE, values).await?;
                let matched = execute(&txn, OPERATION, EVICT, [name(), node(), (*evict).into()]).await?;
                commit(txn, OPERATION).await?;
                Ok(Answer::Matched(matched))
            }
            Request::Readmit { node } => {
                self.matched("readmit", READMIT, [name(), node.as_str().into()]).await
            }
            Request::Command { artifact, verb, args, by, reason } => {
                let [verb, args, by, reason] = [verb, args, by, reason].map(|text| text.as_str().into());
                let values = [name(), artifact.as_str().into(), verb, args, by, reason];
                let inserted = self.raising("command", cluster, COMMAND, values).await?;
                let id = if inserted.rows_affected() == 0 { 0 } else { inserted.last_insert_id() };
                Ok(rows::commanded(id))
            }
            Request::Forget { artifact } => {
                let values = || [name(), Value::from(artifact.as_str())];
                let forgotten = self.raising("forget", cluster, FORGET, values()).await?.rows_affected();
                // Of an artifact that is not there nobody reads commands: this may come a moment later, or never.
                execute(&self.db, "forget", FORGET_COMMANDS, values()).await?;
                Ok(Answer::Matched(forgotten))
            }
            _ => Err(StoreError::corrupt("steer", "no operator asks for this")),
        }
    }
}
