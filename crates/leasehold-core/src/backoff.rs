//! Growing pauses between attempts, with jitter so that replicas do not try in step.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Pauses that double from a first to a longest one. Each is shortened by up to a quarter, by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    chance: u64,
}

impl Backoff {
    /// Doubles from `first` to `longest`. Two of them have different chances unless `seed` is the same.
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, failures: 0, chance: seed }
    }

    /// A seed that differs from one call, and one process, to the next.
    pub fn seed() -> u64 {
        RandomState::new().build_hasher().finish()
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        pause(self.first, self.longest, self.failures, self.chance)
    }

    /// Begins with the first pause again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many pauses there were since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// The pause after so many failures, at least one.
pub(crate) fn pause(first: Duration, longest: Duration, failures: u32, chance: u64) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let whole = doubled.min(longest);
    // The finalizer of MurmurHash3: neighbouring chances give unlike pauses.
    let mut mixed = chance;
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
    }
    let share = u32::try_from((mixed ^ (mixed >> 33)) % 256).unwrap_or(0);
    whole - whole / 1024 * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_never_below_three_quarters() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second * 8, Backoff::seed());
        for whole in [1, 2, 4, 8, 8, 8] {
            let pause = backoff.next_pause();
            assert!(pause <= second * whole && pause >= second * whole * 3 / 4, "{pause:?} of {whole} s");
        }
        assert_eq!(backoff.failures(), 6);
        backoff.reset();
        assert!(backoff.next_pause() <= second);
        let mut many = Backoff { failures: 1_000_000, ..backoff };
        assert!(many.next_pause() <= second * 8);
    }
}
