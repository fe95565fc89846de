//! What operators do with a cluster, from any node or from any process with access to the database.
//!
//! All of it is state of the cluster: it outlives whoever asked for it, and restarts of all nodes. Each change is one
//! statement, followed by an entry in the audit trail that says who asked for it and why.

mod explain;
mod overview;
mod reader;
mod said;

use std::time::Duration;

use serde::Serialize;

pub use explain::{Explanation, Reason, Who};
pub use overview::{ArtifactState, NodeState, Overview};
pub use reader::Reader;

use self::overview::Snapshot;
use crate::duration::about;
use crate::error::Error;
use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::protocol::request::{Answer, Desired, LeaseRow, Request, Scope, View};
pub use crate::protocol::waiting::Waiting;
use crate::store::audit::{self, AuditEvent};
use crate::store::{self, ErrorKind, Link, StoreError, Target};
pub use crate::store::{Exclusion, Locked, PendingCommand, Position, Transaction};
use crate::timing::MIN_TTL;

/// The verb of the command that lets a scheduled task fire now.
pub const FIRE: &str = "fire";
/// The command that has a polling endpoint poll now.
pub const POLL: &str = "poll";

/// Steers a cluster. Clones steer the same one.
#[derive(Clone, Debug)]
pub struct Control {
    target: Target,
    cluster: ClusterName,
    by: String,
    reason: String,
}

impl Control {
    pub(crate) fn new(target: Target, cluster: ClusterName) -> Self {
        Self { target, cluster, by: String::new(), reason: String::new() }
    }

