//! Polls, and takes what they find.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use leasehold_core::artifact::ArtifactError;
use leasehold_core::clock::{BootClock, Clock};
use leasehold_core::control::{FIRE, POLL};
use leasehold_core::status::Condition;
use tokio::task::JoinHandle;

use super::{MAX_BYTES, Polled, wall};
use crate::error::Error;
use crate::poller::Batch;
use crate::schedule::Found;

impl Polled {
    pub(super) fn begin_poll(&mut self) {
        let (poller, lease) = (Arc::clone(&self.poller), self.lease.clone());
        let (cursor, room) = (self.cursor.clone(), self.polling.batch);
        let has_begun = Arc::clone(&self.has_begun);
        // On a task of its own: the engine drops whoever waits for it whenever something else happens.
        self.under_way = Some(tokio::spawn(async move {
            lease.check()?;
            if !has_begun.load(Ordering::Acquire) {
                poller.begin(&lease).await?;
                has_begun.store(true, Ordering::Release);
            }
            lease.check()?;
            poller.poll(cursor.as_ref(), room, &lease).await
        }));
    }

    /// Takes what a poll found.
    pub(super) fn take(&mut self, polled: Result<Batch, Error>) -> Result<(), ArtifactError> {
        let found = match polled {
            Ok(batch) => {
                let Batch { mut items, next, more, problem } = batch;
                self.show(match problem {
                    Some(problem) => Condition::Impaired(problem.into()),
                    None => Condition::Working(self.poller.place().into()),
                });
                let found = match (more, items.is_empty()) {
                    (true, _) => Found::More,
                    (false, false) => Found::Something,
                    (false, true) => Found::Nothing,
                };
                if found == Found::Nothing {
                    self.suspects = 0;
                }
                let last = items.iter().rev().find_map(|item| item.cursor.clone());
                match items.last_mut() {
                    Some(last) if last.cursor.is_none() => last.cursor = next.clone(),
                    Some(_) => {}
                    None => {
                        if let Some(reached) = self.marks.pass_to(next.clone()) {
                            self.saving.reached(reached);
                        }
                    }
                }
                self.cursor = next.or(last).or(self.cursor.take());
                self.waiting.extend(items);
                found
            }
            Err(error) if error.is_lost() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(artifact = %self.lease.artifact(), %error, "a poll failed");
                self.show(Condition::Impaired(error.to_string().into()));
                Found::Error(error.after())
            }
        };
        self.found = found;
        self.due = self.pace.next(found, BootClock.now(), wall(&self.lease));
        Ok(())
    }

    pub(super) fn show(&mut self, condition: Condition) {
        if self.shown.as_ref() != Some(&condition) {
            self.shown = Some(condition.clone());
            self.lease.report(condition);
        }
    }

    /// Takes a command away, on a task of its own: it is not to be lost when whoever waits for it is dropped.
    pub(super) fn take_command(&mut self) {
        let lease = self.lease.clone();
        self.taking = Some(tokio::spawn(async move { lease.take_command().await }));
    }

    /// A command that was taken away, or that there is none.
    pub(super) fn obey(&mut self, verb: Option<String>) {
        match verb.as_deref() {
            None => {}
            Some(POLL | FIRE) => {
                self.due = BootClock.now();
                self.take_command();
            }
            Some(verb) => {
                tracing::warn!(artifact = %self.lease.artifact(), verb, "a polling endpoint knows no such command; it is dropped");
                self.take_command();
            }
        }
    }

    /// Whether a poll may begin.
    pub(super) fn may_poll(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty() && self.marks.room() > 0 && self.bytes < MAX_BYTES
    }

    pub(super) fn is_idle(&self) -> bool {
        let nothing = self.under_way.is_none() && self.waiting.is_empty() && self.handed.is_empty();
        nothing && self.marks.is_done() && matches!(self.found, Found::Nothing | Found::Something)
    }
}

/// What a task brings; pends for ever without one. Cancellation safe.
pub(super) async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, ArtifactError> {
    match task {
        Some(task) => match task.await {
            Ok(brought) => Ok(brought),
            Err(error) if error.is_panic() => Err(ArtifactError::message("the poller panicked")),
            Err(_) => Err(ArtifactError::message("the runtime shuts down")),
        },
        None => std::future::pending().await,
    }
}
