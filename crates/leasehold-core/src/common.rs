//! What the leases of one session have in common.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Instant;

/// Shared by the leases of one session.
#[derive(Default)]
pub(crate) struct Common {
    pub(crate) trust: Trust,
    /// Of plugins, by type.
    values: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Common {
    /// The session's only value of this type.
    pub(crate) fn value<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let value = Arc::clone(values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::<T>::default()));
        // What stands under the id of a type is of that type.
        value.downcast().unwrap_or_default()
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").field("trust", &self.trust).finish_non_exhaustive()
    }
}

/// Until when a session may be trusted. Computed from the clock, so that a thread that is not scheduled cannot keep a
/// lease valid.
#[derive(Debug, Default)]
pub(crate) struct Trust(AtomicU64);

impl Trust {
    pub(crate) fn extend(&self, until: Instant) {
        self.0.fetch_max(until.as_nanos(), Ordering::AcqRel);
    }

    /// The session is over.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    pub(crate) fn until(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_value_of_each_type() {
        #[derive(Default)]
        struct Count(AtomicU64);
        let common = Common::default();
        common.value::<Count>().0.fetch_add(1, Ordering::Relaxed);
        assert_eq!(common.value::<Count>().0.load(Ordering::Relaxed), 1);
        assert_eq!(*common.value::<u8>(), 0);
        assert_eq!(Common::default().value::<Count>().0.load(Ordering::Relaxed), 0);
    }
}
