//! What goes into the machine and what comes out.

use std::sync::Arc;

use super::calls::{Call, CallId};
use super::ids::{SessionId, Token};
use super::request::{Answer, CallError, Deployment};
use crate::clock::Instant;
use crate::name::{ArtifactName, NodeId};

/// Something that happened to a node.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed.
    Wake,
    /// The database hints at a change.
    Notified,
    /// A call has ended.
    Answer {
        /// Which.
        id: CallId,
        /// With what.
        result: Result<Answer, CallError>,
    },
    /// A run has ended by itself, and its lease is invalid.
    Ended {
        /// The artifact.
        artifact: ArtifactName,
        /// The run's token.
        token: Token,
        /// How it ended.
        outcome: Outcome,
    },
    /// The set of deployed artifacts has changed.
    Deploy(Deployment),
    /// The node gives its leases away and gets no new ones, or takes part again.
    Drain(bool),
    /// The node drains, leaves the cluster and stops.
    Leave,
}

/// How a run ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It returned.
    Returned,
    /// It failed or panicked.
    Failed(Arc<str>),
}

/// Why a lease was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revocation {
    /// The node drains or leaves.
    NodeDrains,
    /// The cluster is asked to pause the artifact.
    Paused,
    /// The artifact moves to another node.
    Moved,
    /// The artifact is no longer deployed here.
    Undeployed,
    /// The time to drain is over.
    DrainOver,
    /// Another session holds the lease.
    Lost,
    /// The session could not renew and its trust is about to end.
    TrustLapsed,
    /// The session is over.
    SessionOver,
}

impl std::fmt::Display for Revocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NodeDrains => "the node drains",
            Self::Paused => "the artifact is paused",
            Self::Moved => "the artifact moves to another node",
            Self::Undeployed => "the artifact is no longer deployed on this node",
            Self::DrainOver => "the time to drain is over",
            Self::Lost => "another session holds the lease",
            Self::TrustLapsed => "the session could not be renewed in time",
            Self::SessionOver => "the session is over",
        })
    }
}

/// Why a node cannot join for now. It keeps trying: time or an operator may heal it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Another live session uses the node id.
    #[error(
        "node {node:?} is already running ({session}, beat {beat}, seen moving by this process); \
         give each replica its own node id, or leave it out"
    )]
    NodeIdInUse {
        /// The node id.
        node: NodeId,
        /// The session that uses it.
        session: SessionId,
        /// Its last beat.
        beat: i64,
    },
    /// The node's ttl is above the cluster's limit.
    #[error(
        "ttl {ttl:?} is above the cluster's max_ttl {max_ttl:?}: lower ttl to {max_ttl:?} or less; max_ttl is set when \
         the cluster is created (the first node's ttl by default) and changed only while no node lives"
    )]
    TtlTooLong {
        /// The node's.
        ttl: std::time::Duration,
        /// The cluster's.
        max_ttl: std::time::Duration,
    },
    /// The cluster needs a newer program.
    #[error(
        "this program speaks version {program} and the cluster needs at least {min_program}: update this replica"
    )]
    ProgramTooOld {
        /// This program's.
        program: i64,
        /// The cluster's.
        min_program: i64,
    },
}

/// Something for the driver to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make a call.
    Call(Call),
    /// A session has begun.
    Joined {
        /// The session.
        session: SessionId,
    },
    /// The session may be trusted until then.
    Trusted {
        /// On the node's clock.
        until: Instant,
    },
    /// The session is over. All its leases are invalid; `Stop`s went before.
    Over {
        /// The session.
        session: SessionId,
        /// Why, for people.
        why: &'static str,
    },
    /// Run an artifact under this token.
    Start {
        /// The artifact.
        artifact: ArtifactName,
        /// The token of its lease.
        token: Token,
    },
    /// Tell a run that commands wait for it.
    Command {
        /// The artifact.
        artifact: ArtifactName,
        /// The run's token.
        token: Token,
        /// The last one.
        command: i64,
    },
    /// Ask a run to end; its lease stays valid meanwhile.
    Revoke {
        /// The artifact.
        artifact: ArtifactName,
        /// The run's token.
        token: Token,
        /// Why.
        why: Revocation,
        /// A `Stop` follows then.
        deadline: Instant,
    },
    /// Invalidate a run's lease and drop the run, now.
    Stop {
        /// The artifact.
        artifact: ArtifactName,
        /// The run's token.
        token: Token,
        /// Why.
        why: Revocation,
    },
    /// The node cannot join for now.
    Refused(Refusal),
    /// Something for the audit trail.
    Record(Record),
    /// The node has left; nothing follows.
    Left,
}

/// Something for the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// What happened.
    pub kind: RecordKind,
    /// To which artifact.
    pub artifact: Option<ArtifactName>,
    /// Under which token.
    pub token: Option<Token>,
    /// More, for people.
    pub detail: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A session began.
    Joined,
    /// A session ended itself.
    Left,
    /// A session was found to be over.
    Over,
    /// A session was expired by this node.
    Expired,
    /// This node became the leader.
    Elected,
    /// This node found the database in another life than the adopted one: it waits from now on.
    Sighted,
    /// This node adopted a new incarnation of the database.
    Adopted,
    /// A run began.
    Started,
    /// A run was asked to end.
    Revoked,
    /// A run was cut off.
    Stopped,
    /// A run failed.
    Failed,
}

impl RecordKind {
    /// The name in the audit trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Over => "over",
            Self::Expired => "expired",
            Self::Elected => "elected",
            Self::Sighted => "sighted",
            Self::Adopted => "adopted",
            Self::Started => "started",
            Self::Revoked => "revoked",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}
