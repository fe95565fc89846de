//! What can go wrong with the database.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use leasehold_migration::MigrateError;
use sea_orm::{DbBackend, DbErr, RuntimeErr};

use super::dialect;
use crate::protocol::request::CallError;

/// What kind of error it is, for decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database cannot be reached, or did not answer in time. The effect of the call is unknown.
    Unreachable,
    /// The database takes no writes: a standby, or a file that may not be written.
    ReadOnly,
    /// Commits may be lost without notice, so that no lease could be trusted.
    NotDurable,
    /// Tables or columns are missing, or belong to another program.
    Schema,
    /// Others were faster: a serialization failure, a deadlock, or a lock that was not free in time.
    Conflict,
    /// The user lacks a right, which the owner of the database grants.
    Denied,
    /// The request contradicts what is stored, or the configuration cannot work.
    Invalid,
    /// The lease is no longer held with this token: nothing was written, and nothing may be.
    Lost,
    /// The tables of leasehold are not in this database, so that it cannot be fenced.
    Elsewhere,
    /// Anything else.
    Other,
}

/// An error of the store. Neither its text nor its `Debug` form holds a password.
#[derive(Clone)]
pub struct StoreError {
    kind: ErrorKind,
    operation: &'static str,
    message: String,
    source: Option<Arc<Cause>>,
}

impl StoreError {
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, message: impl AsRef<str>) -> Self {
        Self { kind, operation, message: redact(message.as_ref()), source: None }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Conflict)
    }

    /// An error of sea-orm while `operation` was being done, classified by the dialect.
    pub fn database(backend: DbBackend, operation: &'static str, error: DbErr) -> Self {
        let kind = match &error {
            DbErr::Conn(RuntimeErr::SqlxError(e))
            | DbErr::Exec(RuntimeErr::SqlxError(e))
            | DbErr::Query(RuntimeErr::SqlxError(e)) => kind_of(backend, e),
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => ErrorKind::Unreachable,
            _ => ErrorKind::Other,
        };
        let message = match &error {
            DbErr::Conn(e) | DbErr::Exec(e) | DbErr::Query(e) => e.to_string(),
            other => other.to_string(),
        };
        Self::new(kind, operation, message).caused_by(&error)
    }

    /// An error of sqlx, classified by the dialect.
    pub(crate) fn sqlx(backend: DbBackend, operation: &'static str, error: &sea_orm::SqlxError) -> Self {
        Self::new(kind_of(backend, error), operation, error.to_string()).caused_by(error)
    }

    pub(crate) fn schema(backend: DbBackend, error: MigrateError) -> Self {
        match error {
            MigrateError::Database(error) => Self::database(backend, "migrate", error),
            other => Self::new(ErrorKind::Schema, "migrate", other.to_string()),
        }
    }

    /// A row that no version of leasehold writes.
    pub(crate) fn corrupt(operation: &'static str, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Other, operation, format!("a stored row cannot be read: {what}"))
    }

    /// The same error, known to be of this kind, with a remedy.
    pub(crate) fn explained(self, kind: ErrorKind, remedy: &str) -> Self {
        Self { kind, message: format!("{}: {remedy}", self.message), ..self }
    }

    fn caused_by(mut self, error: &dyn Error) -> Self {
        self.source = Some(Arc::new(Cause(redact(&error.to_string()))));
        self
    }
}

fn kind_of(backend: DbBackend, error: &sea_orm::SqlxError) -> ErrorKind {
    use sea_orm::SqlxError as E;
    match error {
        E::Database(e) => match (code_of(e.as_ref()), dialect::of(backend)) {
            (Some(code), Ok(dialect)) => dialect.classify(&code, e.message()),
            _ => ErrorKind::Other,
        },
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
            ErrorKind::Unreachable
        }
        E::Configuration(_) => ErrorKind::Invalid,
        _ => ErrorKind::Other,
    }
}

/// The code by which a dialect knows an error. MariaDB and MySQL give one SQLSTATE to most of theirs: the number tells.
pub(super) fn code_of(error: &dyn sea_orm::sqlx::error::DatabaseError) -> Option<String> {
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sea_orm::sqlx::mysql::MySqlDatabaseError>() {
        return Some(error.number().to_string());
    }
    error.code().map(std::borrow::Cow::into_owned)
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}: {}", self.kind, self.operation, self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self { message: error.to_string().into() }
    }
}

/// The text of the original error. The error itself is not kept: its `Debug` form is not ours to redact.
struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Cause {}

/// Takes credentials out of whatever looks like a URL: what stands before its last `@`, and its query.
fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        out.push_str(before);
        let end = url.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        let shown = url.rsplit_once('@').map_or(url, |(_, host)| {
            out.push_str("***@");
            host
        });
        match shown.split_once('?') {
            Some((path, _)) => {
                out.push_str(path);
                out.push_str("?***");
            }
            None => out.push_str(shown),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let text =
            "cannot reach postgres://bob:s3c@ret@db.example:5432/app?password=s3c, or 'mysql://u:p@h/d'";
        let error = StoreError::new(ErrorKind::Unreachable, "open", text);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("postgres://***@db.example:5432/app?***"), "{shown}");
        assert!(!shown.contains("s3c") && !shown.contains("u:p"), "{shown}");
    }
}
