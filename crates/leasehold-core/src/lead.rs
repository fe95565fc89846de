//! Run an async function while this node leads something.

use std::future::Future;

use async_trait::async_trait;
use uuid::Uuid;

use crate::artifact::{self, Artifact, ArtifactError};
use crate::lease::Lease;
use crate::name::{ArtifactKind, ArtifactName, NameError};
use crate::protocol::placement::Placement;

/// An async function that runs on one node at a time: while this one holds the lease of that name.
///
/// ```
/// # use leasehold_core::{lead::Lead, lease::Lease};
/// let warmer = Lead::new("cache-warmer", |lease: Lease| async move {
///     while lease.is_valid() {
///         // ... warm the next entry ...
/// #       break;
///     }
///     Ok(())
/// })?;
/// # Ok::<(), leasehold_core::name::NameError>(())
/// ```
#[derive(Debug)]
pub struct Lead<F> {
    name: ArtifactName,
    kind: ArtifactKind,
    placement: Option<Placement>,
    function: F,
}

impl<F, Fut> Lead<F>
where
    F: Fn(Lease) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), ArtifactError>> + Send + 'static,
{
    /// The function `function` under the name `name`.
    ///
    /// # Errors
    /// [`NameError`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn new(name: impl AsRef<str>, function: F) -> Result<Self, NameError> {
        let (name, kind) = (ArtifactName::new(name)?, ArtifactKind::new("lead")?);
        Ok(Self { name, kind, placement: None, function })
    }

    /// How it is placed; as the node's other artifacts unless set.
    #[must_use]
    pub fn placement(self, placement: Placement) -> Self {
        Self { placement: Some(placement), ..self }
    }
}

#[async_trait]
impl<F, Fut> Artifact for Lead<F>
where
    F: Fn(Lease) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), ArtifactError>> + Send + 'static,
{
    fn name(&self) -> &ArtifactName {
        &self.name
    }

    fn kind(&self) -> ArtifactKind {
        self.kind.clone()
    }

    fn placement(&self) -> Option<&Placement> {
        self.placement.as_ref()
    }

    fn fingerprint(&self) -> Uuid {
        artifact::fingerprint(&self.placement)
    }

    async fn run(&self, lease: Lease) -> Result<(), ArtifactError> {
        (self.function)(lease).await
    }
}
