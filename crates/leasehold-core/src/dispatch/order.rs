//! How many messages are handled at once, and in which order.

use serde::{Deserialize, Serialize};

/// More handlers at once than this are a mistake in the unit.
pub const MAX_AT_ONCE: usize = 10_000;

/// How many messages are handled at once, and in which order. In a file: `"ordered"`, `{ per-key = 16 }` or
/// `{ unordered = 16 }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// One at a time, in the order of the source. A message that is tried again holds up all that follow.
    #[default]
    Ordered,
    /// At most so many at once; messages of one key one after the other, in the order of the source. A message that is
    /// tried again holds up its key only. Messages without a key have no order among them.
    PerKey(usize),
    /// At most so many at once, in no order.
    Unordered(usize),
}

impl Order {
    /// How many are handled at once at most.
    pub fn at_once(self) -> usize {
        match self {
            Self::Ordered => 1,
            Self::PerKey(n) | Self::Unordered(n) => n,
        }
    }

    /// Whether a message may be put back behind later ones.
    pub fn allows_requeue(self) -> bool {
        matches!(self, Self::Unordered(_))
    }

    /// What is wrong with it, if anything, in words that follow the name of a field.
    ///
    /// # Errors
    /// The problem and the remedy, when the number is 0 or above [`MAX_AT_ONCE`].
    pub fn validate(self) -> Result<(), String> {
        match self.at_once() {
            1..=MAX_AT_ONCE => Ok(()),
            n => Err(format!("of {n} at once is out of range: give 1 to {MAX_AT_ONCE}")),
        }
    }
}
