//! Writes progress down, one after the other.

use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::clock::{BootClock, Clock, Instant};
use leasehold_core::lease::Lease;
use tokio::task::JoinHandle;

use super::marks::To;
use crate::attempts::{self, Attempts};
use crate::once::CURSOR;
use crate::poller::Cursor;

/// Writes on tasks of their own, never two at once: an older one cannot overtake a newer one.
pub(super) struct Saving {
    lease: Lease,
    /// Not written yet.
    cursor: Option<Cursor>,
    /// When the last one was.
    at: Instant,
    under_way: Option<JoinHandle<Result<(), Error>>>,
}

impl Saving {
    pub(super) fn new(lease: Lease) -> Self {
        Self { lease, cursor: None, at: BootClock.now(), under_way: None }
    }

    pub(super) fn reached(&mut self, to: To) {
        self.cursor = match to {
            To::Write(cursor) => Some(cursor),
            To::Written => None,
        };
    }

    /// When the cursor is to be written, if it is.
    pub(super) fn due(&self, lag: Duration) -> Option<Instant> {
        self.cursor.as_ref().map(|_| self.at + lag)
    }

    /// Writes the cursor, if it has moved. Cancellation safe.
    pub(super) async fn cursor(&mut self) -> Result<(), Error> {
        self.arrived().await?;
        let Some(cursor) = self.cursor.take() else { return Ok(()) };
        self.at = BootClock.now();
        self.write(CURSOR, cursor.to_string()).await
    }

    /// Writes attempts, if they have changed. Cancellation safe.
    pub(super) async fn attempts(&mut self, attempts: &mut Attempts) -> Result<(), Error> {
        self.arrived().await?;
        let Some(text) = attempts.take_changed() else { return Ok(()) };
        self.write(attempts::KEY, text).await
    }

    async fn write(&mut self, key: &'static str, value: String) -> Result<(), Error> {
        let lease = self.lease.clone();
        self.under_way = Some(tokio::spawn(async move { lease.save(key, value).await }));
        self.arrived().await
    }

    /// Waits for what is under way.
    async fn arrived(&mut self) -> Result<(), Error> {
        let Some(task) = &mut self.under_way else { return Ok(()) };
        let written = task.await;
        self.under_way = None;
        // It neither panics nor is aborted; the runtime may shut down.
        written.unwrap_or(Err(Error::Left))
    }
}
