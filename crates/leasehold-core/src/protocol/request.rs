//! What a node asks of the database, and what comes back. Plain data: every driver and the model speak it.
//!
//! Each request that writes coordination state is **one** autocommit statement (a short immediate batch on SQLite):
//! a client stopped between two statements would hold a row and stop everybody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::{Incarnation, SessionId, Token};
pub use super::placement::Placement;
use crate::name::{ArtifactKind, ArtifactName, NodeId};

/// Labels of a node, for selection.
pub type Labels = BTreeMap<String, String>;

/// Whose rows a read of the cluster brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The leader and the two oldest other sessions.
    Heads,
    /// All sessions of the cluster.
    Everyone,
}

/// The cluster's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterRow {
    /// Raised by every change of assignment or desired state.
    pub revision: i64,
    /// Raised by every election and adoption.
    pub term: i64,
    /// The session that plans.
    pub leader: Option<SessionId>,
    /// The adopted incarnation.
    pub adopted: Incarnation,
    /// Raised with every adopted incarnation; the high part of tokens.
    pub epoch: i64,
    /// The longest ttl that a node may have.
    pub max_ttl: Duration,
    /// The oldest program that may join.
    pub min_program: i64,
    /// How many nodes have formed the cluster: the most that ever took part at once since it had none.
    pub formed: i64,
}

/// A session's row, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeRow {
    /// The session.
    pub session: SessionId,
    /// Its node.
    pub node: NodeId,
    /// Raised by every renewal; 0 until the first.
    pub beat: i64,
    /// The last planning pass that the session completed, if it leads.
    pub pass: i64,
    /// The session's ttl; never changes.
    pub ttl: Duration,
    /// The session gives its leases away and gets no new ones: it says so, or an operator excludes its node.
    pub draining: bool,
    /// An operator forbids its renewals; it waits to expire.
    pub evicted: bool,
    /// Which set of artifacts it has deployed.
    pub deployment: DeploymentId,
    /// Labels for selection.
    pub labels: Arc<Labels>,
}

/// One snapshot of the cluster's row and of sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The cluster's row.
    pub cluster: ClusterRow,
    /// The incarnation that answered.
    pub live: Incarnation,
    /// The database's wall clock, milliseconds since 1970. For schedules; never for safety.
    pub wall_ms: i64,
    /// Whose rows `nodes` holds.
    pub scope: Scope,
    /// The rows, in the order of their sessions.
    pub nodes: Vec<NodeRow>,
}

/// What a cluster is asked to do with an artifact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// Run it on one node.
    #[default]
    Active,
    /// Run it on none. Acknowledged when the lease is free.
    Paused,
}

/// Identifies a distinct set of deployed artifacts; derived from its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(pub Uuid);

/// What a node has deployed. Stored once per distinct set, not once per node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deployment {
    /// Derived from `artifacts`.
    pub id: DeploymentId,
    /// The artifacts, in the order of their names.
    pub artifacts: Arc<BTreeMap<ArtifactName, Deployed>>,
}

/// One artifact of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deployed {
    /// What it is.
    pub kind: ArtifactKind,
    /// Tells two configurations of one artifact apart.
    pub fingerprint: Uuid,
    /// How the cluster places it, as stored in the artifact's row.
    pub placement: Placement,
}

impl Deployment {
    /// The deployment of these artifacts.
    pub fn new(artifacts: BTreeMap<ArtifactName, Deployed>) -> Self {
        let mut text = String::new();
        for (name, deployed) in &artifacts {
            text.push_str(name.as_str());
            text.push('\t');
            text.push_str(deployed.kind.as_str());
            text.push('\t');
            // A placement of texts and numbers has a JSON form.
            text.push_str(&serde_json::to_string(&deployed.placement).unwrap_or_default());
            text.push('\t');
            text.push_str(&deployed.fingerprint.to_string());
            text.push('\n');
        }
        Self {
            id: DeploymentId(Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())),
            artifacts: Arc::new(artifacts),
        }
    }
}

/// A lease together with its artifact, as a planner reads them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRow {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The session that holds it, which may have no row any more: then the lease is free.
    pub holder: Option<SessionId>,
    /// The token of the last grant.
    pub token: Token,
    /// What the cluster is asked to do with it.
    pub desired: Desired,
    /// How it is placed.
    pub placement: Placement,
    /// The newest configuration: of all fingerprints the one that was first registered last.
    pub fingerprint: Uuid,
    /// The node that an operator moved it to.
    pub preferred: Option<NodeId>,
    /// The session that it is being moved to.
    pub target: Option<SessionId>,
}

