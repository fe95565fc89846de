//! Lists a folder, and finds the place where the last holder stopped.

use std::sync::Arc;

use leasehold_core::clock::{BootClock, Clock};
use leasehold_core::lease::Lease;

use super::super::choice::{Problems, choose};
use super::super::config::{After, Complete};
use super::super::ledger;
use super::super::reading::Current;
use super::super::state::{Ending, Out, State};
use super::super::storage::{Entry, Listing, path_problem};
use super::Folder;
use crate::error::Error;
use crate::poller::Cursor;

impl Folder {
    async fn listing(&self) -> Result<Listing, Error> {
        let except: Vec<String> = [self.config.done_folder(), self.config.failed_folder()]
            .into_iter()
            .flatten()
            .map(str::to_owned)
            .collect();
        let listing = self.storage.list(self.config.recursive, &except).await.map_err(|error| {
            Error::unreachable(
                self.storage.place(),
                format!("the folder cannot be read ({error}); make it, mount it, or make it readable for this process"),
            )
        })?;
        let Listing { mut entries, mut problems } = listing;
        // Of a storage elsewhere, which may take any name.
        entries.retain(|entry| match path_problem(&entry.path) {
            Some(problem) => {
                problems.push(problem);
                false
            }
            None => true,
        });
        Ok(Listing { entries, problems })
    }

    /// Lists, and queues what is chosen.
    pub(super) async fn list(&self, lease: &Lease) -> Result<(), Error> {
        lease.check()?;
        let listing = self.listing().await?;
        lease.check()?;
        let (gone, left) = self.choose(listing, lease);
        if !gone.is_empty() {
            ledger::forget(lease, &gone).await?;
        }
        // What is done, and was not moved or deleted.
        self.end(left, lease).await
    }

    /// What is to be forgotten, and what is to be moved.
    fn choose(&self, listing: Listing, lease: &Lease) -> (Vec<Arc<str>>, Vec<(Entry, Ending)>) {
        let mut state = self.state();
        let state = &mut *state;
        let gone = state.forget(&listing);
        if let Complete::Marker(suffix) = &self.config.complete {
            state.markers = listing
                .entries
                .iter()
                .filter_map(|entry| Some((entry.path.strip_suffix(suffix.as_str())?.into(), entry.clone())))
                .collect();
        }
        let (now, wall) = (BootClock.now(), lease.schedule_clock().now().timestamp_millis());
        let choice = choose(&self.config, &self.matcher, listing, &mut state.stability, now, wall);
        state.problem = choice.problems.text();
        let mut left = Vec::new();
        for entry in choice.files {
            if state.out.contains_key(&entry.path) {
                continue;
            }
            if state.ledger.get(&entry.path) == Some(&entry.tag) {
                if self.config.after != After::Keep {
                    let mut out = Out::new(entry.clone());
                    out.leaves = true;
                    state.out.insert(Arc::clone(&entry.path), out);
                    left.push((entry, Ending::Done));
                }
                continue;
            }
            state.queue.push_back(entry);
        }
        (gone, left)
    }

    /// Finds the place of the cursor. A file that is not there, or not what it was, has none.
    pub(super) async fn resume(&self, cursor: Option<&Cursor>, lease: &Lease) -> Result<(), Error> {
        if let Some((offset, record, of)) = cursor.and_then(Cursor::parse_place)
            && let Some((tag, path)) = of.split_once(' ')
        {
            lease.check()?;
            let listing = self.listing().await?;
            let is_it = |entry: &Entry| &*entry.path == path && &*entry.tag == tag;
            let found = listing.entries.into_iter().find(is_it);
            let mut state = self.state();
            if let Some(entry) = found.filter(|entry| state.ledger.get(&entry.path) != Some(&entry.tag)) {
                state.out.insert(Arc::clone(&entry.path), Out::new(entry.clone()));
                state.current = Some(Current::at(entry, offset, record));
            }
        }
        self.state().is_resumed = true;
        Ok(())
    }
}

impl State {
    /// The next file, of which records are to be read.
    pub(super) fn begin_next(&mut self) -> Option<Current> {
        loop {
            let entry = self.queue.pop_front()?;
            // It may have been queued twice.
            if !self.out.contains_key(&entry.path) {
                self.out.insert(Arc::clone(&entry.path), Out::new(entry.clone()));
                return Some(Current::at(entry, 0, 0));
            }
        }
    }

    pub(super) fn add_problem(&mut self, problem: String) {
        let mut problems = Problems::default();
        problems.add(problem);
        self.problem = match (self.problem.take(), problems.text()) {
            // One more is enough to know that there are more.
            (Some(known), _) if known.len() > 1000 => Some(known),
            (Some(known), Some(text)) => Some(format!("{known}; {text}")),
            (known, text) => known.or(text),
        };
    }

    /// Forgets remembered files that are not there any more.
    fn forget(&mut self, listing: &Listing) -> Vec<Arc<str>> {
        if self.ledger.is_empty() || !listing.problems.is_empty() {
            return Vec::new();
        }
        let there: std::collections::HashSet<&str> =
            listing.entries.iter().map(|entry| &*entry.path).collect();
        let gone: Vec<Arc<str>> = self
            .ledger
            .keys()
            .filter(|path| !there.contains(&***path))
            .take(ledger::BATCH)
            .cloned()
            .collect();
        for path in &gone {
            self.ledger.remove(path);
        }
        gone
    }
}
