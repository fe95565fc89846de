//! A folder of this machine, or one that is mounted.

use std::fs::{self, DirEntry, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;

use super::storage::{Abilities, Entry, Listing, Storage, Trouble, path_problem};

/// So many names are tried for a file whose name is taken.
const NAMES: u32 = 1000;

/// A folder of this machine. Its calls work on threads for blocking, many files in one.
#[derive(Clone, Debug)]
pub struct Local {
    root: Arc<Path>,
}

impl Local {
    /// This folder; it need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { root: folder.into().into() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> io::Result<T> {
        let root = Arc::clone(&self.root);
        tokio::task::spawn_blocking(move || work(&root)).await.map_err(io::Error::other)
    }
}

#[async_trait]
impl Storage for Local {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn abilities(&self) -> Abilities {
        Abilities { rename: true }
    }

    async fn list(&self, recursive: bool, except: &[String]) -> io::Result<Listing> {
        let except = except.to_vec();
        self.blocking(move |root| list(root, recursive, &except)).await?
    }

    async fn read(&self, entry: &Entry, offset: u64, length: usize) -> Result<Bytes, Trouble> {
        let entry = entry.clone();
        self.blocking(move |root| read(root, &entry, offset, length)).await?
    }

    async fn read_all(&self, entries: &[Entry]) -> Vec<Result<Bytes, Trouble>> {
        let (wanted, many) = (entries.to_vec(), entries.len());
        let whole = |root: &Path, entry: &Entry| {
            read(root, entry, 0, usize::try_from(entry.size).unwrap_or(usize::MAX))
        };
        let read = self.blocking(move |root| wanted.iter().map(|entry| whole(root, entry)).collect()).await;
        read.unwrap_or_else(|error| failed(many, &error))
    }

    async fn rename(&self, moves: Vec<(Entry, String)>, lease: &Lease) -> Vec<Result<String, Trouble>> {
        let (lease, many) = (lease.clone(), moves.len());
        let moved = self.blocking(move |root| {
            moves
                .iter()
                .map(|(entry, to)| is_ours(root, entry, &lease).and_then(|()| rename(root, &entry.path, to)))
                .collect()
        });
        moved.await.unwrap_or_else(|error| failed(many, &error))
    }

    async fn delete(&self, entries: Vec<Entry>, lease: &Lease) -> Vec<Result<(), Trouble>> {
        let (lease, many) = (lease.clone(), entries.len());
        let deleted = self.blocking(move |root| {
            let delete = |entry: &Entry| {
                is_ours(root, entry, &lease)?;
                Ok(fs::remove_file(root.join(&*entry.path))?)
            };
            entries.iter().map(delete).collect()
        });
        deleted.await.unwrap_or_else(|error| failed(many, &error))
    }

    async fn write(&self, path: &str, content: Bytes) -> Result<(), Trouble> {
        let path = path.to_owned();
        self.blocking(move |root| write(root, &path, &content)).await?
    }
}

fn failed<T>(many: usize, error: &io::Error) -> Vec<Result<T, Trouble>> {
    (0..many).map(|_| Err(Trouble::Other(io::Error::other(error.to_string())))).collect()
}

fn list(root: &Path, recursive: bool, except: &[String]) -> io::Result<Listing> {
    // Of what is below it, links are compared with this.
    let real = root.canonicalize()?;
    let mut listing = Listing::default();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if folder.is_empty() => return Err(error),
            Err(error) => {
                listing
                    .problems
                    .push(format!("{folder:?} cannot be read ({error}); make it readable for this process"));
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if folder.is_empty() => return Err(error),
                Err(error) => {
                    listing.problems.push(format!("{folder:?} cannot be read to its end ({error})"));
                    break;
                }
            };
            match look(&real, &folder, &entry) {
                Ok(Seen::File(found)) => listing.entries.push(found),
                Ok(Seen::Folder(path)) if recursive && !except.contains(&path) => folders.push(path),
                Ok(Seen::Folder(_) | Seen::Other) => {}
                Err(problem) => listing.problems.push(problem),
            }
        }
    }
    Ok(listing)
}

