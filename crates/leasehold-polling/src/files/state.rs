//! What an endpoint of files keeps in mind during a run.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::choice::Stability;
use super::reading::Current;
use super::storage::Entry;

/// How a file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Failed { attempts: u32, reason: String },
}

/// A file of which something was handed out.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) entry: Entry,
    /// Messages of it that were handed out, and those that are settled.
    pub(super) given: u64,
    pub(super) settled: u64,
    /// There is no more of it.
    pub(super) ended: bool,
    /// It has failed, as a whole or in part.
    pub(super) failed: Option<(u32, String)>,
    /// Its last message is settled, and it is on its way to its end.
    pub(super) leaves: bool,
}

impl Out {
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry, given: 0, settled: 0, ended: false, failed: None, leaves: false }
    }

    /// Notes a failure; the first is told.
    pub(super) fn fail(&mut self, attempts: u32, reason: String) {
        self.failed.get_or_insert((attempts, reason));
    }

    /// How it ends, if all of it is settled; told once.
    pub(super) fn end(&mut self) -> Option<(Entry, Ending)> {
        if !self.ended || self.leaves || self.settled < self.given {
            return None;
        }
        self.leaves = true;
        let ending = match self.failed.take() {
            Some((attempts, reason)) => Ending::Failed { attempts, reason },
            None => Ending::Done,
        };
        Some((self.entry.clone(), ending))
    }
}

/// What was listed, read and handed out. Polls and settlements share it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Chosen and not begun, in their order.
    pub(super) queue: VecDeque<Entry>,
    /// The file whose records are being read.
    pub(super) current: Option<Current>,
    /// By path.
    pub(super) out: HashMap<Arc<str>, Out>,
    /// What could not be done yet.
    pub(super) todo: Vec<(Entry, Ending)>,
    /// By path: the tag of what is done, or has failed, and stays or is still there.
    pub(super) ledger: HashMap<Arc<str>, Arc<str>>,
    /// By path: files that say that it is complete.
    pub(super) markers: HashMap<Arc<str>, Entry>,
    pub(super) stability: Stability,
    /// The place of the cursor that the run began with was looked for.
    pub(super) is_resumed: bool,
    /// What was left alone at the last listing.
    pub(super) problem: Option<String>,
}