/// A lease that names the asking session as its holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldRow {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The token of the grant.
    pub token: Token,
    /// What the cluster is asked to do with the artifact, in the same snapshot.
    pub desired: Desired,
    /// The session that it is being moved to.
    pub target: Option<SessionId>,
    /// The last command that waits for the holder; 0 if none does.
    pub command: i64,
}

/// A session that failed to run an artifact and is passed over for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeepOut {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The session that failed.
    pub session: SessionId,
    /// How often it failed.
    pub failures: u32,
    /// It is passed over until its own beat reaches this number.
    pub until_beat: i64,
    /// The last error.
    pub error: String,
}

/// A row of a grant: give `artifact` to `to`, if its token is still `seen`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The token that the planner read.
    pub seen: Token,
    /// The session that gets it.
    pub to: SessionId,
}

/// A row of a handover: the asking session gives `artifact` away, if it still holds it with `token`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handover {
    /// The artifact.
    pub artifact: ArtifactName,
    /// The token that the asking session holds.
    pub token: Token,
    /// Who gets it; none frees it. A session without a row counts as none, because its lease is free.
    pub to: Option<SessionId>,
}

/// What a session inserts when it joins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewNode {
    /// The session. Each attempt has its own.
    pub session: SessionId,
    /// The node.
    pub node: NodeId,
    /// The session's ttl.
    pub ttl: Duration,
    /// Labels for selection.
    pub labels: Arc<Labels>,
    /// What it has deployed.
    pub deployment: DeploymentId,
    /// The node drains from the start.
    pub draining: bool,
}

/// One call to the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Makes the cluster's row if there is none, and reads it together with the session that uses `node`.
    Open {
        /// The asking node.
        node: NodeId,
        /// The `max_ttl` of the cluster, if it does not exist yet.
        max_ttl: Duration,
    },
    /// Makes the rows of a deployment, its artifacts and their leases where they are missing.
    Register {
        /// The deployment.
        deployment: Deployment,
    },
    /// Inserts a session, if `incarnation` answers and the node id is free.
    Join {
        /// The row.
        node: NewNode,
        /// The incarnation that the session joins under.
        incarnation: Incarnation,
    },
    /// Raises the session's beat to `beat` if it is lower, the session is not evicted and `incarnation` answers;
    /// and reads the cluster.
    Renew {
        /// The session.
        session: SessionId,
        /// The new beat.
        beat: i64,
        /// The last planning pass that the session completed.
        pass: i64,
        /// The incarnation that the session joined under.
        incarnation: Incarnation,
        /// Whose rows to read.
        scope: Scope,
    },
    /// Reads the cluster.
    Watch {
        /// Whose rows to read.
        scope: Scope,
    },
    /// Reads the leases that name `session` as their holder, in one snapshot with the cluster's row.
    Held {
        /// The session.
        session: SessionId,
    },
    /// Reads all leases in one snapshot with the cluster's row; and the named deployments and the keep-outs.
    Leases {
        /// Deployments that the asking node does not know yet.
        deployments: Vec<DeploymentId>,
    },
    /// Deletes a session whose beat is still `beat`, while the adopted incarnation, `incarnation`, answers.
    Expire {
        /// The session.
        session: SessionId,
        /// The beat that has not moved.
        beat: i64,
        /// The adopted incarnation.
        incarnation: Incarnation,
    },
    /// Makes `session` the leader if the term is still `term`, while the adopted incarnation, `incarnation`, answers.
    Elect {
        /// The candidate.
        session: SessionId,
        /// The term that was read.
        term: i64,
        /// The adopted incarnation.
        incarnation: Incarnation,
    },
    /// Replaces the adopted incarnation `old` by `live`, if that one answers; raises epoch, term and revision.
    Adopt {
        /// The incarnation that was adopted.
        old: Incarnation,
        /// The incarnation that answers.
        live: Incarnation,
        /// The new epoch is higher than this one.
        highest_epoch: i64,
    },
    /// Gives leases to sessions, each only while its token is the one that was read.
    Grant {
        /// At most [`MAX_ROWS`].
        rows: Vec<Grant>,
        /// The adopted incarnation, from one read with `epoch`, made with or before the read of the leases.
        incarnation: Incarnation,
        /// The epoch of the new tokens.
        epoch: i64,
        /// The leader's term: a late statement of a deposed leader saves itself the work.
        term: i64,
    },
    /// Sets where artifacts are being moved to. Takes nothing from anybody.
    Target {
        /// At most [`MAX_ROWS`].
        rows: Vec<(ArtifactName, Option<SessionId>)>,
    },
    /// Gives leases away. While another incarnation than `incarnation` answers they are freed instead.
    HandOver {
        /// The session that holds them.
        session: SessionId,
        /// At most [`MAX_ROWS`].
        rows: Vec<Handover>,
        /// The adopted incarnation, from one read with `epoch`.
        incarnation: Incarnation,
        /// The epoch of the new tokens.
        epoch: i64,
    },
    /// Raises the tokens of leases that `session` goes on holding, so that what earlier runs left behind passes no fence.
    Rerun {
        /// The session that holds them.
        session: SessionId,
        /// At most [`MAX_ROWS`].
        rows: Vec<(ArtifactName, Token)>,
        /// The adopted incarnation, from one read with `epoch`.
        incarnation: Incarnation,
        /// The epoch of the new tokens.
        epoch: i64,
    },
    /// Notes that sessions failed to run artifacts.
    KeepOut {
        /// The rows.
        rows: Vec<KeepOut>,
    },
    /// Sets whether a session drains.
    Drain {
        /// The session.
        session: SessionId,
        /// Whether it drains.
        draining: bool,
    },
    /// Sets what a session has deployed, after its registration.
    Deploy {
        /// The session.
        session: SessionId,
        /// The deployment.
        deployment: DeploymentId,
    },
    /// Deletes sessions of the asking process, or of one that it knows to be dead: whatever the incarnation is, they trust
    /// nothing any more.
    Leave {
        /// The sessions.
        sessions: Vec<SessionId>,
    },
    /// Sets what the cluster is asked to do with an artifact; matches nothing if the cluster does not know it.
    Desire {
        /// The artifact.
        artifact: ArtifactName,
        /// The desired state.
        desired: Desired,
    },
    /// Moves an artifact to a node as soon as that one may run it, and keeps it there while it may; or no longer.
    Prefer {
        /// The artifact.
        artifact: ArtifactName,
        /// The node.
        node: Option<NodeId>,
    },
    /// Keeps a node drained, also when it joins again; and, if it is to be evicted, forbids its renewals.
    Exclude {
        /// The node.
        node: NodeId,
        /// It waits to expire, whatever it thinks of that.
        evict: bool,
        /// Who asked for it, for people.
        by: String,
        /// Why, for people.
        reason: String,
    },
    /// Ends an exclusion. A session that was evicted stays so; the node's next one takes part.
    Readmit {
        /// The node.
        node: NodeId,
    },
    /// Puts a command before an artifact's holder, whoever that is or will be.
    Command {
        /// The artifact.
        artifact: ArtifactName,
        /// What to do; the artifact's kind gives it a meaning.
        verb: String,
        /// More about it.
        args: String,
        /// Who asked for it, for people.
        by: String,
        /// Why, for people.
        reason: String,
    },
    /// Forgets an artifact that no session has deployed, and its commands. Its lease stays: tokens never start anew.
    Forget {
        /// The artifact.
        artifact: ArtifactName,
    },
    /// Notes how many nodes have formed the cluster, while the term is still `term`.
    Form {
        /// How many.
        formed: i64,
        /// The leader's term.
        term: i64,
    },
}