enum Seen {
    File(Entry),
    Folder(String),
    /// Sockets, pipes, devices, links to folders, and what has gone meanwhile.
    Other,
}

fn look(real: &Path, folder: &str, entry: &DirEntry) -> Result<Seen, String> {
    let Ok(name) = entry.file_name().into_string() else {
        return Err(format!("{:?} has a name that is not UTF-8: rename it", entry.path()));
    };
    let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
    if let Some(problem) = path_problem(&path) {
        return Err(problem);
    }
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Other),
        Err(error) => return Err(format!("{path:?} cannot be looked at ({error})")),
    };
    if metadata.is_dir() {
        return Ok(Seen::Folder(path));
    }
    if metadata.is_file() {
        return Ok(Seen::File(known(path.into(), &metadata)));
    }
    if !metadata.is_symlink() {
        return Ok(Seen::Other);
    }
    match entry.path().canonicalize() {
        Ok(target) if !target.starts_with(real) => {
            Err(format!("{path:?} is a link that leaves the folder: put the file itself there"))
        }
        Ok(target) => match fs::metadata(&target) {
            Ok(metadata) if metadata.is_file() => Ok(Seen::File(known(path.into(), &metadata))),
            _ => Ok(Seen::Other),
        },
        Err(error) => Err(format!("{path:?} is a link that leads nowhere ({error})")),
    }
}

fn known(path: Arc<str>, metadata: &Metadata) -> Entry {
    let modified = metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000);
    Entry { path, size: metadata.len(), modified, tag: tag(metadata).into() }
}

/// Size, time of the last change to the nanosecond, and inode.
fn tag(metadata: &Metadata) -> String {
    format!("{:x}-{:x}.{:x}-{:x}", metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino())
}

fn read(root: &Path, entry: &Entry, offset: u64, length: usize) -> Result<Bytes, Trouble> {
    // Without waiting, should a pipe have taken its place.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(root.join(&*entry.path))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || tag(&metadata) != *entry.tag {
        return Err(Trouble::Changed);
    }
    if offset > 0 {
        file.seek(SeekFrom::Start(offset))?;
    }
    let left = usize::try_from(entry.size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut content = Vec::with_capacity(length.min(left));
    Read::by_ref(&mut file).take(length.min(left) as u64).read_to_end(&mut content)?;
    Ok(content.into())
}

/// Whether the file is still the one that was listed, and ours.
fn is_ours(root: &Path, entry: &Entry, lease: &Lease) -> Result<(), Trouble> {
    if tag(&fs::metadata(root.join(&*entry.path))?) != *entry.tag {
        return Err(Trouble::Changed);
    }
    lease.check().map_err(|_| Trouble::Lost)
}

fn rename(root: &Path, from: &str, to: &str) -> Result<String, Trouble> {
    let from = root.join(from);
    for n in 0..NAMES {
        let name = if n == 0 { to.to_owned() } else { format!("{to}.{n}") };
        let target = root.join(&name);
        let mut moved = rename_new(&from, &target);
        if let Err(error) = &moved
            && error.kind() == io::ErrorKind::NotFound
            && let Some(parent) = target.parent()
        {
            fs::create_dir_all(parent).map_err(Trouble::Other)?;
            moved = rename_new(&from, &target);
        }
        match moved {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Trouble::Other(io::Error::other(format!("{NAMES} files of the name {to:?} are there: tidy up"))))
}

/// Moves, and replaces nothing.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that knows no such flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            moved => return moved.map_err(io::Error::from),
        }
    }
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

fn write(root: &Path, path: &str, content: &[u8]) -> Result<(), Trouble> {
    let target = root.join(path);
    let Some(parent) = target.parent() else { return Err(Trouble::Gone) };
    fs::create_dir_all(parent).map_err(Trouble::Other)?;
    // Complete, or not there.
    let mut name = target.clone().into_os_string();
    name.push(".tmp");
    let partial = PathBuf::from(name);
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, &target)
    });
    written.map_err(|error| {
        // It may not even be there.
        let _ = fs::remove_file(&partial);
        Trouble::Other(error)
    })
}
