//! What operators ask of a cluster. Each is kept until somebody asks otherwise, whoever restarts.

use sea_orm::{ExecResult, Value};

use super::{MySqlWire, commit, execute, executed};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Request};
use crate::store::error::StoreError;
use crate::store::rows;

const COUNT_ARTIFACT: &str =
    "select count(*) as matched from leasehold_artifact where cluster = ?1 and name = ?2";

const DESIRE: &str = "update leasehold_artifact a straight_join leasehold_cluster c on c.name = ?1 set a.desired = ?3, \
     a.changed_at = current_timestamp(3), c.revision = c.revision + 1 where a.cluster = ?1 and a.name = ?2 and a.desired <> ?3";

const PREFER: &str = "update leasehold_artifact a straight_join leasehold_cluster c on c.name = ?1 set a.preferred = ?3, \
     a.changed_at = current_timestamp(3), c.revision = c.revision + 1 where a.cluster = ?1 and a.name = ?2 \
     and not (a.preferred <=> ?3)";

const EXCLUDE: &str = "insert into leasehold_exclusion (cluster, node_id, by_whom, reason) values (?1, ?2, ?3, ?4) \
     on duplicate key update by_whom = values(by_whom), reason = values(reason), at = current_timestamp(3)";

const EVICT: &str = "update leasehold_node set evicted = evicted or ?3 where cluster = ?1 and node_id = ?2";

const READMIT: &str = "delete from leasehold_exclusion where cluster = ?1 and node_id = ?2";

const COMMAND: &str = "insert into leasehold_command (cluster, artifact, verb, args, by_whom, reason) \
     select ?1, name, ?3, ?4, ?5, ?6 from leasehold_artifact where cluster = ?1 and name = ?2";

/// Read first: inside a deletion the rows of the nodes would be locked.
const DEPLOYERS: &str = "select count(*) as matched from leasehold_node n join leasehold_deployment d \
     on d.cluster = n.cluster and d.hash = n.deployment where n.cluster = ?1 and d.artifact = ?2";

const FORGET: &str = "delete from leasehold_artifact where cluster = ?1 and name = ?2";

const FORGET_COMMANDS: &str = "delete from leasehold_command where cluster = ?1 and artifact = ?2";

const RAISE: &str = "update leasehold_cluster set revision = revision + 1 where name = ?1";

impl MySqlWire {
    pub(super) async fn steer(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        let name = || Value::from(cluster.as_str());
        match request {
            Request::Desire { artifact, desired } => {
                let artifact = || Value::from(artifact.as_str());
                let values = [name(), artifact(), rows::desired_text(*desired).into()];
                execute(&self.db, "desire", DESIRE, values).await?;
                self.count("desire", COUNT_ARTIFACT, [name(), artifact()]).await
            }
            Request::Prefer { artifact, node } => {
                let artifact = || Value::from(artifact.as_str());
                let node = node.as_ref().map(|node| node.as_str().to_owned());
                execute(&self.db, "prefer", PREFER, [name(), artifact(), node.into()]).await?;
                self.count("prefer", COUNT_ARTIFACT, [name(), artifact()]).await
            }
            Request::Exclude { node, evict, by, reason } => {
                let node = || Value::from(node.as_str());
                let values = [name(), node(), by.as_str().into(), reason.as_str().into()];
                execute(&self.db, "exclude", EXCLUDE, values).await?;
                self.matched("exclude", EVICT, [name(), node(), (*evict).into()]).await
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
                if self.count("forget", DEPLOYERS, values()).await? != Answer::Matched(0) {
                    return Ok(Answer::Matched(0));
                }
                let forgotten = self.raising("forget", cluster, FORGET, values()).await?.rows_affected();
                if forgotten > 0 {
                    execute(&self.db, "forget", FORGET_COMMANDS, values()).await?;
                }
                Ok(Answer::Matched(forgotten))
            }
            _ => Err(StoreError::corrupt("steer", "no operator asks for this")),
        }
    }

    /// A write that raises the revision if it matched anything. This database inserts and updates in two statements: for
    /// once, what an operator asks for is a transaction, which holds the cluster's row for its commit alone.
    async fn raising<const N: usize>(
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
}
