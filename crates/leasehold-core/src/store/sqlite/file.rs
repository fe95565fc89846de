//! Which file it is: SQLite has no server that could tell its life.

use std::path::{Path, PathBuf};

use crate::protocol::ids::Incarnation;
use crate::store::error::{ErrorKind, StoreError};

/// The file that a connection opened. While it is open its inode is not used again, so that a replaced file shows.
/// A file that is overwritten in place is not noticed.
#[derive(Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    incarnation: Incarnation,
}

impl OpenFile {
    /// Notes which file `path` leads to.
    pub(super) fn note(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_owned(), incarnation: incarnation(path)? })
    }

    pub(super) fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Whether the path still leads to the same file.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if incarnation(&self.path)? == self.incarnation {
            return Ok(());
        }
        Err(StoreError::new(
            ErrorKind::Unreachable,
            "call",
            format!(
                "{} was replaced by another file while it was open; it is opened again",
                self.path.display()
            ),
        ))
    }
}

/// Boot, device and inode.
fn incarnation(path: &Path) -> Result<Incarnation, StoreError> {
    let found = std::fs::metadata(path).map_err(|e| {
        StoreError::new(ErrorKind::Unreachable, "open", format!("{} cannot be examined: {e}", path.display()))
    })?;
    Ok(Incarnation::from(format!("{}/{}", boot(), identity(&found)).as_str()))
}

#[cfg(unix)]
fn identity(found: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("{}/{}", found.dev(), found.ino())
}

/// Without inodes the moment of creation has to do.
#[cfg(not(unix))]
fn identity(found: &std::fs::Metadata) -> String {
    format!("{:?}", found.created().ok())
}

/// Systems that do not tell their boot count as never rebooted: what was committed with `synchronous = FULL` outlives a
/// reboot, and no process does.
fn boot() -> &'static str {
    crate::machine::boot().unwrap_or("boot")
}
