//! Large payloads, which do not come with their page.

use std::collections::HashMap;

use super::super::rows::StoredId;
use super::super::scan::MOST_BYTES;
use super::SqlSource;
use super::suspects::Suspects;

/// So many bytes of large payloads are read by one statement, unless one alone is larger: the first need not wait for the others.
const READ_BYTES: u64 = 4 * 1024 * 1024;

impl SqlSource {
    /// Whose payloads are to be read: of the next messages those that are large, as far as there is room for them.
    pub(super) fn lacking(&self) -> Vec<StoredId> {
        let mut ids = Vec::new();
        if self.partial == 0 {
            return ids;
        }
        let recording = self.suspects.as_ref().map_or(0, Suspects::bytes);
        let (mut bytes, mut to_read) = (self.bytes + recording, 0);
        for row in &self.page {
            let is_first = bytes == 0;
            bytes += row.bytes;
            if bytes > MOST_BYTES && !is_first {
                break;
            }
            if !row.is_whole {
                to_read += row.bytes;
                if to_read > READ_BYTES && !ids.is_empty() {
                    break;
                }
                ids.push(row.id);
            }
        }
        ids
    }

    /// Takes in payloads. What has none any more was purged.
    pub(super) fn fill(&mut self, ids: &[StoredId], mut bodies: HashMap<StoredId, Vec<u8>>) {
        for row in &mut self.page {
            if let Some(body) = bodies.remove(&row.id) {
                row.fill(body);
            }
        }
        let (scan, page) = (&mut self.scan, &mut self.page);
        page.retain(|row| {
            let is_gone = !row.is_whole && ids.contains(&row.id);
            if is_gone {
                scan.release(row.id);
            }
            !is_gone
        });
        self.count_partial();
    }

    /// To be called when what is in the page has changed.
    pub(super) fn count_partial(&mut self) {
        self.partial = self.page.iter().filter(|row| !row.is_whole).count();
    }
}
