//! A file that its handler reads by itself.

use std::fmt;
use std::io;
use std::sync::Arc;

use leasehold_core::bytes::Bytes;
use leasehold_core::message::Message;

use super::folder::Mark;
use super::storage::{Entry, Storage, Trouble};

/// A file that its handler reads by itself, in parts: of messages of [`Records::Reference`](super::Records::Reference), and of
/// whole files.
#[derive(Clone)]
pub struct FileRef {
    storage: Arc<dyn Storage>,
    entry: Entry,
}

impl FileRef {
    /// The file of a message of an endpoint of files.
    pub fn of(message: &Message) -> Option<Self> {
        let mark = message.parts().native.as_ref()?.downcast_ref::<Mark>()?;
        let (storage, entry) = mark.file.clone()?;
        Some(Self { storage, entry })
    }

    /// Its path below the folder.
    pub fn path(&self) -> &str {
        &self.entry.path
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.entry.size
    }

    /// At most `length` bytes from `offset` on; fewer only at the end. Cancellation safe.
    ///
    /// # Errors
    /// When the file has gone or was changed, or cannot be read.
    pub async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.storage.read(&self.entry, offset, length).await.map_err(|trouble| match trouble {
            Trouble::Other(error) => error,
            other => io::Error::new(io::ErrorKind::NotFound, format!("{:?}: {other}", self.entry.path)),
        })
    }
}

impl fmt::Debug for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRef").field("entry", &self.entry).finish_non_exhaustive()
    }
}
