//! What goes wrong, in one line: what, why and what to do; and the exit code that says which kind it is.

use std::fmt;
use std::process::ExitCode;

use leasehold_core::Error;
use leasehold_core::error::Chain;
use leasehold_core::store::{ErrorKind, StoreError};

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    text: String,
}

/// The exit codes; they never change. 2 is also what the parser of arguments exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The database or the system did not do it.
    Failed = 1,
    /// What was asked for cannot be meant.
    Invalid = 2,
    /// There is nothing of that name.
    Unknown = 3,
    /// The state of the cluster forbids it.
    Refused = 4,
    /// It was not done within the time that it was waited for.
    TimedOut = 5,
}

impl Failure {
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, text: text.into() }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, text: text.into() }
    }

    /// What the parser of arguments says, without what `--help` tells.
    pub(crate) fn arguments(said: &str) -> Self {
        let lines = said.lines().map(str::trim);
        let told: Vec<_> = lines
            .filter(|line| {
                !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information")
            })
            .map(|line| line.trim_start_matches("error: "))
            .collect();
        Self::invalid(format!("{}; see `leasehold --help`", told.join("; ").replace(":; ", ": ")))
    }

    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, text: text.into() }
    }

    pub(crate) fn missing(text: impl Into<String>) -> Self {
        Self { kind: Kind::Unknown, text: text.into() }
    }

    pub(crate) fn timed_out(text: impl Into<String>) -> Self {
        Self { kind: Kind::TimedOut, text: text.into() }
    }

    /// There is no `what` named `name`; those of `known` that look like it are offered.
    pub(crate) fn unknown<'a>(
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
        list: &str,
    ) -> Self {
        let near = nearest(name, known);
        let offer = match near.as_slice() {
            [] => format!("`{list}` lists those that there are"),
            near => format!("did you mean {}?", near.join(" or ")),
        };
        Self::missing(format!("there is no {what} {name:?}; {offer}"))
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

/// Those that somebody who typed `name` may have meant, the nearest first; three at most.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    /// Above this, people see the likeness too.
    const LIKE: f64 = 0.75;
    let score = |other: &'a str| {
        let within = other.contains(name) || name.contains(other);
        let like = strsim::jaro_winkler(name, other);
        (if within { like.max(LIKE) } else { like }, other)
    };
    let mut near: Vec<_> = known.into_iter().map(score).filter(|(like, _)| *like >= LIKE).collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a database said.
        f.write_str(&crate::output::one_line(&self.text))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Name(_) | Error::Timing(_) => Kind::Invalid,
            Error::Artifact { .. } | Error::Refused { .. } | Error::Forbidden { .. } => Kind::Refused,
            Error::Store(error) if error.kind() == ErrorKind::Invalid => Kind::Invalid,
            _ => Kind::Failed,
        };
        Self { kind, text: with_remedy(&error) }
    }
}

/// What the database says of itself often lacks what to do.
fn with_remedy(error: &Error) -> String {
    let remedy = match error {
        Error::Store(error) => match error.kind() {
            ErrorKind::Unreachable => "check the URL, the network, and whether the server runs",
            ErrorKind::Invalid if error.operation() == "connect" => {
                "check the user, the password and the database of the URL"
            }
            // It says so itself.
            ErrorKind::Conflict if error.operation() == "migrate" => return error.to_string(),
            ErrorKind::Conflict => "others were faster; try again",
            ErrorKind::Denied => {
                "this user lacks a right: `leasehold doctor` says which, and grants come from the owner"
            }
            _ => return error.to_string(),
        },
        other => return Chain(other).to_string(),
    };
    format!("{error}; {remedy}")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<leasehold_core::name::NameError> for Failure {
    fn from(error: leasehold_core::name::NameError) -> Self {
        Error::from(error).into()
    }
}

impl From<leasehold_processor::Error> for Failure {
    fn from(error: leasehold_processor::Error) -> Self {
        match error {
            leasehold_processor::Error::Invalid { .. } => Self::invalid(error.to_string()),
            leasehold_processor::Error::Database { store, source } => {
                let failure = Self::from(source);
                Self { text: format!("store {store:?}: {}", failure.text), ..failure }
            }
            other => Self::failed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_are_offered() {
        let known = ["nightly-invoices", "nightly-billing", "crm-push", "import"];
        let offered =
            |name: &str| Failure::unknown("artifact", name, known, "leasehold artifacts").to_string();
        assert!(
            offered("nightly-invoice").contains("did you mean nightly-invoices"),
            "{}",
            offered("nightly-invoice")
        );
        assert!(offered("crm-psuh").ends_with("did you mean crm-push?"), "{}", offered("crm-psuh"));
        assert!(offered("billing").contains("nightly-billing"));
        assert!(offered("zzz").ends_with("`leasehold artifacts` lists those that there are"));
    }

    #[test]
    fn what_the_parser_says_is_one_line_without_the_usage() {
        let said = "error: unrecognized subcommand 'statsu'\n\n  tip: a similar subcommand exists: 'status'\n\n\
                    Usage: leasehold [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n";
        let told = "unrecognized subcommand 'statsu'; tip: a similar subcommand exists: 'status'; see `leasehold --help`";
        assert_eq!(Failure::arguments(said).to_string(), told);
    }

    #[test]
    fn what_is_missing_follows_its_colon() {
        let said = "error: the following required arguments were not provided:\n  --to <NODE>\n\nUsage: x\n";
        let told = "the following required arguments were not provided: --to <NODE>; see `leasehold --help`";
        assert_eq!(Failure::arguments(said).to_string(), told);
    }

    #[test]
    fn a_failure_is_one_line() {
        assert_eq!(Failure::failed("one\n  two").to_string(), "one two");
    }
}
