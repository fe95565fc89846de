//! The keeper: a thread of its own that renews, watches and supervises, whatever the user's runtime is doing.

mod links;
mod pulse;
mod supervisor;
mod trail;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use self::links::{Lane, Links};
use self::pulse::Pulse;
use self::supervisor::Supervisor;
use self::trail::Trail;
use crate::artifact::SharedArtifact;
use crate::clock::{Clock, Instant};
use crate::error::Error;
use crate::health::Vitals;
use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::proof::Proof;
use crate::protocol::action::{Outcome, RecordKind};
use crate::protocol::request::{Answer, CallError, Deployment};
use crate::protocol::{Action, CallId, Config, Event, Machine, SessionId, Token};
use crate::schedule_clock::{ScheduleClock, TOLERATED_SKEW};
use crate::status::{Condition, State, Status};
use crate::store::Target;
use crate::telemetry::NodeMeters;
use crate::wall;

/// What the keeper works with.
pub(crate) struct Setup {
    pub(crate) cluster: ClusterName,
    pub(crate) target: Target,
    pub(crate) work: sea_orm::DatabaseConnection,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) artifacts: Vec<SharedArtifact>,
    pub(crate) deployment: Deployment,
    pub(crate) vitals: Arc<Vitals>,
    /// Who may one day prove this process dead.
    pub(crate) proof: Proof,
    /// Where artifacts run: the runtime on which the node was started.
    pub(crate) runtime: Handle,
    pub(crate) yield_when_stalled: bool,
}

/// What the node's handle asks of its keeper.
pub(crate) enum Command {
    Deploy(Vec<SharedArtifact>, Deployment),
    Drain(bool),
    Leave,
}

/// What reaches the keeper.
pub(crate) enum Input {
    Command(Command),
    Answer {
        id: CallId,
        sent: Instant,
        result: Result<Answer, CallError>,
    },
    #[cfg(feature = "postgres")]
    Notified,
    Ended {
        artifact: ArtifactName,
        token: Token,
        outcome: Outcome,
    },
    Condition {
        artifact: ArtifactName,
        token: Token,
        condition: Condition,
    },
}

/// Where leases tell of the condition of what runs under them.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(mpsc::UnboundedSender<Input>);

impl Reporter {
    pub(crate) fn report(&self, artifact: &ArtifactName, token: Token, condition: Condition) {
        // The keeper may have stopped.
        let _ = self.0.send(Input::Condition { artifact: artifact.clone(), token, condition });
    }
}

/// Starts the thread.
///
/// # Errors
/// [`Error::System`] when the machine refuses the thread or its runtime.
pub(crate) fn spawn(setup: Setup) -> Result<(mpsc::UnboundedSender<Input>, watch::Receiver<Status>), Error> {
    let system = |operation| move |source| Error::System { operation, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("start the keeper's runtime"))?;
    let (inputs, inbox) = mpsc::unbounded_channel();
    let (publish, status) = watch::channel(Status::new(setup.cluster.clone(), setup.config.node.clone()));
    let sender = inputs.clone();
    std::thread::Builder::new()
        .name(format!("leasehold-{}", setup.cluster))
        .spawn(move || runtime.block_on(Keeper::new(setup, sender, inbox, publish).run()))
        .map_err(system("start the keeper's thread"))?;
    Ok((inputs, status))
}

struct Keeper {
    clock: Arc<dyn Clock>,
    machine: Machine,
    links: Links,
    proof: Proof,
    trail: Trail,
    supervisor: Supervisor,
    schedule: ScheduleClock,
    pulse: Pulse,
    inbox: mpsc::UnboundedReceiver<Input>,
    publish: watch::Sender<Status>,
    status: Status,
    vitals: Arc<Vitals>,
    meters: NodeMeters,
    /// The node was asked to drain by its handle, not for a stalled runtime.
    drained: bool,
    skew_warned: bool,
}

