//! Reads, each one snapshot; and the renewal, which reads along.

use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::{BACKEND, SqliteWire, commit, execute, statement};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Request, Scope};
use crate::store::error::StoreError;
use crate::store::{json, rows};

macro_rules! cluster_columns {
    () => {
        "c.revision, c.term, c.leader, c.incarnation, c.epoch, c.max_ttl_ms, c.min_program, c.formed"
    };
}

/// A view of cluster `?1`, where `?2` answers.
macro_rules! view {
    ($and:literal) => {
        concat!(
            "select ",
            cluster_columns!(),
            ", ?2 as live, cast(round(unixepoch('subsec') * 1000) as integer) as wall_ms, \
             n.session, n.node_id, n.beat, n.pass, n.ttl_ms, (n.draining or exists (select 1 from leasehold_exclusion x \
             where x.cluster = n.cluster and x.node_id = n.node_id)) as draining, n.evicted, n.deployment, n.labels \
             from leasehold_cluster c left join leasehold_node n on n.cluster = c.name",
            $and,
            " where c.name = ?1 order by n.session"
        )
    };
}

// `?3` is always bound.
const VIEW_ALL: &str = view!(" and ?3 is ?3");
/// The leader and the two oldest other sessions; and whoever asks, `?3`, if that is a session.
const VIEW_HEADS: &str = view!(
    " and (n.session = c.leader or n.session = ?3 or n.session in (select h.session from leasehold_node h where h.cluster = ?1 \
     and h.session is not (select leader from leasehold_cluster where name = ?1) order by h.session limit 2))"
);
/// In place of a session that asks.
const NOBODY: Value = Value::Bytes(None);
const OPEN: &str = view!(" and n.node_id = ?3");

/// The clock in the epoch guards against a schema that was dropped and made anew.
const CREATE: &str = "insert into leasehold_cluster (name, revision, term, incarnation, epoch, max_ttl_ms) \
     values (?1, 1, 0, ?2, (unixepoch() - 1577836800) * 10, ?3) on conflict (name) do nothing";

/// Nothing is decided by when that was: `renewed_at` is for people.
const RENEW: &str = "update leasehold_node set beat = ?3, pass = ?4, renewed_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
     where session = ?2 and cluster = ?1 and beat < ?3 and not evicted";

const HELD: &str = concat!(
    "select ",
    cluster_columns!(),
    ", l.artifact, l.token, a.desired, a.target, coalesce((select max(m.id) from leasehold_command m \
     where m.cluster = l.cluster and m.artifact = l.artifact), 0) as command from leasehold_cluster c \
     left join (leasehold_lease l join leasehold_artifact a on a.cluster = l.cluster and a.name = l.artifact) \
     on l.cluster = c.name and l.holder = ?2 where c.name = ?1 order by l.artifact"
);

const LEASES: &str = concat!(
    "select ",
    cluster_columns!(),
    ", l.artifact, l.holder, l.token, a.desired, a.placement, a.fingerprint, a.preferred, a.target from leasehold_cluster c \
     left join (leasehold_lease l join leasehold_artifact a on a.cluster = l.cluster and a.name = l.artifact) \
     on l.cluster = c.name where c.name = ?1 order by l.artifact"
);

const DEPLOYMENTS: &str = "select d.hash, d.artifact, d.kind, d.fingerprint, d.placement from leasehold_deployment d \
                           where d.cluster = ?1 and d.hash in (select unhex(value ->> '$.g', '-') from json_each(?2))";

const KEEP_OUTS: &str = "select artifact, session, failures, until_beat, error from leasehold_keepout where cluster = ?1 \
                         order by artifact, session";

fn view_of(scope: Scope) -> &'static str {
    match scope {
        Scope::Everyone => VIEW_ALL,
        Scope::Heads => VIEW_HEADS,
    }
}

impl SqliteWire {
    /// The answer of a request that reads; none for the others.
    pub(super) async fn read(
        &self,
        cluster: &ClusterName,
        request: &Request,
    ) -> Result<Option<Answer>, StoreError> {
        let name = || Value::from(cluster.as_str());
        let live = || Value::from(&*self.live().0);
        let answer = match request {
            Request::Open { node, max_ttl } => {
                let values = || [name(), live(), node.as_str().into()];
                let mut found = self.all("open", OPEN, values()).await?;
                if found.is_empty() {
                    let max_ttl = i64::try_from(max_ttl.as_millis()).unwrap_or(i64::MAX);
                    execute(&self.db, "open", CREATE, [name(), live(), max_ttl.into()]).await?;
                    found = self.all("open", OPEN, values()).await?;
                }
                let row = rows::first(cluster, &found)?;
                Answer::Opened {
                    cluster: rows::cluster(row)?,
                    live: rows::live(row)?,
                    occupant: rows::node(row)?,
                }
            }
            Request::Renew { session, beat, pass, incarnation, scope } => {
                let values = [name(), session.0.into(), (*beat).into(), (*pass).into()];
                let asker = [name(), live(), session.0.into()];
                let (matched, found) = match incarnation == self.live() {
                    true => self.renew(values, view_of(*scope), asker).await?,
                    false => (false, self.all("renew", view_of(*scope), asker).await?),
                };
                Answer::Renewed { matched, view: rows::view(cluster, &found, *scope)? }
            }
            Request::Watch { scope } => {
                let found = self.all("watch", view_of(*scope), [name(), live(), NOBODY]).await?;
                Answer::View(rows::view(cluster, &found, *scope)?)
            }
            Request::Held { session } => {
                let found = self.all("read own leases", HELD, [name(), session.0.into()]).await?;
                let row = rows::first(cluster, &found)?;
                Answer::Held { cluster: rows::cluster(row)?, rows: rows::held(&found)? }
            }
            Request::Leases { deployments } => {
                let found = self.all("read leases", LEASES, [name()]).await?;
                let row = rows::first(cluster, &found)?;
                let keep_outs = self.all("read keep-outs", KEEP_OUTS, [name()]).await?;
                let wanted = json::uuids(deployments.iter().map(|d| d.0));
                let deployed = match deployments.is_empty() {
                    true => Vec::new(),
                    false => self.all("read deployments", DEPLOYMENTS, [name(), wanted.into()]).await?,
                };
                Answer::Leases {
                    cluster: rows::cluster(row)?,
                    rows: rows::leases(&found)?,
                    deployments: rows::deployments(&deployed)?,
                    keep_outs: rows::keep_outs(&keep_outs)?,
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(answer))
    }

    async fn renew(
        &self,
        values: [Value; 4],
        view: &str,
        asker: [Value; 3],
    ) -> Result<(bool, Vec<QueryResult>), StoreError> {
        let txn = self.begin("renew").await?;
        let matched = execute(&txn, "renew", RENEW, values).await? > 0;
        let found = txn.query_all_raw(statement(view, asker)).await;
        let found = found.map_err(|e| StoreError::database(BACKEND, "renew", e))?;
        commit(txn, "renew").await?;
        Ok((matched, found))
    }
}
