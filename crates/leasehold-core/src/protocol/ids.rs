//! Identities and counters of the protocol.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::wall;

/// One life of a node (UUIDv7). A restart is a new session; a session once gone is never inserted again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// A new identity. Each attempt to join needs one of its own.
    pub fn fresh() -> Self {
        Self(wall::id())
    }

    /// An identity with a chosen value, for simulations and tests.
    pub const fn from_u128(value: u128) -> Self {
        Self(Uuid::from_u128(value))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// The fencing token of a lease: per artifact, every grant has a higher one; never reused, never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub i64);

impl Token {
    /// The epoch is the high part of a token; 2^20 grants of one artifact fit into one epoch before the low part
    /// carries over, which keeps tokens increasing all the same.
    pub const EPOCH_SHIFT: u32 = 20;

    /// The token that follows this one when it is granted in `epoch`.
    pub fn next(self, epoch: i64) -> Self {
        Self(self.0.max(epoch << Self::EPOCH_SHIFT) + 1)
    }

    /// The epoch that granted this token, or a later one.
    pub const fn epoch(self) -> i64 {
        self.0 >> Self::EPOCH_SHIFT
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of the database answers, as the server itself tells. Opaque; compared for equality only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub std::sync::Arc<str>);

impl From<&str> for Incarnation {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
