//! Whose wall clock is wrong: drawn beside the rest, too.

use std::fmt;

use fastrand::Rng;

use super::Plan;
use crate::round::Setting;

/// Sets it apart from the other draws.
const OWN: u64 = 0x7761_6c6c;
const HOUR_MS: i64 = 3_600_000;

/// How wrong a wall clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wall {
    Ahead,
    Behind,
}

impl Wall {
    pub(crate) fn ahead_ms(self) -> i64 {
        match self {
            Self::Ahead => HOUR_MS,
            Self::Behind => -HOUR_MS,
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ahead => "wall clock an hour ahead",
            Self::Behind => "wall clock an hour behind",
        })
    }
}

impl Plan {
    /// In half of the rounds that of one node is, from its start on and whenever it is started again.
    pub(crate) fn with_wall_clock(mut self, seed: u64, setting: &Setting) -> Self {
        let mut random = Rng::with_seed(seed ^ OWN);
        if random.bool() {
            let wall = if random.bool() { Wall::Ahead } else { Wall::Behind };
            self.wall = Some((random.usize(..setting.nodes), wall));
        }
        self
    }
}
