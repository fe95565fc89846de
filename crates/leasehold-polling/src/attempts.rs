//! How often items were handed over and failed, kept so that it survives failover. Written beside the next attempt, so that a crash may
//! forget the last.

use std::collections::BTreeMap;

/// The checkpoint that keeps them.
pub(crate) const KEY: &str = "attempts";
/// More items than this do not fail at once but because something fails as a whole.
const MOST: usize = 1000;

/// By id.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    known: BTreeMap<String, u32>,
    is_changed: bool,
}

impl Attempts {
    /// What an earlier holder has written; what cannot be read is none.
    pub(crate) fn read(text: Option<&str>) -> Self {
        let known = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Self { known, is_changed: false }
    }

    /// How often it was handed over.
    pub(crate) fn of(&self, id: &str) -> u32 {
        self.known.get(id).copied().unwrap_or(0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(crate) fn note(&mut self, id: &str, attempts: u32) {
        if self.known.len() >= MOST && !self.known.contains_key(id) {
            return;
        }
        self.is_changed |= self.known.insert(id.to_owned(), attempts) != Some(attempts);
    }

    pub(crate) fn forget(&mut self, id: &str) {
        self.is_changed |= self.known.remove(id).is_some();
    }

    /// What is to be written, if it has changed since.
    pub(crate) fn take_changed(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        // Texts and numbers have a JSON.
        serde_json::to_string(&self.known).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_survive_being_written_down() {
        let mut attempts = Attempts::default();
        attempts.note("a/1", 2);
        attempts.note("b", 1);
        attempts.forget("b");
        let text = attempts.take_changed().unwrap();
        assert_eq!(attempts.take_changed(), None);
        let read = Attempts::read(Some(&text));
        assert_eq!((read.of("a/1"), read.of("b")), (2, 0));
        assert!(Attempts::read(Some("nonsense")).is_empty());
    }
}
