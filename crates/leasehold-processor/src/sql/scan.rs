//! What a reader has read, and what it reads next: pure.
//!
//! A store is read once from the lowest id to the highest, in pages. What is here and not settled is *held*. A key of which
//! much is held already, because its first message is tried again and again, is *skipped*: the scan goes on past its
//! messages, and they are read by themselves when there is room for them. Transactions that commit late leave messages
//! below where the scan is: it looks again at what it has passed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use leasehold_core::clock::Instant;

use super::rows::{Row, StoredId};

/// So many messages are read at once.
pub(super) const PAGE: usize = 500;
/// Of one key at most so many are held: the others of a store go on though its first one does not. The fewer places are left,
/// the fewer: a hundred keys that do not go on leave room for the others.
const PER_KEY: usize = 64;
/// Of what is left, so much may go to one key.
const SHARE: usize = 8;
/// Large payloads that are in flight, or read and wait for that, hold so many bytes together at most, unless one alone does.
pub(super) const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Of those, so many may be of one key, unless one alone is larger.
const KEY_BYTES: u64 = MOST_BYTES / 8;
/// So many keys at most are left out of a page by the database; the messages of more are read and passed over.
const LEFT_OUT: usize = 1000;
/// How far back it looks for what was committed late, in messages' ids as of so long ago.
pub(super) const RECENT: std::time::Duration = std::time::Duration::from_secs(60);

/// What is read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The next page, without these keys.
    Page { after: StoredId, without: Vec<Arc<str>> },
    /// What there is of a key that was skipped, from here up to where the scan is; from the beginning, too, now and then:
    /// below where it was skipped there may be what was committed late.
    Key { key: Arc<str>, from: StoredId, to: StoredId },
    /// What has become due, up to this moment; of what has no key only, unless keys are of no account.
    Due { now: i64, keyed: bool },
    /// Which messages, due by now, there are between these ids, without these keys: some may have been committed late.
    Late { after: StoredId, to: StoredId, without: Vec<Arc<str>>, now: i64 },
    /// Nothing: what was parked longer ago than so many milliseconds is deleted.
    Trim { keep: i64 },
    /// These, which were committed late.
    These { ids: Vec<StoredId> },
    /// The payloads of these, which are held.
    Bodies { ids: Vec<StoredId> },
}

/// What is held of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    count: usize,
    /// Of large payloads.
    bytes: u64,
}

impl Share {
    /// Whether one more fits, of which so many are held at most.
    fn has_room(self, bytes: u64, most: usize) -> bool {
        self.count == 0 || (self.count < most && self.bytes + bytes <= KEY_BYTES)
    }
}

#[derive(Debug)]
struct Skipped {
    from: StoredId,
    /// Nothing of it is due before.
    until: Option<i64>,
    /// Its large payload, as far as that is known.
    bytes: u64,
    /// The round of looks for late commits in which it was last read from the beginning.
    round: u64,
}

/// Whose order a message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ordering {
    /// All of one store.
    All,
    /// All of one key.
    Keys,
    /// None.
    None,
}

#[derive(Debug)]
pub(super) struct Scan {
    ordering: Ordering,
    capacity: usize,
    cursor: StoredId,
    /// The last page was not full: nothing more was there.
    at_end: bool,
    /// With its key, and the bytes of a large payload.
    held: HashMap<StoredId, (Option<Arc<str>>, u64)>,
    per_key: HashMap<Arc<str>, Share>,
    skipped: BTreeMap<Arc<str>, Skipped>,
    /// The earliest moment at which something that was passed over becomes due.
    due: Option<i64>,
    /// Where the scan was at these moments, the earliest first.
    passed: VecDeque<(Instant, StoredId)>,
    late_from: StoredId,
    /// How often it has looked for late commits.
    round: u64,
}

impl Scan {
    pub(super) fn new(ordering: Ordering, capacity: usize) -> Self {
        Self {
            ordering,
            capacity,
            cursor: i64::MIN,
            at_end: false,
            held: HashMap::new(),
            per_key: HashMap::new(),
            skipped: BTreeMap::new(),
            due: None,
            passed: VecDeque::new(),
            late_from: i64::MIN,
            round: 0,
        }
    }

