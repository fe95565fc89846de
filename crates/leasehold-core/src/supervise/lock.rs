//! A lock file: whoever can take its lock knows that the process which had it is dead.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::machine::{boot, locks_prove};
use crate::name::ClusterName;
use crate::protocol::SessionId;

/// Earlier ones are over: whoever noted them has deleted them before it joined anew.
const MOST_SESSIONS: usize = 16;

/// A file that this process has locked (flock), for as long as it lives.
///
/// The lock goes with the last process that has the file open: this one, and those that it forked without another program, which
/// only makes the proof come later. What is noted in the file counts only in the boot and for the file in which it was noted,
/// so that a copy, or a disk that was moved to another machine, proves nothing.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    file: File,
    noted: Noted,
}

/// What stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    boot: Option<String>,
    device: u64,
    inode: u64,
    pid: u32,
    sessions: Vec<(ClusterName, SessionId)>,
}

impl LockFile {
    /// Takes the lock; and the sessions in `cluster` of whoever had it, which are those of a dead process.
    ///
    /// # Errors
    /// [`Error::Unproven`] when another process has it, and for a network file system. [`Error::System`] when the file cannot be
    /// opened.
    pub(crate) fn take(path: &Path, cluster: &ClusterName) -> Result<(Self, Vec<SessionId>), Error> {
        let system = |operation| move |source| Error::System { operation, source };
        let mut file = loop {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
            let file = file.map_err(system("open the lock file"))?;
            // Of the file itself: a link, or a mount of the file alone, may lead elsewhere than its folder.
            if let Err(kind) = locks_prove(&file) {
                return Err(Error::Unproven(format!(
                    "the lock file {} is on {kind}, whose locks prove nothing that is known; use a folder of a local disk or in \
                     memory, for example /run",
                    path.display()
                )));
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(path, file)),
                Err(error) => return Err(system("lock the lock file")(error.into())),
            }
            // Somebody may have removed it between the two, and another process have locked the next.
            if std::fs::metadata(path).is_ok_and(|found| same(&found, &file)) {
                break file;
            }
        };
        let before = read(&mut file).unwrap_or_default();
        let found = file.metadata().map_err(system("examine the lock file"))?;
        let here = Noted {
            boot: boot().map(str::to_owned),
            device: found.dev(),
            inode: found.ino(),
            pid: std::process::id(),
            sessions: Vec::new(),
        };
        let proven = here.boot.is_some()
            && (&before.boot, before.device, before.inode) == (&here.boot, here.device, here.inode);
        // They stay noted until others push them out: this process may die before it has deleted them.
        let sessions = if proven { before.sessions } else { Vec::new() };
        let dead = sessions.iter().filter(|(of, _)| of == cluster).map(|(_, session)| *session).collect();
        Ok((Self { path: path.to_owned(), file, noted: Noted { sessions, ..here } }, dead))
    }

    /// Notes a session that is about to join.
    pub(super) fn note(&mut self, cluster: &ClusterName, session: SessionId) -> io::Result<()> {
        if self.noted.sessions.len() == MOST_SESSIONS {
            self.noted.sessions.remove(0);
        }
        self.noted.sessions.push((cluster.clone(), session));
        // What is half written by a process that dies meanwhile is no JSON, and proves nothing.
        let text = serde_json::to_vec(&self.noted)?;
        let file = &mut self.file;
        file.seek(SeekFrom::Start(0))?;
        file.set_len(0)?;
        file.write_all(&text).map_err(|error| {
            io::Error::new(error.kind(), format!("{} cannot be written: {error}", self.path.display()))
        })
    }
}

fn same(found: &std::fs::Metadata, file: &File) -> bool {
    file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (found.dev(), found.ino()))
}

fn read(file: &mut File) -> Option<Noted> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn held(path: &Path, mut file: File) -> Error {
    let by = read(&mut file).map_or_else(String::new, |noted| format!(" (process {})", noted.pid));
    Error::Unproven(format!(
        "another process{by} holds the lock file {}: this node runs already on this machine; stop it, or give each replica \
         a lock file of its own",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterName {
        ClusterName::new("orders").unwrap()
    }

    #[test]
    fn whoever_takes_the_lock_knows_the_sessions_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (mut first, dead) = LockFile::take(&path, &cluster()).unwrap();
        assert_eq!(dead, []);
        let session = SessionId::from_u128(7);
        first.note(&cluster(), session).unwrap();

        let held = LockFile::take(&path, &cluster()).unwrap_err().to_string();
        assert!(held.contains("holds the lock file") && held.contains("of its own"), "{held}");
        drop(first);
        let (second, dead) = LockFile::take(&path, &cluster()).unwrap();
        assert_eq!(dead, [session]);
        drop(second);
        let (_, of_another) = LockFile::take(&path, &ClusterName::new("other").unwrap()).unwrap();
        assert_eq!(of_another, []);
    }

    #[test]
    fn a_copy_and_another_boot_prove_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("lock"), folder.path().join("copy"));
        let (mut first, _) = LockFile::take(&path, &cluster()).unwrap();
        first.note(&cluster(), SessionId::from_u128(7)).unwrap();
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!(LockFile::take(&copy, &cluster()).unwrap().1, [], "its owner lives");

        let mut elsewhere = first.noted.clone();
        elsewhere.boot = Some("another machine's".to_owned());
        drop(first);
        std::fs::write(&path, serde_json::to_vec(&elsewhere).unwrap()).unwrap();
        assert_eq!(LockFile::take(&path, &cluster()).unwrap().1, []);
        std::fs::write(&path, "{\"boot\":").unwrap();
        assert_eq!(LockFile::take(&path, &cluster()).unwrap().1, [], "half written");
    }
}
