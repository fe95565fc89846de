//! What can go wrong with a broker.

use std::error::Error as StdError;
use std::fmt;

/// What kind of error it is, for decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The broker cannot be reached, or ended the connection.
    Unreachable,
    /// The broker did not answer in time. The effect of what was asked is unknown.
    Timeout,
    /// The broker does not let us: credentials, or a right that is missing.
    Refused,
    /// A queue, exchange or topic does not exist.
    Missing,
    /// What exists is not what was declared.
    Mismatch,
    /// Somebody else consumes exclusively.
    InUse,
    /// A newer holder took our place at the broker.
    Fenced,
    /// The configuration cannot work.
    Config,
    /// Anything else.
    Other,
}

/// An error of a broker. Neither its text nor its `Debug` form holds a password.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, message: message.into(), source: None }
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Whether the same may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::InUse)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