    /// Steers cluster `cluster` of the database at `url`. Changes nothing, and makes no schema.
    ///
    /// # Errors
    /// [`Error::Name`], and [`Error::Store`] for a URL that cannot work, a database that does not answer or that lacks
    /// the schema.
    pub async fn open(url: &str, cluster: &str) -> Result<Self, Error> {
        let (target, cluster) = (Target::from_url(url)?, ClusterName::new(cluster)?);
        store::verify(&target).await?;
        Ok(Self::new(target, cluster))
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Who asks, for the audit trail.
    #[must_use]
    pub fn by(self, who: impl Into<String>) -> Self {
        Self { by: who.into(), ..self }
    }

    /// Why, for the audit trail.
    #[must_use]
    pub fn reason(self, why: impl Into<String>) -> Self {
        Self { reason: why.into(), ..self }
    }

    /// Asks the holder to end its run, and nobody to begin another. Acknowledged when the lease is free:
    /// [`overview`](Control::overview) then shows no holder.
    ///
    /// # Errors
    /// [`Error::Artifact`] when the cluster does not know the artifact. Errors of the database.
    pub async fn pause(&self, artifact: &ArtifactName) -> Result<(), Error> {
        self.desire(artifact, Desired::Paused, "paused").await
    }

    /// Lets a paused artifact run again.
    ///
    /// # Errors
    /// As [`pause`](Control::pause).
    pub async fn resume(&self, artifact: &ArtifactName) -> Result<(), Error> {
        self.desire(artifact, Desired::Active, "resumed").await
    }

    async fn desire(&self, artifact: &ArtifactName, desired: Desired, kind: &str) -> Result<(), Error> {
        let link = Link::open(&self.target).await?;
        let request = Request::Desire { artifact: artifact.clone(), desired };
        self.known(&link, artifact, request).await?;
        self.note(&link, kind, Some(artifact), None, "").await;
        link.close().await;
        Ok(())
    }

    /// Moves an artifact to a node: the holder finishes its work and hands over. It stays there while that node may
    /// run it, and comes back when it may again, until [`unmove_artifact`](Control::unmove_artifact).
    ///
    /// # Errors
    /// [`Error::Artifact`] when the cluster does not know the artifact, when no such node takes part or it has not deployed the
    /// artifact, or when the artifact's placement does not admit it. Errors of the database.
    pub async fn move_artifact(&self, artifact: &ArtifactName, to: &NodeId) -> Result<(), Error> {
        let link = Link::open(&self.target).await?;
        let row = self.lease(&link, artifact).await?;
        let view = self.view(&link).await?;
        self.admits(&row, &view, to)?;
        self.deploys(&link, artifact, &view, to).await?;
        let request = Request::Prefer { artifact: artifact.clone(), node: Some(to.clone()) };
        self.known(&link, artifact, request).await?;
        self.note(&link, "moved", Some(artifact), Some(to), "").await;
        link.close().await;
        Ok(())
    }

    fn admits(&self, row: &LeaseRow, view: &View, to: &NodeId) -> Result<(), Error> {
        let refuse = |problem: String| Err(Error::artifact(row.artifact.as_str(), problem));
        let list =
            |ids: &mut dyn Iterator<Item = &NodeId>| ids.map(|id| id.as_str()).collect::<Vec<_>>().join(", ");
        let placement = &row.placement;
        if !placement.nodes.is_empty() && !placement.elsewhere && !placement.nodes.contains(to) {
            let nodes = list(&mut placement.nodes.iter());
            return refuse(format!(
                "cannot move to {to}: its placement pins it to {nodes}; move it to one of these, or change its nodes"
            ));
        }
        let Some(node) = view.nodes.iter().find(|node| node.node == *to) else {
            let nodes = list(&mut view.nodes.iter().map(|node| &node.node));
            return refuse(format!("cannot move to {to}: no such node takes part; there are: {nodes}"));
        };
        match placement.lacking(&node.labels) {
            Some((key, value)) => refuse(format!(
                "cannot move to {to}: its placement asks for the label {key} = {value:?}, which that node lacks"
            )),
            None => Ok(()),
        }
    }

    /// A node that has not deployed it will not run it: that would be asked for in vain.
    async fn deploys(
        &self,
        link: &Link,
        artifact: &ArtifactName,
        view: &View,
        to: &NodeId,
    ) -> Result<(), Error> {
        let deployments =
            view.nodes.iter().filter(|node| node.node == *to).map(|node| node.deployment).collect();
        let Answer::Leases { deployments, .. } =
            link.call(&self.cluster, &Request::Leases { deployments }).await?
        else {
            return Err(unexpected());
        };
        if deployments.iter().any(|set| set.artifacts.contains_key(artifact)) {
            return Ok(());
        }
        let problem = format!("cannot move to {to}: that node has not deployed it; deploy it there first");
        Err(Error::artifact(artifact.as_str(), problem))
    }

    /// Ends a move: the resolver decides again. What is held stays until there is a reason to move it.
    ///
    /// # Errors
    /// As [`pause`](Control::pause).
    pub async fn unmove_artifact(&self, artifact: &ArtifactName) -> Result<(), Error> {
        let link = Link::open(&self.target).await?;
        self.known(&link, artifact, Request::Prefer { artifact: artifact.clone(), node: None }).await?;
        self.note(&link, "unmoved", Some(artifact), None, "").await;
        link.close().await;
        Ok(())
    }

    /// Lets a scheduled task fire now, beside its schedule: its holder does, under its overlap policy, once. While
    /// nobody holds it the command waits. Tells its number, which the task's history names.
    ///
    /// # Errors
    /// As [`pause`](Control::pause).
    pub async fn fire_now(&self, artifact: &ArtifactName) -> Result<i64, Error> {
        self.command(artifact, FIRE, "{}").await
    }

    /// Has a polling endpoint poll now, beside its schedule.
    ///
    /// # Errors
    /// As [`pause`](Control::pause).
    pub async fn poll_now(&self, artifact: &ArtifactName) -> Result<i64, Error> {
        self.command(artifact, POLL, "{}").await
    }

    /// Puts a command before an artifact's holder, whoever that is or will be. The artifact's kind knows the verbs.
    /// Tells its number.
    ///
    /// # Errors
    /// As [`pause`](Control::pause).
    pub async fn command(&self, artifact: &ArtifactName, verb: &str, args: &str) -> Result<i64, Error> {
        let link = Link::open(&self.target).await?;
        let request = Request::Command {
            artifact: artifact.clone(),
            verb: verb.to_owned(),
            args: args.to_owned(),
            by: self.by.clone(),
            reason: self.reason.clone(),
        };
        let id = match link.call(&self.cluster, &request).await? {
            Answer::Commanded(id) => id.ok_or_else(|| unknown(artifact))?,
            _ => return Err(unexpected()),
        };
        self.note(&link, "commanded", Some(artifact), None, verb).await;
        link.close().await;
        Ok(id)
    }

    /// Takes a node's leases away politely and gives it no new ones, also when it joins again, until
    /// [`readmit`](Control::readmit). The node need not be there.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn drain(&self, node: &NodeId) -> Result<(), Error> {
        self.exclude(node, false, "drained").await
    }

