//! Where files are: the seam between the endpoint and a folder, here or elsewhere.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;

/// A file as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the folder, with `/` between its parts; no part is empty, `.` or `..`, or has control characters.
    pub path: Arc<str>,
    /// Bytes.
    pub size: u64,
    /// When it was last changed, in milliseconds since 1970, by the clock of where it is.
    pub modified: i64,
    /// What changes whenever its content does, without spaces: an ETag, for example, or size, time and inode.
    pub tag: Arc<str>,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files that may be taken.
    pub entries: Vec<Entry>,
    /// What is left alone, and why: names that cannot be, links that lead elsewhere.
    pub problems: Vec<String>,
}

/// What a storage can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Moving a file is one step, and replaces none: otherwise what was handled is remembered in the database.
    pub rename: bool,
}

/// Why something could not be done with a file.
#[derive(Debug)]
pub enum Trouble {
    /// It is not there any more.
    Gone,
    /// It is not the file that was listed.
    Changed,
    /// The lease is lost: nothing was done.
    Lost,
    /// Anything else.
    Other(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Gone } else { Self::Other(error) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it is not there any more"),
            Self::Changed => f.write_str("it was changed since it was listed"),
            Self::Lost => f.write_str("the lease is lost"),
            Self::Other(error) => error.fmt(f),
        }
    }
}

/// Where files are. Object safe. Calls take many files at once, where a call costs more than a file.
///
/// Nothing here overwrites a file that it did not write itself.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// The folder, for people and logs.
    fn place(&self) -> String;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// All files of the folder, or, if asked, also those of folders below it, but for the folders `except`.
    ///
    /// # Errors
    /// When the folder cannot be read as a whole. What is wrong with one file is a problem of the listing.
    async fn list(&self, recursive: bool, except: &[String]) -> io::Result<Listing>;

    /// At most `length` bytes from `offset` on; fewer only at the end.
    ///
    /// # Errors
    /// [`Trouble`] of this file.
    async fn read(&self, entry: &Entry, offset: u64, length: usize) -> Result<Bytes, Trouble>;

    /// Whole files, one result each.
    async fn read_all(&self, entries: &[Entry]) -> Vec<Result<Bytes, Trouble>> {
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let length = usize::try_from(entry.size).unwrap_or(usize::MAX);
            all.push(self.read(entry, 0, length).await);
        }
        all
    }

    /// Moves files below this folder, one result each: where it is now. Each is moved only if it is still the one that was
    /// listed and the lease is valid, checked right before. Where a file of that name is, the moved one gets another.
    async fn rename(&self, moves: Vec<(Entry, String)>, lease: &Lease) -> Vec<Result<String, Trouble>>;

    /// Deletes files, one result each, as [`rename`](Storage::rename) moves them.
    async fn delete(&self, entries: Vec<Entry>, lease: &Lease) -> Vec<Result<(), Trouble>>;

    /// Writes a small file as a whole, in place of one of that name that was written like this.
    ///
    /// # Errors
    /// [`Trouble`].
    async fn write(&self, path: &str, content: Bytes) -> Result<(), Trouble>;
}

/// What is wrong with a path, if anything.
pub(crate) fn path_problem(path: &str) -> Option<String> {
    if path.chars().any(char::is_control) {
        return Some(format!("{path:?} has control characters in its name: rename it"));
    }
    if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some(format!("{path:?} is no path below the folder: rename it"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_folder_and_can_be_shown() {
        for path in ["a", "a/b", "ä ö.csv", "..a", "a..", "-rf"] {
            assert_eq!(path_problem(path), None);
        }
        for path in ["", "..", "a/../b", "/a", "a//b", "./a", "a\nb", "a\u{1b}[2J", "a\0"] {
            let problem = path_problem(path).unwrap();
            assert!(problem.contains("rename it") && !problem.contains(['\n', '\u{1b}']), "{problem}");
        }
    }
}
