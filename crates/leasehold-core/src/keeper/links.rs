//! The keeper's calls: each on a connection of its own while it lasts, few at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Input;
use crate::clock::{Clock, Instant};
use crate::name::ClusterName;
use crate::proof::Proof;
use crate::protocol::request::Request;
use crate::protocol::{Call, CallId};
use crate::store::{Link, StoreError, Target};

/// A second connection is closed when calls have not overlapped for so long.
const KEEP_SPARE: Duration = Duration::from_secs(10);

/// So many calls at once, the others wait; renewals never do. A node alone needs two, and three while one overruns; the
/// rest is for a leader that expires many sessions at the same moment.
const MAX_CALLS: usize = 5;

/// The connections of one keeper.
pub(super) struct Lane {
    pub(super) target: Target,
    pub(super) cluster: ClusterName,
    clock: Arc<dyn Clock>,
    idle: Mutex<Vec<(Link, Instant)>>,
}

impl Lane {
    pub(super) fn new(target: Target, cluster: ClusterName, clock: Arc<dyn Clock>) -> Self {
        Self { target, cluster, clock, idle: Mutex::default() }
    }

    /// Runs `call` on an idle connection, or on a new one.
    pub(super) async fn run<T>(
        &self,
        call: impl AsyncFnOnce(&Link) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let spare = self.idle().pop();
        let link = match spare {
            Some((link, _)) => link,
            None => Link::open(&self.target).await?,
        };
        let done = call(&link).await;
        // After an error the connection may be in any state; a new one costs little.
        if done.is_ok() {
            let now = self.clock.now();
            let mut idle = self.idle();
            idle.retain(|(_, used)| now.since(*used) < KEEP_SPARE);
            idle.push((link, now));
        }
        done
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Link, Instant)>> {
        // Nobody panics while holding it, and a list of connections has no invariant to break.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Flight {
    id: CallId,
    since: Instant,
    task: AbortHandle,
}

/// The calls under way.
pub(super) struct Links {
    lane: Arc<Lane>,
    inputs: mpsc::UnboundedSender<Input>,
    /// The protocol waits for no answer longer than this.
    patience: Duration,
    /// Hears of sessions before they join.
    proof: Proof,
    flying: Vec<Flight>,
    waiting: VecDeque<Call>,
}

impl Links {
    pub(super) fn new(
        lane: Arc<Lane>,
        inputs: mpsc::UnboundedSender<Input>,
        patience: Duration,
        proof: Proof,
    ) -> Self {
        Self { lane, inputs, patience, proof, flying: Vec::new(), waiting: VecDeque::new() }
    }

    /// Makes a call on a task of its own. A call that the protocol gave up finishes by itself, and its answer is
    /// ignored there.
    pub(super) fn send(&mut self, call: Call) {
        self.abandon();
        if self.flying.len() < MAX_CALLS || matches!(call.request, Request::Renew { .. }) {
            self.fly(call);
        } else {
            self.waiting.push_back(call);
        }
    }

    /// A call has ended: there is room for one that waits.
    pub(super) fn landed(&mut self, id: CallId) {
        self.flying.retain(|flight| flight.id != id);
        if self.flying.len() < MAX_CALLS
            && let Some(call) = self.waiting.pop_front()
        {
            self.fly(call);
        }
    }

    fn fly(&mut self, call: Call) {
        let since = self.lane.clock.now();
        let Call { id, request } = call;
        let (inputs, lane) = (self.inputs.clone(), Arc::clone(&self.lane));
        let proof = self.proof.clone();
        let task = tokio::spawn(async move {
            if let Request::Join { node, .. } = &request {
                proof.announce(node.session).await;
            }
            let done = lane.run(async |link| link.call(&lane.cluster, &request).await).await;
            // The keeper may have stopped meanwhile.
            let _ = inputs.send(Input::Answer { id, sent: since, result: done.map_err(Into::into) });
        });
        self.flying.push(Flight { id, since, task: task.abort_handle() });
    }

    /// Cuts off calls that nobody waits for any more: their connections are black holes, and each new call
    /// would add another. Each is one autocommit statement on a connection that goes with it. Not so on SQLite, where a
    /// batch holds a transaction; it waits for nothing but locks, for a bounded time.
    fn abandon(&mut self) {
        if self.lane.target.backend() == sea_orm::DbBackend::Sqlite {
            return;
        }
        let (now, limit) = (self.lane.clock.now(), self.patience);
        self.flying.retain(|flight| {
            let waited_for = now.since(flight.since) < limit;
            if !waited_for {
                flight.task.abort();
            }
            waited_for
        });
    }

    /// Listens for hints, where the database can give them; again and again while the keeper lives.
    #[cfg(feature = "postgres")]
    pub(super) fn listen(&self) {
        if self.lane.target.backend() != sea_orm::DbBackend::Postgres {
            return;
        }
        let (lane, inputs) = (Arc::clone(&self.lane), self.inputs.clone());
        tokio::spawn(async move {
            loop {
                if let Ok(mut listener) = crate::store::Listener::open(&lane.target, &lane.cluster).await {
                    while listener.recv().await.is_ok() {
                        if inputs.send(Input::Notified).is_err() {
                            return;
                        }
                    }
                }
                // Without hints the node is slower by a watch, not wrong; there is no hurry.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    /// No database of this build gives hints.
    #[cfg(not(feature = "postgres"))]
    pub(super) fn listen(&self) {}
}