    /// What to read at `now`, by the database's clock: what the last page left open, and otherwise the next page.
    pub(super) fn plan(&self, now: i64) -> Plan {
        let free = |(key, skipped): &(&Arc<str>, &Skipped)| {
            let share = self.per_key.get(*key).copied().unwrap_or_default();
            let has_room = share.count == 0
                || (share.count < self.per_key_most().div_ceil(2)
                    && share.bytes + skipped.bytes <= KEY_BYTES);
            has_room && skipped.until.is_none_or(|until| until <= now)
        };
        // The one that has waited longest: others are not to be passed over for ever.
        let oldest = self.skipped.iter().filter(free).min_by_key(|(_, skipped)| skipped.from);
        if let Some((key, skipped)) = oldest {
            let from = if skipped.round < self.round { i64::MIN } else { skipped.from };
            return Plan::Key { key: Arc::clone(key), from, to: self.cursor };
        }
        if self.due.is_some_and(|due| due <= now) {
            return Plan::Due { now, keyed: self.ordering == Ordering::None };
        }
        Plan::Page { after: self.cursor, without: self.without() }
    }

    /// How much of one key may be held.
    fn per_key_most(&self) -> usize {
        (self.capacity.saturating_sub(self.held.len()) / SHARE).clamp(1, PER_KEY)
    }

    /// When something that was passed over becomes due, by the database's clock.
    pub(super) fn wakes_at(&self) -> Option<i64> {
        let skipped = self.skipped.values().filter_map(|skipped| skipped.until).min();
        self.due.into_iter().chain(skipped).min()
    }

    /// What becomes due from now on is noted anew: it is not known whether a look that is under way has seen it.
    pub(super) fn looks_for_due(&mut self) {
        self.due = None;
    }

    /// Where to look for what was committed late, at `now`; everywhere if `far`; from where the last look was cut short. With
    /// nothing else to do it looks for what is new by the same statement.
    pub(super) fn late(&mut self, now: Instant, wall: i64, far: bool, cut: Option<StoredId>) -> Plan {
        while self.passed.front().is_some_and(|(at, _)| now.since(*at) > RECENT) {
            if let Some((_, passed)) = self.passed.pop_front() {
                self.late_from = passed;
            }
        }
        self.passed.push_back((now, self.cursor));
        let after = cut.unwrap_or(if far { i64::MIN } else { self.late_from });
        self.round += 1;
        let to = if self.at_end { i64::MAX } else { self.cursor };
        Plan::Late { after, to, without: self.without(), now: wall }
    }

