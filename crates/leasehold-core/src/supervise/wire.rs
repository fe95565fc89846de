//! What is said on the supervisor's socket: one line of JSON each, the child's first.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{ClusterName, NodeId};
use crate::protocol::SessionId;

/// The variable that names the supervisor's socket to its child.
pub const SUPERVISOR: &str = "LEASEHOLD_SUPERVISOR";

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Said {
    /// A node is going to start.
    Hello {},
    /// A session is about to join.
    Session(Announcement),
}

/// A session that is about to join.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Announcement {
    pub(super) database: Reach,
    pub(super) cluster: ClusterName,
    pub(super) node: NodeId,
    pub(super) session: SessionId,
}

/// What the parent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    Taken {},
    /// Why not, and what to do.
    Refused(String),
}

/// The URL of a database, with its password: shown by nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reach(pub(crate) String);

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