    /// Forbids the renewals of a node that no longer answers to anything else: it stops when its trust ends, and its
    /// leases are free a `ttl` later. When it joins again it is drained, until [`readmit`](Control::readmit).
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn evict(&self, node: &NodeId) -> Result<(), Error> {
        self.exclude(node, true, "evicted").await
    }

    async fn exclude(&self, node: &NodeId, evict: bool, kind: &str) -> Result<(), Error> {
        let link = Link::open(&self.target).await?;
        let (by, reason) = (self.by.clone(), self.reason.clone());
        link.call(&self.cluster, &Request::Exclude { node: node.clone(), evict, by, reason }).await?;
        self.note(&link, kind, None, Some(node), "").await;
        link.close().await;
        Ok(())
    }

    /// Lets a drained or evicted node take part again. Tells whether it was one.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn readmit(&self, node: &NodeId) -> Result<bool, Error> {
        let link = Link::open(&self.target).await?;
        let answer = link.call(&self.cluster, &Request::Readmit { node: node.clone() }).await?;
        let was = !matches!(answer, Answer::Matched(0));
        if was {
            self.note(&link, "readmitted", None, Some(node), "").await;
        }
        link.close().await;
        Ok(was)
    }

    /// Forgets an artifact that no node has deployed any more. Its tokens, checkpoints and history stay.
    ///
    /// # Errors
    /// [`Error::Artifact`] when a node that has a session has it deployed, or the cluster does not know it. Errors of the database.
    pub async fn forget(&self, artifact: &ArtifactName) -> Result<(), Error> {
        let link = Link::open(&self.target).await?;
        self.lease(&link, artifact).await?;
        let answer = link.call(&self.cluster, &Request::Forget { artifact: artifact.clone() }).await?;
        if matches!(answer, Answer::Matched(0)) {
            let problem = "is deployed by a node that has a session; undeploy it there first, or, if that node is dead, start \
                           one that does not deploy it, which ends that session";
            return Err(Error::artifact(artifact.as_str(), problem));
        }
        self.note(&link, "forgotten", Some(artifact), None, "").await;
        link.close().await;
        Ok(())
    }

    /// Sets the longest ttl that nodes may have, while none has a session: whoever lives trusts itself for longer than a shorter one
    /// would be waited for.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when a node has a session, a dead one's counts until somebody expires it; or while the database is in another life than the cluster has adopted;
    /// [`ErrorKind::Invalid`] when `max_ttl` is below the shortest ttl. Errors of the database.
    pub async fn set_max_ttl(&self, max_ttl: Duration) -> Result<(), Error> {
        const OPERATION: &str = "set max_ttl";
        let refuse = |problem: String| Err(Error::Forbidden { operation: OPERATION, problem });
        if max_ttl < MIN_TTL {
            let why = format!("{max_ttl:?} is below the shortest ttl, {MIN_TTL:?}; give that or more");
            return Err(StoreError::new(ErrorKind::Invalid, OPERATION, why).into());
        }
        let link = Link::open(&self.target).await?;
        let view = self.view(&link).await?;
        let adopted = &view.cluster.adopted;
        if view.live != *adopted {
            return refuse(format!(
                "the database was restarted or failed over, and sessions that it may have forgotten trust themselves for up to {:?}: \
                 wait until a node has adopted it",
                view.cluster.max_ttl
            ));
        }
        let ms = i64::try_from(max_ttl.as_millis()).unwrap_or(i64::MAX);
        if !store::people::set_max_ttl(link.connection(), &self.cluster, adopted, ms).await? {
            // One that joined meanwhile is among them.
            let snapshot = Snapshot::read(&link, &self.cluster).await?;
            if snapshot.view.nodes.is_empty() || snapshot.view.live != *adopted {
                return refuse("nodes, or the database, have come and gone meanwhile; try again".to_owned());
            }
            let told = snapshot.view.nodes.iter().map(|node| match snapshot.silence(node) {
                None => node.node.to_string(),
                Some(silence) => format!("{} (not renewed for {})", node.node, about(silence)),
            });
            return refuse(format!(
                "nodes of cluster {} have a session: {}; stop them first. What the dead have left is removed by any node that \
                 takes part for longer than their ttl",
                self.cluster,
                told.collect::<Vec<_>>().join(", ")
            ));
        }
        self.note(&link, "max-ttl", None, None, &format!("{max_ttl:?}")).await;
        link.close().await;
        Ok(())
    }

    /// What the cluster looks like, and why each artifact that nobody runs is not run.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn overview(&self) -> Result<Overview, Error> {
        let reader = self.reader().await?;
        let overview = reader.overview().await;
        reader.close().await;
        overview
    }

    async fn view(&self, link: &Link) -> Result<View, Error> {
        match link.call(&self.cluster, &Request::Watch { scope: Scope::Everyone }).await? {
            Answer::View(view) => Ok(view),
            _ => Err(unexpected()),
        }
    }

    async fn lease(&self, link: &Link, artifact: &ArtifactName) -> Result<LeaseRow, Error> {
        let Answer::Leases { rows, .. } =
            link.call(&self.cluster, &Request::Leases { deployments: Vec::new() }).await?
        else {
            return Err(unexpected());
        };
        rows.into_iter().find(|row| row.artifact == *artifact).ok_or_else(|| unknown(artifact))
    }

    /// A change of one artifact, which the cluster must know.
    async fn known(&self, link: &Link, artifact: &ArtifactName, request: Request) -> Result<(), Error> {
        match link.call(&self.cluster, &request).await? {
            Answer::Matched(0) => Err(unknown(artifact)),
            _ => Ok(()),
        }
    }

    /// Keeps in the audit trail what somebody has done beside leases: `kind` is one word for it, `more` says to what. Losing
    /// it is allowed, as of all events: errors are logged.
    pub async fn tell(&self, kind: &str, more: &str) {
        match Link::open(&self.target).await {
            Ok(link) => {
                self.note(&link, kind, None, None, more).await;
                link.close().await;
            }
            Err(error) => untold(kind, &error),
        }
    }

    async fn note(
        &self,
        link: &Link,
        kind: &str,
        artifact: Option<&ArtifactName>,
        node: Option<&NodeId>,
        more: &str,
    ) {
        #[derive(Serialize)]
        struct Detail<'a> {
            by: &'a str,
            reason: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            verb: &'a str,
        }
        let detail = Detail { by: &self.by, reason: &self.reason, verb: more };
        let event = AuditEvent {
            kind: kind.to_owned(),
            node: node.cloned(),
            artifact: artifact.cloned(),
            token: None,
            detail: serde_json::to_string(&detail).unwrap_or_default(),
        };
        // What was asked for has happened; losing an event is allowed.
        if let Err(error) = audit::record(link.connection(), &self.cluster, &[event]).await {
            untold(kind, &error);
        }
    }
}

fn untold(kind: &str, error: &StoreError) {
    tracing::warn!(%error, kind, "the change is made, but the audit trail does not say so");
}

fn unknown(artifact: &ArtifactName) -> Error {
    let problem = "is not known to the cluster: no node has ever deployed it; check the name";
    Error::artifact(artifact.as_str(), problem)
}

fn unexpected() -> Error {
    StoreError::new(ErrorKind::Other, "read", "the database answered something else than it was asked").into()
}
