//! The plugin contract.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use crate::error::Chain;
use crate::lease::Lease;
use crate::name::{ArtifactKind, ArtifactName};
use crate::protocol::placement::Placement;

/// One named piece of coordinated work, deployed on every replica and run on one.
///
/// The supervisor calls [`run`](Artifact::run) when this node gets the lease, on the runtime on which the node was
/// started, and owns the task: after a revocation it waits for the drain time and then drops the future; before the
/// trust of the session ends it drops it without waiting. Every await in `run` is therefore a cancellation point.
///
/// `Err`, a panic or an early `Ok` is followed by another run, under a higher token and after a pause; repeated
/// failure yields the lease to another node.
#[async_trait]
pub trait Artifact: Send + Sync + 'static {
    /// Its name, unique in the cluster.
    fn name(&self) -> &ArtifactName;

    /// What it is. The same on all nodes.
    fn kind(&self) -> ArtifactKind;

    /// How it is placed; as the node's other artifacts unless given.
    fn placement(&self) -> Option<&Placement> {
        None
    }

    /// Tells two configurations of one artifact apart. One never seen before is the newest: nodes that have it are
    /// preferred, and its placement counts.
    fn fingerprint(&self) -> Uuid {
        Uuid::nil()
    }

    /// What is wrong with its configuration, if anything: called before the node starts.
    ///
    /// # Errors
    /// [`Error`](crate::Error) naming the artifact, the field, the value and the remedy.
    fn validate(&self) -> Result<(), crate::Error> {
        Ok(())
    }

    /// Runs for as long as the lease is held; returns soon after `lease.revoked()` resolves.
    ///
    /// # Errors
    /// Whatever keeps it from running. It is shown in the status, and the run is repeated.
    async fn run(&self, lease: Lease) -> Result<(), ArtifactError>;
}

/// The fingerprint of a configuration: the same for the same one, on whichever node.
pub fn fingerprint(config: &impl Serialize) -> Uuid {
    // A configuration of texts and numbers has a JSON form; without one all would look alike, which is harmless.
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &serde_json::to_vec(config).unwrap_or_default())
}

/// Why a run failed. Made by `?` from any error, so it is not itself an [`std::error::Error`].
pub struct ArtifactError(Box<dyn std::error::Error + Send + Sync>);

impl ArtifactError {
    /// An error that is only a message.
    pub fn message(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for ArtifactError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Chain(&*self.0), f)
    }
}

impl fmt::Debug for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An artifact that any thread may run.
pub type SharedArtifact = Arc<dyn Artifact>;
