//! Reads, each one snapshot; and the renewal, which reads along.

use sea_orm::Value;

use super::{PostgresWire, live};
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Request, Scope};
use crate::store::error::StoreError;
use crate::store::{json, rows};

macro_rules! cluster_columns {
    () => {
        "c.revision, c.term, c.leader, c.incarnation, c.epoch, c.max_ttl_ms, c.min_program, c.formed"
    };
}

/// A view of cluster `$1` after a `with` clause that defines `live`.
macro_rules! view {
    ($start:literal, $and:expr) => {
        concat!(
            $start,
            cluster_columns!(),
            ", (select live from live) as live, floor(extract(epoch from clock_timestamp()) * 1000)::bigint as wall_ms, \
             n.session, n.node_id, n.beat, n.pass, n.ttl_ms, (n.draining or exists (select 1 from leasehold_exclusion x \
             where x.cluster = n.cluster and x.node_id = n.node_id)) as draining, n.evicted, n.deployment, n.labels \
             from leasehold_cluster c left join leasehold_node n on n.cluster = c.name",
            $and,
            " where c.name = $1 order by n.session"
        )
    };
}

/// The leader and the two oldest other sessions, and whom `$or` adds.
macro_rules! heads {
    ($start:literal, $or:literal) => {
        view!(
            $start,
            concat!(" and (n.session = c.leader ", $or, " or n.session in (select h.session from leasehold_node h where h.cluster = $1 \
             and h.session is distinct from (select leader from leasehold_cluster where name = $1) order by h.session limit 2))")
        )
    };
}

macro_rules! with_live {
    ($rest:expr) => {
        concat!("with live as materialized (select ", live!(), " as live) ", $rest)
    };
}

/// The update and the view of one statement share a snapshot from before the update. Nothing is decided by when that was:
/// `renewed_at` is for people.
macro_rules! renew {
    ($view:expr) => {
        concat!(
            "with live as materialized (select ",
            live!(),
            " as live), u as (update leasehold_node set beat = $3, pass = $4, renewed_at = clock_timestamp() where session = $2 and cluster = $1 \
             and beat < $3 and not evicted and (select live from live) = $5 returning 1) ",
            $view
        )
    };
}

const WATCH_ALL: &str = with_live!(view!("select ", ""));
const WATCH_HEADS: &str = with_live!(heads!("select ", ""));
const RENEW_ALL: &str = renew!(view!("select (select count(*) from u) as matched, ", ""));
const RENEW_HEADS: &str = renew!(heads!("select (select count(*) from u) as matched, ", "or n.session = $2"));
const OPEN: &str = with_live!(view!("select ", " and n.node_id = $2"));

/// The clock in the epoch guards against a schema that was dropped and made anew.
const CREATE: &str = concat!(
    "insert into leasehold_cluster (name, revision, term, incarnation, epoch, max_ttl_ms) select $1, 1, 0, ",
    live!(),
    ", floor((extract(epoch from clock_timestamp()) - 1577836800) * 10)::bigint, $2 on conflict (name) do nothing"
);

const HELD: &str = concat!(
    "select ",
    cluster_columns!(),
    ", l.artifact, l.token, a.desired, a.target, coalesce((select max(m.id) from leasehold_command m \
     where m.cluster = l.cluster and m.artifact = l.artifact), 0) as command from leasehold_cluster c \
     left join (leasehold_lease l join leasehold_artifact a on a.cluster = l.cluster and a.name = l.artifact) \
     on l.cluster = c.name and l.holder = $2 where c.name = $1 order by l.artifact"
);

const LEASES: &str = concat!(
    "select ",
    cluster_columns!(),
    ", l.artifact, l.holder, l.token, a.desired, a.placement, a.fingerprint, a.preferred, a.target from leasehold_cluster c \
     left join (leasehold_lease l join leasehold_artifact a on a.cluster = l.cluster and a.name = l.artifact) \
     on l.cluster = c.name where c.name = $1 order by l.artifact"
);

const DEPLOYMENTS: &str = "select d.hash, d.artifact, d.kind, d.fingerprint, d.placement from leasehold_deployment d \
                           join jsonb_to_recordset($2::jsonb) as w(g uuid) on d.hash = w.g where d.cluster = $1";

const KEEP_OUTS: &str = "select artifact, session, failures, until_beat, error from leasehold_keepout where cluster = $1 \
                         order by artifact, session";

impl PostgresWire {
    /// The answer of a request that reads; none for the others.
    pub(super) async fn read(
        &self,
        cluster: &ClusterName,
        request: &Request,
    ) -> Result<Option<Answer>, StoreError> {
        let name = || Value::from(cluster.as_str());
        let answer = match request {
            Request::Open { node, max_ttl } => {
                let values = || [name(), node.as_str().into()];
                let mut found = self.all("open", OPEN, values()).await?;
                if found.is_empty() {
                    let max_ttl = i64::try_from(max_ttl.as_millis()).unwrap_or(i64::MAX);
                    self.all("open", CREATE, [name(), max_ttl.into()]).await?;
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
                let sql = if *scope == Scope::Everyone { RENEW_ALL } else { RENEW_HEADS };
                let values =
                    [name(), session.0.into(), (*beat).into(), (*pass).into(), (*incarnation.0).into()];
                let found = self.all("renew", sql, values).await?;
                let matched = rows::matched(found.first())? > 0;
                let mut view = rows::view(cluster, &found, *scope)?;
                if let Some(own) = view.nodes.iter_mut().find(|n| matched && n.session == *session) {
                    own.beat = *beat;
                    own.pass = *pass;
                }
                Answer::Renewed { matched, view }
            }
            Request::Watch { scope } => {
                let sql = if *scope == Scope::Everyone { WATCH_ALL } else { WATCH_HEADS };
                let found = self.all("watch", sql, [name()]).await?;
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
}
