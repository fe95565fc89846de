//! A storage that does what storages do at bad times, or cannot rename.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;

use crate::files::{Abilities, Entry, Listing, Local, Storage, Trouble};

#[derive(Clone, Debug)]
pub(super) struct Odd {
    inner: Local,
    pub(super) rename: bool,
    /// What calls on paths that contain this fail with.
    pub(super) broken: Arc<Mutex<Option<(&'static str, io::ErrorKind)>>>,
}

impl Odd {
    pub(super) fn new(folder: impl Into<std::path::PathBuf>) -> Self {
        Self { inner: Local::new(folder), rename: true, broken: Arc::default() }
    }

    pub(super) fn set(&self, broken: Option<(&'static str, io::ErrorKind)>) {
        *self.broken.lock().unwrap() = broken;
    }

    fn judge(&self, what: &str) -> io::Result<()> {
        match *self.broken.lock().unwrap() {
            Some((text, kind)) if what.contains(text) => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Storage for Odd {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn abilities(&self) -> Abilities {
        Abilities { rename: self.rename }
    }

    async fn list(&self, recursive: bool, except: &[String]) -> io::Result<Listing> {
        self.judge("list")?;
        self.inner.list(recursive, except).await
    }

    async fn read(&self, entry: &Entry, offset: u64, length: usize) -> Result<Bytes, Trouble> {
        self.judge(&format!("read {}", entry.path))?;
        self.inner.read(entry, offset, length).await
    }

    async fn rename(&self, moves: Vec<(Entry, String)>, lease: &Lease) -> Vec<Result<String, Trouble>> {
        assert!(self.rename, "it cannot");
        let mut moved = Vec::new();
        for (entry, to) in moves {
            moved.push(match self.judge(&format!("rename {}", entry.path)) {
                Ok(()) => self.inner.rename(vec![(entry, to)], lease).await.remove(0),
                Err(error) => Err(error.into()),
            });
        }
        moved
    }

    async fn delete(&self, entries: Vec<Entry>, lease: &Lease) -> Vec<Result<(), Trouble>> {
        self.inner.delete(entries, lease).await
    }

    async fn write(&self, path: &str, content: Bytes) -> Result<(), Trouble> {
        self.judge(&format!("write {path}"))?;
        self.inner.write(path, content).await
    }
}
