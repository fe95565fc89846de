//! Evenly over all nodes.

use std::collections::VecDeque;

use super::{Problem, ResolveError, Resolver};

/// Free artifacts go, in the order of their names, to the eligible node that has the fewest. What is held stays
/// where it is, unless it is to be rebalanced: then the fewest moves are made after which no node has two more than
/// another that could take one.
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
        let mut chosen = Vec::with_capacity(problem.items.len());
        for item in &problem.items {
            let outdated = item.movable && item.current.is_some_and(|at| !item.eligible.contains(&at));
            let stays = item.current.filter(|_| !outdated);
            chosen.push(stays.or_else(|| {
                let least = least(&item.eligible, &load)?;
                if let Some(from) = item.current {
                    load[from] = load[from].saturating_sub(1);
                }
                load[least] += 1;
                Some(least)
            }));
        }
        level(problem, &mut load, &mut chosen);
        Ok(chosen)
    }
}

fn least(eligible: &[usize], load: &[usize]) -> Option<usize> {
    eligible.iter().copied().min_by_key(|&index| (load[index], index))
}

/// Takes from whoever has most what somebody else has two fewer for, in the order of names: the same choice again,
/// when half of the moves have been made.
fn level(problem: &Problem, load: &mut [usize], chosen: &mut [Option<usize>]) {
    let mut movable: Vec<VecDeque<usize>> = vec![VecDeque::new(); problem.candidates.len()];
    for (index, item) in problem.items.iter().enumerate() {
        if let (true, Some(at)) = (item.movable, item.current.filter(|_| chosen[index] == item.current)) {
            movable[at].push_back(index);
        }
    }
    let busiest = |load: &[usize], movable: &[VecDeque<usize>]| {
        let able = (0..load.len()).filter(|&at| !movable[at].is_empty());
        able.max_by_key(|&at| (load[at], std::cmp::Reverse(at)))
    };
    while let Some(from) = busiest(load, &movable) {
        let Some(index) = movable[from].pop_front() else { return };
        if let Some(to) = least(&problem.items[index].eligible, load)
            && load[to] + 2 <= load[from]
        {
            load[from] -= 1;
            load[to] += 1;
            chosen[index] = Some(to);
        }
    }
}
