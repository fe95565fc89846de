//! What handlers did, and under which tokens: for effects that a database does not fence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leasehold_core::lease::Lease;

/// Stands for whatever a handler has an effect on, and writes down what it gets. Clones write into the same book.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Effect>>>);

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// For which artifact.
    pub artifact: String,
    /// Under which token.
    pub token: i64,
    /// What.
    pub what: String,
}

impl Recorder {
    /// Something is done under a lease, whether it is held or not: nobody looks.
    pub fn effect(&self, lease: &Lease, what: impl Into<String>) {
        let (artifact, token) = (lease.artifact().to_string(), lease.token().0);
        self.effects_mut().push(Effect { artifact, token, what: what.into() });
    }

    /// All that was done, in order.
    pub fn effects(&self) -> Vec<Effect> {
        self.effects_mut().clone()
    }

    /// What was done under a token after something had been done under a higher one: a holder that was paused woke up, and did
    /// what was not its to do any more.
    pub fn stale(&self) -> Vec<Effect> {
        let mut highest = BTreeMap::new();
        let stale = |effect: &Effect| {
            let known = highest.entry(effect.artifact.clone()).or_insert(effect.token);
            *known = effect.token.max(*known);
            effect.token < *known
        };
        let effects = self.effects();
        let mut is_stale = stale;
        effects.into_iter().filter(|effect| is_stale(effect)).collect()
    }

    /// # Panics
    /// When something was done under a token lower than one that was seen before.
    pub fn assert_no_effect_with_old_token(&self) {
        let stale = self.stale();
        assert!(stale.is_empty(), "done under a lease that had been lost: {stale:#?}");
    }

    fn effects_mut(&self) -> MutexGuard<'_, Vec<Effect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