impl Keeper {
    fn new(
        setup: Setup,
        inputs: mpsc::UnboundedSender<Input>,
        inbox: mpsc::UnboundedReceiver<Input>,
        publish: watch::Sender<Status>,
    ) -> Self {
        let Setup {
            cluster, target, work, config, clock, artifacts, deployment, vitals, proof, runtime, ..
        } = setup;
        proof.keep();
        let node: NodeId = config.node.clone();
        let meters = NodeMeters::new(&cluster, &node);
        let schedule = ScheduleClock::new(Arc::clone(&clock));
        let pulse = Pulse::new(runtime.clone(), config.timings.stall, setup.yield_when_stalled);
        let lane = Arc::new(Lane::new(target, cluster.clone(), Arc::clone(&clock)));
        let patience = config.timings.patience();
        let links = Links::new(Arc::clone(&lane), inputs.clone(), patience, proof.clone());
        let trail = Trail::new(lane, node, Arc::clone(&clock), patience);
        let (given, ttl, rules) = (Arc::clone(&clock), config.timings.ttl, config.rules);
        let supervisor =
            Supervisor::new(cluster, runtime, given, schedule.clone(), work, artifacts, inputs, ttl, rules);
        let status = publish.borrow().clone();
        let machine = Machine::new(Arc::new(config), deployment).after(proof.dead.clone());
        Self {
            clock,
            machine,
            links,
            proof,
            trail,
            supervisor,
            schedule,
            pulse,
            inbox,
            publish,
            status,
            vitals,
            meters,
            drained: false,
            skew_warned: false,
        }
    }

    async fn run(mut self) {
        self.links.listen();
        let mut event = Event::Wake;
        loop {
            let actions = self.machine.handle(self.clock.now(), SessionId::fresh(), event);
            for action in actions {
                self.act(action);
            }
            self.trail.record();
            if self.machine.session().is_some_and(crate::protocol::Session::leads) {
                self.trail.trim();
            }
            let left = self.status.state == State::Left;
            if left {
                // Before anybody hears of it: who waited for the end of this node may end the process.
                self.trail.flush().await;
                self.proof.release();
            }
            self.publish();
            if left {
                return;
            }
            event = self.next().await;
        }
    }

    async fn next(&mut self) -> Event {
        loop {
            let wake = self.machine.next_wake().map(|at| at.since(self.clock.now()));
            let pulse = self.pulse.next();
            let pause = wake.map_or(pulse, |wake| wake.min(pulse));
            tokio::select! {
                biased;
                input = self.inbox.recv() => match input {
                    Some(input) => if let Some(event) = self.receive(input) { return event },
                    // Every handle and every run is gone.
                    None => return Event::Leave,
                },
                () = tokio::time::sleep(pause) => {
                    if let Some(stalled) = self.pulse.beat() {
                        self.status.runtime_stalled = stalled;
                        if self.pulse.yields() && !self.drained {
                            return Event::Drain(stalled);
                        }
                    }
                    if wake.is_some_and(|wake| wake <= pause) {
                        return Event::Wake;
                    }
                }
            }
        }
    }

    fn receive(&mut self, input: Input) -> Option<Event> {
        Some(match input {
            Input::Command(Command::Deploy(artifacts, deployment)) => {
                self.supervisor.deploy(artifacts);
                Event::Deploy(deployment)
            }
            Input::Command(Command::Drain(drain)) => {
                self.drained = drain;
                Event::Drain(drain)
            }
            Input::Command(Command::Leave) => Event::Leave,
            #[cfg(feature = "postgres")]
            Input::Notified => Event::Notified,
            Input::Answer { id, sent, result } => {
                self.links.landed(id);
                self.note(sent, &result);
                Event::Answer { id, result }
            }
            Input::Condition { artifact, token, condition } => {
                self.status.report(&artifact, token, condition);
                self.publish();
                return None;
            }
            Input::Ended { artifact, token, outcome } => {
                self.status.note_end(&artifact, token, &outcome);
                Event::Ended { artifact, token, outcome }
            }
        })
    }

