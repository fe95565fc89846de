//! Runs artifacts on the user's runtime, one run per grant, and takes their leases back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::DatabaseConnection;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Input, Reporter};
use crate::artifact::SharedArtifact;
use crate::clock::{Clock, Instant};
use crate::common::Common;
use crate::lease::Lease;
use crate::name::{ArtifactName, ClusterName};
use crate::protocol::action::{Outcome, Revocation};
use crate::protocol::rules::Rules;
use crate::protocol::{SessionId, Token};
use crate::schedule_clock::ScheduleClock;
use crate::store::LeaseKey;

struct Run {
    lease: Lease,
    task: AbortHandle,
}

/// The runs of a node.
pub(super) struct Supervisor {
    cluster: ClusterName,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    schedule: ScheduleClock,
    work: DatabaseConnection,
    artifacts: HashMap<ArtifactName, SharedArtifact>,
    inputs: mpsc::UnboundedSender<Input>,
    ttl: Duration,
    rules: Rules,
    session: Option<(SessionId, Arc<Common>)>,
    runs: HashMap<ArtifactName, Run>,
    /// Resolves when the last run of an artifact is really gone: a future that blocks its thread cannot be dropped.
    gone: HashMap<ArtifactName, CancellationToken>,
}

impl Supervisor {
    #[expect(clippy::too_many_arguments, reason = "made in one place")]
    pub(super) fn new(
        cluster: ClusterName,
        runtime: Handle,
        clock: Arc<dyn Clock>,
        schedule: ScheduleClock,
        work: DatabaseConnection,
        artifacts: Vec<SharedArtifact>,
        inputs: mpsc::UnboundedSender<Input>,
        ttl: Duration,
        rules: Rules,
    ) -> Self {
        let (session, runs, gone) = (None, HashMap::new(), HashMap::new());
        let artifacts = by_name(artifacts);
        Self { cluster, runtime, clock, schedule, work, artifacts, inputs, ttl, rules, session, runs, gone }
    }

    /// A session has begun; it is not trusted before its first renewal.
    pub(super) fn begin(&mut self, session: SessionId) {
        self.session = Some((session, Arc::default()));
    }

    /// The session was renewed.
    pub(super) fn trust(&self, until: Instant) {
        if let Some((_, common)) = &self.session {
            common.trust.extend(until);
        }
    }

    /// The session is over: no lease of it is valid any more.
    pub(super) fn over(&mut self) {
        if let Some((_, common)) = self.session.take() {
            common.trust.end();
        }
        for (_, run) in self.runs.drain() {
            run.lease.revoke(Revocation::SessionOver, Instant::ZERO);
            run.lease.end();
            run.task.abort();
        }
    }

    /// Replaces the set of artifacts. Runs of those that are gone go on until they are revoked.
    pub(super) fn deploy(&mut self, artifacts: Vec<SharedArtifact>) {
        self.artifacts = by_name(artifacts);
    }

    pub(super) fn start(&mut self, name: ArtifactName, token: Token) {
        let (Some((session, common)), Some(artifact)) = (&self.session, self.artifacts.get(&name)) else {
            return;
        };
        let key =
            LeaseKey { cluster: self.cluster.clone(), artifact: name.clone(), token, session: *session };
        let (clock, schedule) = (Arc::clone(&self.clock), self.schedule.clone());
        let reporter = Reporter(self.inputs.clone());
        let lease =
            Lease::new(key, Arc::clone(common), clock, schedule, self.work.clone(), reporter, self.ttl);
        let gone = CancellationToken::new();
        let before = self.gone.insert(name.clone(), gone.clone());
        let (artifact, given) = (Arc::clone(artifact), lease.clone());
        let span = tracing::info_span!("leasehold.run", cluster = %self.cluster, artifact = %name, %token);
        let run = async move {
            // Two runs of one artifact never overlap in a process, even if the earlier one cannot be dropped.
            if let Some(before) = before {
                before.cancelled().await;
            }
            artifact.run(given).await
        };
        let task = self.runtime.spawn(run.instrument(span));
        let abort = task.abort_handle();
        let (inputs, ending) = (self.inputs.clone(), lease.clone());
        let ended = name.clone();
        // On the keeper's own runtime: it must learn of an end though the user's is blocked.
        tokio::spawn(async move {
            let outcome = match task.await {
                Ok(Ok(())) => Outcome::Returned,
                Ok(Err(error)) => Outcome::Failed(error.to_string().into()),
                Err(error) => Outcome::Failed(panic_text(error).into()),
            };
            ending.end();
            gone.cancel();
            // The keeper may have stopped meanwhile.
            let _ = inputs.send(Input::Ended { artifact: ended, token, outcome });
        });
        self.runs.insert(name, Run { lease, task: abort });
    }

    pub(super) fn command(&self, name: &ArtifactName, token: Token, command: i64) {
        if let Some(run) = self.runs.get(name).filter(|run| run.lease.token() == token) {
            run.lease.command(command);
        }
    }

    pub(super) fn revoke(&self, name: &ArtifactName, token: Token, why: Revocation, deadline: Instant) {
        if let Some(run) = self.runs.get(name).filter(|run| run.lease.token() == token) {
            run.lease.revoke(why, deadline);
            if !self.rules.releases_after_drain() {
                let (artifact, outcome) = (name.clone(), Outcome::Returned);
                let _ = self.inputs.send(Input::Ended { artifact, token, outcome });
            }
        }
    }

    pub(super) fn stop(&mut self, name: &ArtifactName, token: Token, why: Revocation) {
        if self.runs.get(name).is_some_and(|run| run.lease.token() == token)
            && let Some(run) = self.runs.remove(name)
        {
            run.lease.revoke(why, Instant::ZERO);
            run.lease.end();
            run.task.abort();
        }
    }
}

fn by_name(artifacts: Vec<SharedArtifact>) -> HashMap<ArtifactName, SharedArtifact> {
    artifacts.into_iter().map(|artifact| (artifact.name().clone(), artifact)).collect()
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let panic = error.try_into_panic();
    panic.map_or_else(|_| "the run was dropped".to_owned(), |panic| crate::panic::text(panic.as_ref()))
}