/// The most rows that one statement carries: long enough to move 10,000 artifacts in a few, short enough to lock briefly.
pub const MAX_ROWS: usize = 2_000;

/// What a request brought.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Of [`Request::Open`].
    Opened {
        /// The cluster's row.
        cluster: ClusterRow,
        /// The incarnation that answered.
        live: Incarnation,
        /// The session that uses the asking node's id.
        occupant: Option<NodeRow>,
    },
    /// How many rows a write matched.
    Matched(u64),
    /// Of [`Request::Command`]: the number of the command; none where the cluster does not know the artifact.
    Commanded(Option<i64>),
    /// Of [`Request::Renew`].
    Renewed {
        /// The session goes on.
        matched: bool,
        /// The cluster.
        view: View,
    },
    /// Of [`Request::Watch`].
    View(View),
    /// Of [`Request::Held`].
    Held {
        /// The cluster's row, of the same snapshot.
        cluster: ClusterRow,
        /// The leases, in the order of their artifacts.
        rows: Vec<HeldRow>,
    },
    /// Of [`Request::Leases`].
    Leases {
        /// The cluster's row, of the same snapshot.
        cluster: ClusterRow,
        /// All leases, in the order of their artifacts.
        rows: Vec<LeaseRow>,
        /// The deployments that were asked for, as far as they exist.
        deployments: Vec<Deployment>,
        /// All keep-outs.
        keep_outs: Vec<KeepOut>,
    },
}

/// Why a call brought no answer. Its effect may have happened all the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallError {
    /// What the database or the connection said. Never a secret.
    pub message: Arc<str>,
}
