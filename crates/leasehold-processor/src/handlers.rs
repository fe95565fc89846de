//! Handlers that other endpoints use.

use std::sync::Arc;

use async_trait::async_trait;
use leasehold_core::handler::{Handler, HandlerError};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;

use crate::outgoing::Outgoing;
use crate::store::MessageStore;

/// Appends each message to a store: what an inbound endpoint receives, to be forwarded later, from here or from another
/// replica. It keeps id, key, headers, content type and payload. A message that comes again is appended again, with the same id.
#[derive(Clone, Debug)]
pub struct Store(Arc<dyn MessageStore>);

impl Store {
    /// To this store.
    pub fn to(store: impl MessageStore) -> Self {
        Self(Arc::new(store))
    }
}

#[async_trait]
impl Handler for Store {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        lease.check()?;
        match self.0.append_all(&[Outgoing::from(&message)]).await {
            Ok(()) => Ok(()),
            Err(error @ crate::Error::Invalid { .. }) => Err(HandlerError::reject(error)),
            Err(error) => Err(error.into()),
        }
    }
}
