//! What happens to files that are done, or have failed.

use std::sync::Arc;

use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;

use super::config::After;
use super::folder::Folder;
use super::ledger::{self, Row};
use super::state::Ending;
use super::storage::{Entry, Trouble};
use crate::error::Error;

/// Moves of one call at most: between two, others get their turn.
const BATCH: usize = 256;

impl Folder {
    /// Moves, deletes or remembers files. What cannot be done now is done with the next poll.
    pub(super) async fn end(&self, files: Vec<(Entry, Ending)>, lease: &Lease) -> Result<(), Error> {
        if files.is_empty() {
            return Ok(());
        }
        lease.check()?;
        let (mut moves, mut deletes, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for (entry, ending) in files {
            let folder = match (&ending, &self.config.after) {
                (Ending::Failed { .. }, _) => {
                    self.config.failed_folder().filter(|_| self.storage.abilities().rename)
                }
                (Ending::Done, After::MoveTo(folder) | After::MoveStamped(folder)) => Some(folder.as_str()),
                (Ending::Done, After::Delete) => {
                    deletes.push((entry, ending));
                    continue;
                }
                (Ending::Done, After::Keep) => None,
            };
            match folder {
                Some(folder) => {
                    let to = format!("{folder}/{}{}", entry.path, self.stamp(&ending, lease));
                    moves.push((entry, ending, to));
                }
                None => rows.push((entry, ending)),
            }
        }
        let mut problem = None;
        self.remember(rows, lease).await?;
        for chunk in moves.chunks(BATCH) {
            let asked = chunk.iter().map(|(entry, _, to)| (entry.clone(), to.clone())).collect();
            let moved = self.storage.rename(asked, lease).await;
            for ((entry, ending, _), moved) in chunk.iter().zip(moved) {
                let moved = match (moved, ending) {
                    (Ok(now), Ending::Failed { attempts, reason }) => {
                        self.explain(&now, &entry.path, *attempts, reason, lease)
                            .await
                            .map_err(|trouble| {
                                problem = Some(format!(
                                    "the reason for {now:?} cannot be written ({trouble}): {reason}"
                                ));
                            })
                            .ok();
                        Ok(())
                    }
                    (moved, _) => moved.map(drop),
                };
                self.left(entry, ending, moved, &mut problem, lease).await?;
            }
        }
        for chunk in deletes.chunks(BATCH) {
            let asked = chunk.iter().map(|(entry, _)| entry.clone()).collect();
            let deleted = self.storage.delete(asked, lease).await;
            for ((entry, ending), deleted) in chunk.iter().zip(deleted) {
                self.left(entry, ending, deleted, &mut problem, lease).await?;
            }
        }
        match problem {
            Some(problem) => Err(Error::refused(self.storage.place(), problem)),
            None => Ok(()),
        }
    }

    /// What became of a move or a deletion.
    async fn left(
        &self,
        entry: &Entry,
        ending: &Ending,
        left: Result<(), Trouble>,
        problem: &mut Option<String>,
        lease: &Lease,
    ) -> Result<(), Error> {
        match left {
            Ok(()) => {
                let marker = {
                    let mut state = self.state();
                    state.out.remove(&entry.path);
                    state.markers.remove(&entry.path)
                };
                if let Some(marker) = marker {
                    // Of one that stays the next file of that name would be taken too early.
                    let deleted = self.storage.delete(vec![marker], lease).await;
                    if let Some(Err(Trouble::Other(error))) = deleted.into_iter().next() {
                        *problem =
                            Some(format!("the marker of {:?} cannot be deleted ({error})", entry.path));
                    }
                }
            }
            Err(Trouble::Lost) => lease.check()?,
            // Somebody has taken it, or put another one in its place, which comes as such.
            Err(trouble @ (Trouble::Gone | Trouble::Changed)) => {
                tracing::warn!(artifact = %lease.artifact(), file = %entry.path, %trouble, "a file that is done is left where it is");
                self.state().out.remove(&entry.path);
            }
            Err(Trouble::Other(error)) => {
                *problem = Some(format!(
                    "{:?} is done and cannot leave the folder ({error}); it is tried again: make room, or let this process write there",
                    entry.path
                ));
                self.state().todo.push((entry.clone(), ending.clone()));
                // The cursor goes on to other files, and the next holder is not to begin with this one again.
                if self.state().ledger.get(&entry.path) != Some(&entry.tag) {
                    ledger::note(lease, &[Row::new(entry, ending)]).await?;
                    self.state().ledger.insert(Arc::clone(&entry.path), Arc::clone(&entry.tag));
                }
            }
        }
        Ok(())
    }

    async fn remember(&self, files: Vec<(Entry, Ending)>, lease: &Lease) -> Result<(), Error> {
        if files.is_empty() {
            return Ok(());
        }
        let rows: Vec<Row> = files.iter().map(|(entry, ending)| Row::new(entry, ending)).collect();
        if let Err(error) = ledger::note(lease, &rows).await {
            self.state().todo.extend(files);
            return Err(error);
        }
        let mut state = self.state();
        for (entry, _) in files {
            state.out.remove(&entry.path);
            state.ledger.insert(entry.path, entry.tag);
        }
        Ok(())
    }

    fn stamp(&self, ending: &Ending, lease: &Lease) -> String {
        match (&self.config.after, ending) {
            (After::MoveStamped(_), Ending::Done) => {
                format!(".{}", lease.schedule_clock().now().format("%Y%m%dT%H%M%S%.3fZ"))
            }
            _ => String::new(),
        }
    }

    /// Writes why something failed beside it.
    async fn explain(
        &self,
        beside: &str,
        path: &str,
        attempts: u32,
        reason: &str,
        lease: &Lease,
    ) -> Result<(), Trouble> {
        let told = serde_json::json!({
            "artifact": lease.artifact().as_str(),
            "file": path,
            "attempts": attempts,
            "reason": reason,
            "at": lease.schedule_clock().now().to_rfc3339(),
        });
        self.storage.write(&format!("{beside}.reason"), Bytes::from(format!("{told:#}\n"))).await
    }

    /// Puts a record that failed beside the files that did. If that cannot be done, the file fails as a whole: why.
    pub(super) async fn set_aside(
        &self,
        path: &Arc<str>,
        record: u64,
        message: &Message,
        attempts: u32,
        reason: &str,
        lease: &Lease,
    ) -> Option<(u32, String)> {
        let told = format!("record {record}: {reason}");
        let Some(folder) = self.config.failed_folder().filter(|_| self.storage.abilities().rename) else {
            return Some((attempts, told));
        };
        let beside = format!("{folder}/{path}.{record}");
        let body = message.body().cloned().unwrap_or_default();
        let written = match self.explain(&beside, path, attempts, &told, lease).await {
            Ok(()) => self.storage.write(&beside, body).await,
            Err(trouble) => Err(trouble),
        };
        let trouble = written.err()?;
        Some((attempts, format!("{told} (which cannot be set aside: {trouble})")))
    }
}
