//! Who keeps a lease's row locked: a transaction of a user's that has fenced it, and has not ended.

use std::fmt;
use std::time::Duration;

/// Whether a transaction keeps a lease from moving on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Locked {
    /// Nobody does.
    Free,
    /// One of these does: all that could.
    By(Vec<Transaction>),
    /// Somebody does, and this user may not know who: the right that is missing, or what the database does not tell.
    Unknown(&'static str),
}

/// A transaction that is open on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transaction {
    /// The server's number for the connection, by which it can be ended.
    pub backend: i64,
    /// Who is connected.
    pub user: Option<String>,
    /// From where.
    pub client: Option<String>,
    /// What it does at present, in the server's words.
    pub state: Option<String>,
    /// How long it has been open; none where this user may not know.
    pub open_for: Option<Duration>,
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend {}", self.backend)?;
        if let Some(user) = &self.user {
            write!(f, " of user {user}")?;
        }
        if let Some(client) = &self.client {
            write!(f, " from {client}")?;
        }
        if let Some(state) = &self.state {
            write!(f, ", {state}")?;
        }
        match self.open_for {
            Some(time) => write!(f, ", open for {:.1} s", time.as_secs_f64()),
            None => f.write_str(", open for a time that this user may not know"),
        }
    }
}
