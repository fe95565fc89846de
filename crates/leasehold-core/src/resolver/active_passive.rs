//! Everything on one node.

use super::{Problem, ResolveError, Resolver};

/// Everything on one random live node; the others stand by. What is held stays where it is, also when the leader
/// changes. An artifact that the active node may not run goes to the next one in the same order.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActivePassive;

impl ActivePassive {
    /// The name in placements.
    pub const NAME: &'static str = "active-passive";
}

impl Resolver for ActivePassive {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn resolve(&self, problem: &Problem) -> Result<Vec<Option<usize>>, ResolveError> {
        let mut held = vec![0_usize; problem.candidates.len()];
        for current in problem.items.iter().filter_map(|item| item.current) {
            held[current] += 1;
        }
        // The node that holds most is the active one; chance decides among equals, at the very start among all.
        let rank =
            |&index: &usize| (usize::MAX - held[index], problem.chance(problem.candidates[index].session));
        let mut order: Vec<usize> = (0..problem.candidates.len()).collect();
        order.sort_by_key(rank);
        let first = |eligible: &[usize]| order.iter().copied().find(|index| eligible.contains(index));
        // Rebalancing only brings together what chance or a failure has spread.
        let stays = |current: &usize, eligible: &[usize], movable: bool| {
            !movable || first(eligible).is_none_or(|first| first == *current)
        };
        let place = |item: &super::Item| {
            let current = item.current.filter(|at| stays(at, &item.eligible, item.movable));
            current.or_else(|| first(&item.eligible))
        };
        Ok(problem.items.iter().map(place).collect())
    }
}
