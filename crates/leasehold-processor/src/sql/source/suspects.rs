//! After an unclean takeover: messages that may have been in flight, one of which may be why.

use std::collections::HashMap;
use std::sync::Arc;

use leasehold_core::dispatch::Order;

use super::super::rows::{Row, StoredId};
use super::super::writer::Change;
use super::SqlSource;

/// Messages that may have been in flight when the last holder was cut off: one of them may have been why.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// How many may be left of them.
    left: usize,
    /// Their attempts are being recorded.
    recording: Vec<Row>,
    pub(super) unrecorded: usize,
    /// Handed over, and neither settled nor behind one that waits for another attempt; with their keys.
    out: HashMap<StoredId, Option<Arc<str>>>,
    /// One is out that was suspected before.
    alone: bool,
}

impl Suspects {
    /// Of the large payloads whose attempts are being recorded.
    pub(super) fn bytes(&self) -> u64 {
        self.recording.iter().map(|row| row.bytes).sum()
    }

    /// At most `left` messages may be.
    pub(super) fn new(left: usize) -> Self {
        Self { left, ..Self::default() }
    }
}

impl SqlSource {
    /// Of messages that may have been in flight at a crash: first their attempts are recorded, then they are handed over. One
    /// that was suspected before goes alone, so that it takes nobody down with it.
    pub(super) fn next_suspects(&mut self, room: usize) -> Vec<Row> {
        let wall = self.wall();
        let at_once = room.min(self.reading.order.at_once());
        let at_end = self.page.is_empty() && self.work.is_none() && self.scan.is_at_end(wall);
        let Some(suspects) = &mut self.suspects else { return Vec::new() };
        if suspects.unrecorded > 0 {
            return Vec::new();
        }
        if !suspects.recording.is_empty() {
            let rows = std::mem::take(&mut suspects.recording);
            suspects.alone = rows.iter().any(|row| row.is_suspect);
            suspects.out.extend(rows.iter().map(|row| (row.id, row.key.clone())));
            return rows;
        }
        if suspects.out.is_empty() && (suspects.left == 0 || at_end) {
            self.suspects = None;
            return self.next_rows(room);
        }
        let (out, alone, left) =
            (suspects.out.len(), suspects.alone && !suspects.out.is_empty(), suspects.left);
        let held: Vec<_> = suspects.out.values().cloned().collect();
        let mut rows: Vec<Row> = Vec::new();
        while !alone && out + rows.len() < at_once && rows.len() < left {
            let bytes = self.bytes + rows.iter().map(|row| row.bytes).sum::<u64>();
            let Some(first) = self.page.front().filter(|first| first.fits(bytes)) else { break };
            // It is not in flight before its time, and not recorded: that is another attempt's failure.
            if first.due.is_some_and(|due| due > wall) {
                if rows.is_empty() {
                    return self.page.pop_front().into_iter().collect();
                }
                break;
            }
            if first.is_suspect && (out > 0 || !rows.is_empty()) {
                break;
            }
            // Of a key one at a time was in flight, and of those behind it nothing was tried.
            let is_same = |key: &Option<Arc<str>>| key.is_some() && *key == first.key;
            if matches!(self.reading.order, Order::PerKey(_))
                && (rows.iter().any(|row| is_same(&row.key)) || held.iter().any(is_same))
            {
                break;
            }
            let Some(row) = self.page.pop_front() else { break };
            let is_suspect = row.is_suspect;
            if !self.parks(&row) {
                rows.push(row);
            }
            if is_suspect && !rows.is_empty() {
                break;
            }
        }
        for row in &rows {
            self.writer.push(row.id, Change::Attempt(row.attempts.saturating_add(1)));
        }
        if let Some(suspects) = &mut self.suspects {
            suspects.left = left.saturating_sub(rows.len());
            suspects.unrecorded = rows.len();
            suspects.recording = rows;
        }
        Vec::new()
    }

    /// A message is settled.
    pub(super) fn through(&mut self, id: StoredId) {
        if let Some(suspects) = &mut self.suspects {
            suspects.out.remove(&id);
        }
    }

    /// A message waits for another attempt, and what is behind it waits with it: nothing of that is in flight.
    pub(super) fn put_off(&mut self, id: StoredId) {
        let Some(suspects) = &mut self.suspects else { return };
        let key = suspects.out.remove(&id);
        match self.reading.order {
            Order::Ordered => suspects.out.clear(),
            Order::PerKey(_) => {
                suspects.out.retain(|_, behind| behind.is_none() || Some(&*behind) != key.as_ref())
            }
            Order::Unordered(_) => {}
        }
    }
}
