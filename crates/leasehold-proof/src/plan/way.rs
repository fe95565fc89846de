//! How replicas consume a topic: drawn beside the rest, too.

use std::fmt;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Sets it apart from the other draws.
const OWN: u64 = 0x776f_6873;

/// How replicas consume a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// As the static member of a group of the classic protocol, which keeps the offsets.
    #[default]
    Classic,
    /// As a member of a group of the protocol of KIP-848, which keeps the offsets.
    NewProtocol,
    /// The database keeps the offsets: each message has an effect there, in the transaction that moves its offset.
    InDatabase,
}

impl Way {
    /// One of them, from a seed.
    pub(crate) fn of_seed(seed: u64) -> Self {
        [Self::Classic, Self::NewProtocol, Self::InDatabase][Rng::with_seed(seed ^ OWN).usize(..3)]
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "the classic protocol",
            Self::NewProtocol => "the protocol of KIP-848",
            Self::InDatabase => "offsets in the database",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_of_the_short_rounds_draw_each_way() {
        let mut ways: Vec<_> = (41..44).map(Way::of_seed).collect();
        ways.sort_unstable();
        assert_eq!(ways, [Way::Classic, Way::NewProtocol, Way::InDatabase]);
    }
}
