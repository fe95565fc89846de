//! An endpoint of files as it is written in a file.

use std::path::PathBuf;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use leasehold_core::Error;
use leasehold_core::duration;
use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::placement::Placement;
use serde::{Deserialize, Serialize};

use super::records::Records;
use super::storage::path_problem;
use crate::config::Polling;

/// How long a file must stay as it is unless set: longer than a writer pauses between two blocks.
pub const DEFAULT_STABLE: Duration = Duration::from_secs(2);
/// The largest file that becomes one message unless set.
pub const DEFAULT_MAX_BODY: u64 = 16 * 1024 * 1024;
/// The largest record unless set.
pub const DEFAULT_MAX_RECORD: usize = 1024 * 1024;
/// The largest record that can be: it is in memory, several times.
const MAX_RECORD: usize = 256 * 1024 * 1024;
/// Longer ones are a mistake in the unit.
const MAX_STABLE: Duration = Duration::from_secs(24 * 3600);

/// How it is known that a file is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Complete {
    /// Its size and time have stayed the same for so long, in two polls at least.
    #[serde(with = "duration::serde")]
    Stable(Duration),
    /// As soon as it is seen: whoever writes it gives it its name when it is complete. Names that end in `.tmp`, `.part`
    /// or `.filepart` are left alone.
    Renamed,
    /// When a file with its name and this suffix is there, too, which is deleted after it was moved or deleted.
    Marker(String),
}

impl Default for Complete {
    fn default() -> Self {
        Self::Stable(DEFAULT_STABLE)
    }
}

/// In which order files come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// By path, bytewise.
    #[default]
    Name,
    /// The oldest first.
    Time,
    /// The smallest first.
    Size,
}

/// What happens to a file when all of it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// It is moved to this folder, below the one that is watched. Where a file of that name is, it gets a number.
    MoveTo(String),
    /// The same, with the time of the move in its name.
    MoveStamped(String),
    /// It is deleted.
    Delete,
    /// It stays, and is remembered in the database, as long as it stays what it is.
    Keep,
}

impl Default for After {
    fn default() -> Self {
        Self::MoveTo("done".to_owned())
    }
}

/// An endpoint of files as it is written in a file; the twin of [`Files`](super::Files).
///
/// ```toml
/// name = "bank-drop"
/// folder = "/var/spool/bank"
/// pattern = "*.csv"
/// recursive = false
/// records = { delimited = { delimiter = ";" } }   # "whole" unless set; "reference", { lines = {} }, { json-lines = {} }
/// complete = { stable = "2s" }                    # or "renamed", or { marker = ".done" }
/// sort = "name"                                   # or "time", "size"
/// after = { move-to = "done" }                    # or { move-stamped = "done" }, "delete", "keep"
/// failed = "failed"                               # where what failed goes, with the reason beside it
/// # min-age = "5s"
/// # max-age = "7d"
/// # max-size = 1000000000
/// max-body = 16777216                             # of whole files
/// max-record = 1048576
/// polling = { schedule = { every = "1s" }, order = "ordered" }
/// # placement = { resolver = "round-robin" }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct FilesConfig {
    /// The artifact's name, unique in the cluster.
    pub name: ArtifactName,
    /// The folder that is watched.
    pub folder: PathBuf,
    /// Which files, by their path below the folder: `*` and `?` stand for no `/`, `**` does.
    pub pattern: String,
    /// Also files of folders below it. Those of `after` and `failed` are left out.
    #[serde(default)]
    pub recursive: bool,
    /// What a message is made of; the whole file unless set.
    #[serde(default)]
    pub records: Records,
    /// How it is known that a file is complete; stable for [`DEFAULT_STABLE`] unless set.
    #[serde(default)]
    pub complete: Complete,
    /// In which order files come; by name unless set.
    #[serde(default)]
    pub sort: Sort,
    /// What happens to a file when all of it is done; moved to `done` unless set.
    #[serde(default)]
    pub after: After,
    /// The folder, below the one that is watched, where what failed is moved, with the reason beside it. Unless set: `failed`, and
    /// with `after` keep, it stays and is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Files changed less than this ago are left alone for now.
    #[serde(default, with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub min_age: Option<Duration>,
    /// Files changed more than this ago are left alone.
    #[serde(default, with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// Larger files, in bytes, are left alone, and told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// The largest file that becomes one message; larger ones are left alone, and told of. [`DEFAULT_MAX_BODY`] unless set.
    #[serde(default = "max_body")]
    pub max_body: u64,
    /// The largest record: a file with a larger one has failed. [`DEFAULT_MAX_RECORD`] unless set.
    #[serde(default = "max_record")]
    pub max_record: usize,
    /// How it polls, and brings what it finds to its handler.
    #[serde(default)]
    pub polling: Polling,
    /// How it is placed; as the node's other artifacts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

fn max_body() -> u64 {
    DEFAULT_MAX_BODY
}

fn max_record() -> usize {
    DEFAULT_MAX_RECORD
}

