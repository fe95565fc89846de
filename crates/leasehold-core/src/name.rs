//! Names that people give: clusters, nodes and artifacts.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name, so that a name fits an indexed column of every database.
pub const MAX_NAME: usize = 100;

/// A name that breaks the rule `[a-z0-9][a-z0-9._-]{0,99}`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} name {value:?} is not valid: {problem}; use [a-z0-9][a-z0-9._-]{{0,99}}, for example {example:?}"
)]
pub struct NameError {
    what: &'static str,
    value: String,
    problem: String,
    example: String,
}

fn check(what: &'static str, value: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let problem = match value.chars().next() {
        None => "it is empty".to_owned(),
        Some(first) if !allowed(first) => format!("it starts with {first:?}"),
        Some(_) => match value.chars().find(|&c| !allowed(c) && !matches!(c, '.' | '_' | '-')) {
            Some(bad) => format!("it contains {bad:?}"),
            None if value.len() > MAX_NAME => format!("it has {} characters", value.len()),
            None => return Ok(()),
        },
    };
    Err(NameError {
        what,
        value: value.chars().take(MAX_NAME + 1).collect(),
        problem,
        example: example(value, what),
    })
}

/// The nearest valid name, so that the message can be acted on.
fn example(value: &str, what: &str) -> String {
    let fold = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_') => c,
        _ => '-',
    };
    let folded: String = value.chars().map(fold).collect();
    let near = folded.trim_start_matches(['.', '_', '-']).chars().take(MAX_NAME).collect::<String>();
    if near.is_empty() { format!("my-{what}") } else { near }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `value`.
            ///
            /// # Errors
            /// [`NameError`] when it breaks `[a-z0-9][a-z0-9._-]{0,99}`.
            pub fn new(value: impl AsRef<str>) -> Result<Self, NameError> {
                check($what, value.as_ref())?;
                Ok(Self(value.as_ref().into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(value: String) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(value: &str) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// The nodes that share work. Several clusters share one database without touching each other.
    ClusterName, "cluster"
}
name! {
    /// One process of the cluster, as an operator calls it.
    NodeId, "node"
}
name! {
    /// One named piece of coordinated work.
    ArtifactName, "artifact"
}
name! {
    /// What an artifact is: `task`, `processor`, `polling`, `event`, `lead`, or a kind of the user's own.
    ArtifactKind, "kind"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_rule_allows() {
        for good in ["a", "0", "nightly-invoices", "a.b_c-d", &"x".repeat(100)] {
            assert_eq!(ArtifactName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn refuses_with_the_problem_and_a_near_name() {
        let error = |value: &str| ArtifactName::new(value).unwrap_err().to_string();
        assert!(error("").contains("it is empty"));
        assert!(error("Nightly Job").contains("it starts with 'N'"));
        assert!(error("Nightly Job").ends_with("for example \"nightly-job\""), "{}", error("Nightly Job"));
        assert!(error("job/1").contains("it contains '/'"));
        assert!(error("-a").contains("for example \"a\""));
        assert!(error(&"x".repeat(101)).contains("it has 101 characters"));
        assert!(error("jöb").contains("it contains 'ö'"));
    }
}
