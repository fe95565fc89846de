//! Endpoints of files.

mod failover;
mod failures;
mod names;
mod odd;
mod ways;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::SOON;
use crate::Files;
use crate::files::{Complete, Records};

/// A folder that is watched.
pub(super) struct Drop {
    folder: TempDir,
}

impl Drop {
    pub(super) fn new() -> Self {
        let drop = Self { folder: TempDir::new().unwrap() };
        std::fs::create_dir(drop.path("in")).unwrap();
        drop
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(super) fn inbound(&self) -> PathBuf {
        self.path("in")
    }

    pub(super) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let partial = self.path("partial");
        std::fs::write(&partial, content).unwrap();
        let target = self.inbound().join(name);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::rename(partial, target).unwrap();
    }

    pub(super) fn watch(&self, records: Records) -> Files {
        let files = Files::watch("drop", self.inbound(), "*").unwrap();
        files.records(records).complete(Complete::Renamed).every(SOON).backoff(SOON, SOON)
    }

    /// All files, by path.
    pub(super) fn files(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        collect(&self.inbound(), &self.inbound(), &mut all);
        all
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.inbound().join(name)).unwrap()
    }
}

fn collect(root: &Path, folder: &Path, all: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            collect(root, &entry.path(), all);
        } else {
            all.insert(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

pub(super) fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}