impl FilesConfig {
    /// An endpoint with the defaults.
    pub fn new(name: ArtifactName, folder: impl Into<PathBuf>, pattern: impl Into<String>) -> Self {
        Self {
            name,
            folder: folder.into(),
            pattern: pattern.into(),
            recursive: false,
            records: Records::default(),
            complete: Complete::default(),
            sort: Sort::default(),
            after: After::default(),
            failed: None,
            min_age: None,
            max_age: None,
            max_size: None,
            max_body: max_body(),
            max_record: max_record(),
            polling: Polling::default(),
            placement: None,
        }
    }

    /// Checks that the values can work. Looks at no file.
    ///
    /// # Errors
    /// [`Error::Artifact`] naming the endpoint, the field, its value and the remedy.
    pub fn validate(&self) -> Result<(), Error> {
        self.problem().map_err(|problem| Error::artifact(self.name.as_str(), problem))
    }

    pub(crate) fn problem(&self) -> Result<(), String> {
        self.matcher()?;
        self.records.problem()?;
        for (field, folder) in [("after", self.done_folder()), ("failed", self.failed.as_deref())] {
            if let Some(problem) = folder.and_then(path_problem) {
                return Err(format!(
                    "{field}: {problem}; give a folder below the one that is watched, for example \"done\""
                ));
            }
        }
        if let (Some(min), Some(max)) = (self.min_age, self.max_age)
            && min >= max
        {
            return Err(format!(
                "min-age {min:?} leaves no file that max-age {max:?} allows: make it shorter"
            ));
        }
        match &self.complete {
            Complete::Stable(time) if *time > MAX_STABLE => {
                return Err(format!("complete stable {time:?} is out of range: give at most {MAX_STABLE:?}"));
            }
            Complete::Marker(suffix) if suffix.is_empty() || suffix.contains('/') => {
                return Err(format!("complete marker {suffix:?} is no suffix: give for example \".done\""));
            }
            _ => {}
        }
        if !(1..=MAX_RECORD).contains(&self.max_record) {
            return Err(format!("max-record {} is out of range: give 1 to {MAX_RECORD}", self.max_record));
        }
        if self.folder.as_os_str().is_empty() {
            return Err("folder is empty: give the folder that is watched".to_owned());
        }
        Ok(())
    }

    pub(crate) fn matcher(&self) -> Result<GlobMatcher, String> {
        let glob = GlobBuilder::new(&self.pattern).literal_separator(true).build();
        let glob =
            glob.map_err(|error| format!("pattern {:?} cannot be read: {}", self.pattern, error.kind()))?;
        if self.pattern.is_empty() {
            return Err("pattern is empty: give for example \"*.csv\"".to_owned());
        }
        Ok(glob.compile_matcher())
    }

    /// Where files go that are done.
    pub(crate) fn done_folder(&self) -> Option<&str> {
        match &self.after {
            After::MoveTo(folder) | After::MoveStamped(folder) => Some(folder),
            After::Delete | After::Keep => None,
        }
    }

    /// Where files go that failed; none: they are remembered.
    pub(crate) fn failed_folder(&self) -> Option<&str> {
        match (&self.failed, &self.after) {
            (Some(folder), _) => Some(folder),
            (None, After::Keep) => None,
            (None, _) => Some("failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl Fn(&mut FilesConfig)) -> FilesConfig {
        let mut config = FilesConfig::new("bank-drop".try_into().unwrap(), "/drop", "*.csv");
        change(&mut config);
        config
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_remedy() {
        let problem = |change: fn(&mut FilesConfig)| config(change).validate().unwrap_err().to_string();
        assert!(problem(|c| c.pattern = "[".to_owned()).contains("bank-drop"));
        assert!(
            problem(|c| c.after = After::MoveTo("../x".to_owned())).contains("below the one that is watched")
        );
        assert!(problem(|c| c.failed = Some("/abs".to_owned())).contains("failed"));
        assert!(problem(|c| c.complete = Complete::Marker(String::new())).contains("\".done\""));
        assert!(
            problem(|c| (c.min_age, c.max_age) = (Some(MAX_STABLE), Some(DEFAULT_STABLE)))
                .contains("make it shorter")
        );
        config(|_| {}).validate().unwrap();
    }

    #[test]
    fn it_is_read_from_a_file() {
        let text = r#"
            name = "bank-drop"
            folder = "/drop"
            pattern = "**/*.csv"
            records = { delimited = { delimiter = ";" } }
            complete = { stable = "5s" }
            after = { move-stamped = "done" }
            max-age = "7d"
            polling = { order = { per-key = 4 }, retry = { attempts = 3 } }
        "#;
        let read: FilesConfig = toml::from_str(text).unwrap();
        read.validate().unwrap();
        assert_eq!(read.records, Records::Delimited { delimiter: ';', header: true });
        assert_eq!(toml::from_str::<FilesConfig>(&toml::to_string(&read).unwrap()).unwrap(), read);
        let error = toml::from_str::<FilesConfig>(&format!("{text}\nfolders = 1")).unwrap_err();
        assert!(error.to_string().contains("folders"), "{error}");
    }

    #[test]
    fn a_star_stays_in_its_folder() {
        let matches = |pattern: &str, path: &str| {
            config(|c| c.pattern = pattern.to_owned()).matcher().unwrap().is_match(path)
        };
        assert!(matches("*.csv", "a.csv") && !matches("*.csv", "b/a.csv") && matches("**/*.csv", "b/a.csv"));
    }
}
