//! Progress in the handler's own transaction.

use async_trait::async_trait;
use leasehold_core::Error;
use leasehold_core::handler::{Handler, HandlerError, SharedHandler};
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, Record};
use sea_orm::DatabaseTransaction;

use crate::poller::Cursor;

/// The checkpoint of the cursor.
pub(crate) const CURSOR: &str = "cursor";

/// Writes where the next holder goes on.
#[derive(Debug)]
pub(crate) struct Reached(pub(crate) Cursor);

#[async_trait]
impl Record for Reached {
    async fn write(&self, lease: &Lease, txn: &DatabaseTransaction) -> Result<(), Error> {
        lease.checkpoint(txn, CURSOR, &self.0).await
    }

    async fn is_written(&self, lease: &Lease) -> Result<bool, Error> {
        Ok(lease.load(CURSOR).await?.is_some_and(|stored| stored == self.0.to_string()))
    }
}

/// A message whose effect has committed is not handled again: before another attempt it looks whether an earlier one, which
/// failed after its commit, has recorded it.
pub(crate) struct Once(pub(crate) SharedHandler);

#[async_trait]
impl Handler for Once {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        if message.is_redelivered()
            && let Some(progress) = &message.parts().progress
            && progress.is_written(&lease).await?
        {
            return Ok(());
        }
        self.0.handle(message, lease).await
    }
}
