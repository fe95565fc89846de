//! A hash for positions.

use std::hash::Hasher;

/// Of positions, which follow each other, and are nobody else's choice.
#[derive(Default)]
pub(super) struct Positions(u64);

impl Hasher for Positions {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, position: u64) {
        // Fibonacci hashing: tables look at the upper bits, too.
        self.0 = position.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
