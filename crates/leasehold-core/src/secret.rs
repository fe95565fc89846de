//! What must not be shown.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A password or another secret, or where it is: `Debug`, `Display` and serialization never show its text.
///
/// In a file: `password = "text"`, `password = { env = "NAME" }` or `password = { file = "/run/secrets/name" }`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Secret(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Literal(String),
    Env(String),
    File(PathBuf),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Literal(String),
    Env(Env),
    File(File),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Env {
    env: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    file: PathBuf,
}

impl From<Written> for Secret {
    fn from(written: Written) -> Self {
        Self(match written {
            Written::Literal(text) => Place::Literal(text),
            Written::Env(Env { env }) => Place::Env(env),
            Written::File(File { file }) => Place::File(file),
        })
    }
}

impl Serialize for Secret {
    /// Where it is. A literal is not written: what is written in its place is no secret that works.
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Place::Literal(_) => Written::Literal("(redacted)".to_owned()),
            Place::Env(env) => Written::Env(Env { env: env.clone() }),
            Place::File(file) => Written::File(File { file: file.clone() }),
        }
        .serialize(to)
    }
}

impl Secret {
    /// The secret itself.
    pub fn literal(text: impl Into<String>) -> Self {
        Self(Place::Literal(text.into()))
    }

    /// What the environment variable `name` holds when it is used.
    pub fn env(name: impl Into<String>) -> Self {
        Self(Place::Env(name.into()))
    }

    /// What the file holds when it is used, without the line's end.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// The text, read anew from where it is. `artifact` and `field` are for the message of an error.
    ///
    /// # Errors
    /// [`Error::Artifact`] when the variable is not set or the file cannot be read as text.
    pub fn reveal(&self, artifact: &str, field: &str) -> Result<String, Error> {
        self.text().map_err(|problem| Error::artifact(artifact, format!("{field}: {problem}")))
    }

    /// The same for whoever has no artifact to name.
    ///
    /// # Errors
    /// What is missing, and the remedy.
    pub fn text(&self) -> Result<String, String> {
        match &self.0 {
            Place::Literal(text) => Ok(text.clone()),
            Place::Env(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name} is not set (or no text); set it")),
            Place::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(format!(
                    "the file {} cannot be read ({error}); make it readable for this process",
                    path.display()
                )),
            },
        }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::literal(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::literal(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Literal(_) => f.write_str("Secret(..)"),
            Place::Env(name) => write!(f, "Secret(env {name})"),
            Place::File(path) => write!(f, "Secret(file {})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_never_shown() {
        let secret = Secret::literal("hunter2");
        assert_eq!(secret.reveal("a", "password").unwrap(), "hunter2");
        assert!(!format!("{secret:?}{}", serde_json::to_string(&secret).unwrap()).contains("hunter2"));
    }

    #[test]
    fn it_is_read_from_where_it_is() {
        let read = |text: &str| serde_json::from_str::<Secret>(text);
        assert_eq!(read(r#""x""#).unwrap(), Secret::literal("x"));
        assert_eq!(read(r#"{"env":"HOME"}"#).unwrap(), Secret::env("HOME"));
        assert!(read(r#"{"env":"HOME","file":"x"}"#).is_err());
        let missing = Secret::env("LEASEHOLD_NO_SUCH_VARIABLE").reveal("orders-in", "password").unwrap_err();
        assert!(missing.to_string().contains("LEASEHOLD_NO_SUCH_VARIABLE is not set"), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x\n").unwrap();
        assert_eq!(Secret::file(file.path()).reveal("a", "password").unwrap(), "x");
    }
}