    /// Of what a look found, what is to be read by itself; what is beyond the scan comes with the next page.
    pub(super) fn found(&mut self, ids: Vec<StoredId>, gone: &HashSet<StoredId>) -> Vec<StoredId> {
        let (passed, beyond): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| *id <= self.cursor);
        self.at_end &= beyond.is_empty();
        passed.into_iter().filter(|id| !gone.contains(id) && !self.holds(*id)).collect()
    }

    pub(super) fn ordering(&self) -> Ordering {
        self.ordering
    }

    /// What was committed late may be between these.
    pub(super) fn passed(&self) -> (StoredId, StoredId) {
        (self.late_from, self.cursor)
    }

    fn without(&self) -> Vec<Arc<str>> {
        self.skipped.keys().take(LEFT_OUT).cloned().collect()
    }

    /// Takes what a plan brought, and tells what is to be handed over, in order. `beyond` is the highest id that the store
    /// had when a page without some keys was read, or when the next message becomes due. What is `gone` was settled since
    /// the rows were asked for.
    pub(super) fn take(
        &mut self,
        plan: &Plan,
        mut rows: Vec<Row>,
        gone: &HashSet<StoredId>,
        beyond: Option<i64>,
        now: i64,
    ) -> Vec<Row> {
        let full = rows.len() >= limit(plan);
        let last = rows.last().map(|row| row.id);
        rows.retain(|row| !gone.contains(&row.id));
        let mut taken = Vec::new();
        match plan {
            Plan::Page { .. } => {
                taken.extend(rows.into_iter().filter(|row| self.admit(row, now)));
                self.cursor = self.cursor.max(last.unwrap_or(i64::MIN));
                if !full {
                    self.cursor = self.cursor.max(beyond.unwrap_or(i64::MIN));
                }
                self.at_end = !full;
            }
            Plan::Key { key, to, .. } => {
                let round = self.round;
                let mut open = full.then_some(Skipped {
                    from: last.map_or(*to, |last| last + 1),
                    until: None,
                    bytes: 0,
                    round,
                });
                self.skipped.remove(key);
                for row in rows {
                    let until = row.due.filter(|due| *due > now);
                    let share = self.per_key.get(key).copied().unwrap_or_default();
                    let is_held = self.held.contains_key(&row.id);
                    // How many, the limit of the plan has seen to.
                    if until.is_some() || !(is_held || share.has_room(row.bytes, usize::MAX)) {
                        open = Some(Skipped { from: row.id, until, bytes: row.bytes, round });
                        break;
                    }
                    if self.hold(&row) {
                        taken.push(row);
                    }
                }
                if let Some(open) = open {
                    self.skipped.insert(Arc::clone(key), open);
                }
            }
            Plan::Due { .. } => {
                taken.extend(rows.into_iter().filter(|row| self.hold(row)));
                let next = match (full, taken.is_empty()) {
                    (true, false) => Some(now),
                    // All of a page is here already: there is no hurry.
                    (true, true) => Some(now + 1000),
                    (false, _) => beyond,
                };
                if let Some(next) = next {
                    self.wake_at(next);
                }
            }
            Plan::Late { .. } | Plan::Trim { .. } | Plan::Bodies { .. } => {}
            Plan::These { .. } => taken.extend(rows.into_iter().filter(|row| self.admit(row, now))),
        }
        taken
    }

    /// Whether a row that the scan comes across is handed over now.
    fn admit(&mut self, row: &Row, now: i64) -> bool {
        if self.held.contains_key(&row.id) {
            return false;
        }
        let later = row.due.filter(|due| *due > now);
        if self.unordered(row) {
            if let Some(due) = later {
                self.wake_at(due);
                return false;
            }
        } else if let (Ordering::Keys, Some(key)) = (self.ordering, &row.key) {
            let share = self.per_key.get(key).copied().unwrap_or_default();
            if let Some(skipped) = self.skipped.get_mut(key) {
                if row.id < skipped.from {
                    *skipped = Skipped { from: row.id, until: later, bytes: row.bytes, ..*skipped };
                }
                return false;
            }
            if later.is_some() || !share.has_room(row.bytes, self.per_key_most()) {
                let skipped = Skipped { from: row.id, until: later, bytes: row.bytes, round: self.round };
                self.skipped.insert(Arc::clone(key), skipped);
                return false;
            }
        }
        self.hold(row)
    }

    /// Whether nothing waits for this one.
    fn unordered(&self, row: &Row) -> bool {
        match self.ordering {
            Ordering::All => false,
            Ordering::Keys => row.key.is_none(),
            Ordering::None => true,
        }
    }

    fn hold(&mut self, row: &Row) -> bool {
        if self.held.insert(row.id, (row.key.clone(), row.bytes)).is_some() {
            return false;
        }
        if let Some(key) = &row.key {
            let share = self.per_key.entry(Arc::clone(key)).or_default();
            share.count += 1;
            share.bytes += row.bytes;
        }
        true
    }

    /// A message is gone from the store, or waits there for its time.
    pub(super) fn release(&mut self, id: StoredId) {
        let Some((Some(key), bytes)) = self.held.remove(&id) else { return };
        if let Some(share) = self.per_key.get_mut(&key) {
            share.count -= 1;
            share.bytes -= bytes;
            if share.count == 0 {
                self.per_key.remove(&key);
            }
        }
    }

    /// Something that no order holds becomes due then.
    pub(super) fn wake_at(&mut self, due: i64) {
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    pub(super) fn holds(&self, id: StoredId) -> bool {
        self.held.contains_key(&id)
    }

    /// Whether the last page was the last.
    pub(super) fn is_at_end(&self, now: i64) -> bool {
        self.at_end && matches!(self.plan(now), Plan::Page { .. })
    }
}

/// How many rows a plan brings at most.
pub(super) fn limit(plan: &Plan) -> usize {
    match plan {
        // Beside those that are held.
        Plan::Key { from: i64::MIN, .. } => PER_KEY / 2 + PER_KEY,
        Plan::Key { .. } => PER_KEY / 2,
        Plan::Late { .. } => PAGE * 20,
        _ => PAGE,
    }
}

#[cfg(test)]
mod tests;
