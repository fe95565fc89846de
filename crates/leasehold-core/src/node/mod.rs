//! One replica's part in a cluster.

mod builder;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

pub use builder::{Database, NodeBuilder};

use crate::artifact::{Artifact, SharedArtifact};
use crate::control::Control;
use crate::error::Error;
use crate::health::{Health, HealthProbe};
use crate::keeper::{Command, Input};
use crate::name::{ArtifactName, ClusterName};
use crate::protocol::request::Request;
use crate::status::{State, Status};
use crate::store::{Link, Target};

/// One replica's part in a cluster: joins, runs what it is given, and leaves.
///
/// Dropping a node leaves the cluster as far as possible without waiting: its artifacts are asked to end, and its
/// leases are handed over while the process lives on. [`shutdown`](Node::shutdown) waits for that.
pub struct Node {
    cluster: ClusterName,
    target: Target,
    inputs: mpsc::UnboundedSender<Input>,
    probe: HealthProbe,
    artifacts: Mutex<Vec<SharedArtifact>>,
    defaults: builder::Defaults,
}

impl Node {
    /// A node on this database: a URL, or a connection of sea-orm's.
    pub fn builder(database: impl Into<Database>) -> NodeBuilder {
        NodeBuilder::new(database.into())
    }

    /// What the node shows of itself, as a channel that brings every change.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.probe.status.clone()
    }

    /// Whether the node is well, now: [`health`](crate::health) says which of it is for which probe.
    pub fn health(&self) -> Health {
        self.probe.health()
    }

    /// The same for somebody else to ask at any time.
    pub fn health_probe(&self) -> HealthProbe {
        self.probe.clone()
    }

    /// The same over HTTP, for axum and whatever else speaks tower: `…/live` and `…/ready`.
    #[cfg(feature = "health")]
    pub fn health_service(&self) -> crate::health::HealthService {
        crate::health::HealthService(self.probe.clone())
    }

    /// Deploys one more artifact. The cluster learns of it with the next write of the session.
    ///
    /// # Errors
    /// [`Error::Artifact`] when its name is deployed already, or its configuration cannot work. [`Error::Store`] when
    /// the database refuses it, for example because the name belongs to another kind. [`Error::Left`].
    pub async fn deploy(&self, artifact: impl Artifact) -> Result<(), Error> {
        artifact.validate()?;
        let artifact: SharedArtifact = Arc::new(artifact);
        let mut artifacts = self.artifacts().clone();
        artifacts.push(artifact);
        let deployment = self.defaults.deployment(&artifacts)?;
        let link = Link::open(&self.target).await?;
        link.call(&self.cluster, &Request::Register { deployment: deployment.clone() }).await?;
        *self.artifacts() = artifacts.clone();
        self.command(Command::Deploy(artifacts, deployment))
    }

    /// Takes an artifact off this node. A run of it is asked to end and its lease handed over.
    ///
    /// # Errors
    /// [`Error::Artifact`] when it is not deployed here. [`Error::Left`].
    pub fn undeploy(&self, name: &ArtifactName) -> Result<(), Error> {
        let mut artifacts = self.artifacts();
        let Some(at) = artifacts.iter().position(|artifact| artifact.name() == name) else {
            let known: Vec<_> = artifacts.iter().map(|artifact| artifact.name().as_str()).collect();
            let problem = format!("is not deployed on this node, which has: {}", known.join(", "));
            return Err(Error::artifact(name.as_str(), problem));
        };
        artifacts.remove(at);
        let deployment = self.defaults.deployment(&artifacts)?;
        self.command(Command::Deploy(artifacts.clone(), deployment))
    }

    /// Gives this node's leases away and takes no new ones, until [`undrain`](Node::undrain). Returns when nothing
    /// runs here any more. Cancellation safe: the node goes on draining.
    ///
    /// # Errors
    /// [`Error::Left`].
    pub async fn drain(&self) -> Result<(), Error> {
        self.command(Command::Drain(true))?;
        self.wait(|status| status.running.is_empty() || status.state == State::Left).await
    }

    /// Lets this node take part again.
    ///
    /// # Errors
    /// [`Error::Left`].
    pub fn undrain(&self) -> Result<(), Error> {
        self.command(Command::Drain(false))
    }

    /// What operators do with the cluster that this node belongs to.
    pub fn control(&self) -> Control {
        Control::new(self.target.clone(), self.cluster.clone())
    }

    /// Leaves the cluster: asks the runs to end, waits for them up to the drain time, hands the leases over. Calling
    /// it again, or from several tasks, waits for the same end. Cancellation safe: the node goes on leaving.
    pub async fn shutdown(&self) {
        // An error says that the keeper has stopped, which is what is asked for.
        let _ = self.command(Command::Leave);
        let _ = self.wait(|status| status.state == State::Left).await;
    }

    /// Waits for SIGTERM or Ctrl-C, and then leaves the cluster as [`shutdown`](Node::shutdown) does. Returns, too,
    /// when the node has left for another reason.
    pub async fn run_until_signal(&self) {
        let left = self.wait(|status| status.state == State::Left);
        tokio::select! {
            _ = left => {}
            () = signalled() => {}
        }
        self.shutdown().await;
    }

    /// Waits until the status is as `wanted`. Cancellation safe.
    ///
    /// # Errors
    /// [`Error::Left`] when the keeper stops before.
    pub async fn wait(&self, wanted: impl FnMut(&Status) -> bool) -> Result<(), Error> {
        self.status().wait_for(wanted).await.map(drop).map_err(|_| Error::Left)
    }

    fn artifacts(&self) -> std::sync::MutexGuard<'_, Vec<SharedArtifact>> {
        // A list of artifacts has no invariant that a panic could break.
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        self.inputs.send(Input::Command(command)).map_err(|_| Error::Left)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("cluster", &self.cluster)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The keeper may have stopped already.
        let _ = self.command(Command::Leave);
    }
}

async fn signalled() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            },
            // Without a handler for SIGTERM the process ends by it, and its leases expire.
            Err(error) => {
                tracing::warn!(%error, "SIGTERM cannot be handled");
                _ = interrupt.await;
            }
        }
    }
    #[cfg(not(unix))]
    {
        _ = interrupt.await;
    }
}
