//! Evenly over all nodes.

use super::{Problem, ResolveError, Resolver};

/// Free artifacts go, in the order of their names, to the eligible node that has the fewest. What is held stays
/// where it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl RoundRobin {
    /// The name in placements.
    pub const NAME: &'static str = "round-robin";
}

impl Resolver for RoundRobin {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn resolve(&self, problem: &Problem) -> Result<Vec<Option<usize>>, ResolveError> {
        let mut load: Vec<usize> = problem.candidates.iter().map(|candidate| candidate.load).collect();
        let mut place = |eligible: &[usize]| {
            let least = eligible.iter().copied().min_by_key(|&index| (load[index], index))?;
            load[least] += 1;
            Some(least)
        };
        Ok(problem.items.iter().map(|item| item.current.or_else(|| place(&item.eligible))).collect())
    }
}
