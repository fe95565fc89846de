//! A message whose effect has committed is not handled again, where progress is kept in the database.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use leasehold_core::handler::{Handler, HandlerError, SharedHandler};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;

/// Looks, before a message is handled that was handed over already, whether that attempt has recorded it: it may have failed
/// after its commit, or have ended after its partition was lost and assigned anew, from a checkpoint that was read before.
/// The order of such a partition makes the later attempt wait for the earlier one, so that what it finds is the last word.
pub(super) struct Once {
    inner: SharedHandler,
    /// By checkpoint: the progress of the message that was handed over last.
    handed: Mutex<HashMap<String, u64>>,
}

impl Once {
    pub(super) fn new(inner: SharedHandler) -> Self {
        Self { inner, handed: Mutex::default() }
    }

    /// Whether it was handed over in this run already.
    fn again(&self, key: &str, value: u64) -> bool {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        match handed.get_mut(key) {
            Some(last) => std::mem::replace(last, value) == value,
            None => {
                handed.insert(key.to_owned(), value);
                false
            }
        }
    }
}

#[async_trait]
impl Handler for Once {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        let progress = message.parts().progress.as_ref();
        if let Some(progress) = progress.filter(|progress| self.again(progress.key(), progress.value())) {
            // Not beyond: a topic that was made anew begins below what is stored.
            if progress.is_written(&lease).await? {
                return Ok(());
            }
        }
        self.inner.handle(message, lease).await
    }
}
