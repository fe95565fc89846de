//! Resolvers without chance, so that a scenario says who gets what.

use leasehold_core::resolver::{Problem, ResolveError, Resolver};

/// Whom a resolver prefers, in the order in which the nodes joined.
#[derive(Clone, Copy, Debug)]
pub enum Prefer {
    /// The oldest; what is held stays.
    First,
    /// The youngest; what is held stays.
    Last,
    /// The youngest; what is held moves there.
    Follow,
}

impl Resolver for Prefer {
    fn name(&self) -> &str {
        match self {
            Self::First => "first",
            Self::Last => "last",
            Self::Follow => "follow",
        }
    }

    fn resolve(&self, problem: &Problem) -> Result<Vec<Option<usize>>, ResolveError> {
        let choose = |item: &leasehold_core::resolver::Item| match self {
            Self::First => item.current.or(item.eligible.first().copied()),
            Self::Last => item.current.or(item.eligible.last().copied()),
            Self::Follow => item.eligible.last().copied(),
        };
        Ok(problem.items.iter().map(choose).collect())
    }
}