    /// What an answer says besides what the protocol needs.
    fn note(&mut self, sent: Instant, result: &Result<Answer, CallError>) {
        match result {
            Ok(answer) => {
                self.status.database_error = None;
                let now = self.clock.now();
                self.vitals.seen(now);
                if let Answer::Renewed { view, .. } = answer {
                    self.meters.renewal.record(now.since(sent));
                    self.schedule.sample(view.wall_ms, sent, now);
                    self.warn_of_skew(view.wall_ms);
                }
            }
            Err(error) => {
                tracing::debug!(error = %error.message, "a call to the database failed");
                self.status.database_error = Some(Arc::clone(&error.message));
            }
        }
    }

    fn warn_of_skew(&mut self, wall_ms: i64) {
        let skew = (wall::now_ms() - wall_ms).unsigned_abs();
        let off = Duration::from_millis(skew) > TOLERATED_SKEW;
        if off && !self.skew_warned {
            tracing::warn!(
                skew_ms = skew,
                "this node's wall clock differs from the database's; schedules follow the database's"
            );
        }
        self.skew_warned = off;
    }

    fn act(&mut self, action: Action) {
        self.trail.note(&action);
        match action {
            Action::Call(call) => self.links.send(call),
            Action::Joined { session } => {
                self.supervisor.begin(session);
                self.status.joined(session);
                tracing::info!(%session, "joined the cluster");
            }
            Action::Trusted { until } => {
                self.supervisor.trust(until);
                self.vitals.trust(until);
                self.status.trusted();
            }
            Action::Over { session, why } => {
                self.supervisor.over();
                self.vitals.trust(Instant::ZERO);
                self.status.over();
                self.meters.sessions_lost.increment(1);
                tracing::warn!(%session, why, "the session is over; joining again");
            }
            Action::Start { artifact, token } => {
                tracing::info!(%artifact, %token, "lease granted");
                self.status.start(&artifact, token);
                self.meters.grants.increment(1);
                self.supervisor.start(artifact, token);
            }
            Action::Command { artifact, token, command } => {
                self.supervisor.command(&artifact, token, command);
            }
            Action::Revoke { artifact, token, why, deadline } => {
                tracing::info!(%artifact, %token, %why, "lease revoked");
                self.status.revoke(&artifact, token);
                self.supervisor.revoke(&artifact, token, why, deadline);
            }
            Action::Stop { artifact, token, why } => {
                tracing::warn!(%artifact, %token, %why, "run cut off");
                self.status.stop(&artifact, token);
                self.supervisor.stop(&artifact, token, why);
            }
            Action::Refused(refusal) => self.status.refuse(refusal),
            Action::Record(record) => {
                match record.kind {
                    RecordKind::Expired => self.meters.expiries.increment(1),
                    // One without an artifact is a resolver's.
                    RecordKind::Failed if record.artifact.is_some() => self.meters.failures.increment(1),
                    _ => {}
                }
                tracing::info!(kind = record.kind.as_str(), detail = %record.detail, "cluster")
            }
            Action::Left => {
                self.supervisor.over();
                self.vitals.trust(Instant::ZERO);
                self.status.left();
            }
        }
    }

    fn publish(&mut self) {
        // A burst of ends is shown at once: each snapshot of a node that runs thousands is a copy of its map.
        if !self.inbox.is_empty() && self.status.state != State::Left {
            return;
        }
        let leads = self.machine.session().is_some_and(crate::protocol::Session::leads);
        self.status.leads = leads;
        self.meters.leader.set(if leads { 1.0 } else { 0.0 });
        #[allow(clippy::cast_precision_loss, reason = "a node runs fewer than 2^52 artifacts")]
        self.meters.held.set(self.status.running.len() as f64);
        self.meters.trust.set(self.vitals.trusted_until().since(self.clock.now()).as_secs_f64());
        if *self.publish.borrow() != self.status {
            self.publish.send_replace(self.status.clone());
        }
    }
}
