//! Placement: which node runs which artifact.
//!
//! A resolver is a **pure function**: the same problem gives the same answer, on whichever node leads. Chance comes
//! from the seed. It is asked with the current assignment in hand and decides what should be; how an artifact gets
//! there (a grant when it is free, a handover when it is held) is the planner's business.

mod active_passive;
mod round_robin;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use active_passive::ActivePassive;
pub use round_robin::RoundRobin;

use crate::name::{ArtifactName, NodeId};
use crate::protocol::SessionId;
use crate::protocol::request::Labels;

/// A node that may get artifacts.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its session.
    pub session: SessionId,
    /// Its id.
    pub node: NodeId,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// How many artifacts it holds now, of all resolvers.
    pub load: usize,
}

/// An artifact to place.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub artifact: ArtifactName,
    /// The candidates that may get it, as indices in ascending order. Never empty.
    pub eligible: Vec<usize>,
    /// The candidate that holds it now, if it may go on. Not among the eligible ones while those have a newer
    /// configuration: a holder runs its own.
    pub current: Option<usize>,
    /// It may move although somebody holds it: the placement asks for rebalancing, and the membership has settled.
    pub movable: bool,
}

/// What a resolver is asked.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The nodes, in the order in which they joined.
    pub candidates: Vec<Candidate>,
    /// The artifacts, in the order of their names.
    pub items: Vec<Item>,
    /// Differs between terms; the same within one.
    pub seed: u64,
}

impl Problem {
    /// A number that depends on the seed and on `of` only; for choices that should be random and repeatable.
    pub fn chance(&self, of: SessionId) -> u64 {
        // SplitMix64's finalizer: every input bit reaches every output bit.
        let (high, low) = of.0.as_u64_pair();
        let mut z = self.seed ^ high.rotate_left(32) ^ low;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A resolver that cannot answer. The leader gives the term up, so that a node that can plans instead.
#[derive(Clone, Debug, thiserror::Error)]
#[error("resolver {resolver:?}: {message}")]
pub struct ResolveError {
    /// The resolver.
    pub resolver: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// Decides which candidate runs which item.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The name under which placements refer to it.
    fn name(&self) -> &str;

    /// For each item the index of its candidate, or none to leave it without one. An index that is neither the item's
    /// `current` nor among its `eligible` counts as none.
    ///
    /// # Errors
    /// [`ResolveError`] when no answer can be given; the leader then yields the term.
    fn resolve(&self, problem: &Problem) -> Result<Vec<Option<usize>>, ResolveError>;
}

/// Resolvers by name.
#[derive(Clone, Debug)]
pub struct Resolvers(BTreeMap<String, Arc<dyn Resolver>>);

impl Default for Resolvers {
    fn default() -> Self {
        let mut all = Self(BTreeMap::new());
        all.add(Arc::new(ActivePassive));
        all.add(Arc::new(RoundRobin));
        all
    }
}

impl Resolvers {
    /// Adds a resolver under its name, in place of one that had it.
    pub fn add(&mut self, resolver: Arc<dyn Resolver>) {
        self.0.insert(resolver.name().to_owned(), resolver);
    }

    /// Whether there is a resolver of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The resolver of this name.
    ///
    /// # Errors
    /// [`ResolveError`] naming the ones there are.
    pub fn get(&self, name: &str) -> Result<&dyn Resolver, ResolveError> {
        self.0.get(name).map(AsRef::as_ref).ok_or_else(|| ResolveError {
            resolver: name.to_owned(),
            message: format!(
                "this node does not have it (it has {}); register it with NodeBuilder::add_resolver on every node",
                self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
        })
    }
}
