//! One connection on which a cluster is looked at, again and again.

use sea_orm::DatabaseConnection;

use super::Control;
use super::explain::{self, Explanation};
use super::overview::{Overview, Snapshot};
use crate::error::Error;
use crate::name::{ArtifactKind, ArtifactName, ClusterName};
use crate::store::audit::{self, StoredEvent};
use crate::store::people;
use crate::store::{Exclusion, Link, PendingCommand, Position};

/// Looks at a cluster on one connection, which it keeps: for whoever looks more than once. Writes nothing.
///
/// Its futures are not to be dropped while they run, as those of [`Link::call`]: let them end.
#[derive(Debug)]
pub struct Reader {
    link: Link,
    cluster: ClusterName,
}

impl Control {
    /// Connects, to look at the cluster more than once.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn reader(&self) -> Result<Reader, Error> {
        Ok(Reader { link: Link::open(&self.target).await?, cluster: self.cluster.clone() })
    }
}

impl Reader {
    /// What the cluster looks like, and why each artifact that nobody runs is not run.
    ///
    /// # Errors
    /// Errors of the database; its kind is `Schema` when there is no such cluster.
    pub async fn overview(&self) -> Result<Overview, Error> {
        Snapshot::read(&self.link, &self.cluster).await?.overview(&self.link, &self.cluster).await
    }

    /// Why an artifact runs where it does, or does not run.
    ///
    /// # Errors
    /// [`Error::Artifact`] when the cluster does not know the artifact. Errors of the database.
    pub async fn explain(&self, artifact: &ArtifactName) -> Result<Explanation, Error> {
        explain::explain(&self.link, &self.cluster, artifact).await
    }

    /// The kind of an artifact, deployed or not, and when the cluster's mind about it changed last (milliseconds since 1970).
    ///
    /// # Errors
    /// [`Error::Artifact`] when the cluster does not know the artifact. Errors of the database.
    pub async fn registered(&self, artifact: &ArtifactName) -> Result<(ArtifactKind, i64), Error> {
        let note = people::artifact(self.connection(), &self.cluster, artifact).await?;
        let note = note.ok_or_else(|| super::unknown(artifact))?;
        Ok((ArtifactKind::new(note.kind)?, note.changed_ms))
    }

    /// Audit events, the latest first, or the oldest first after one.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn events(&self, query: &audit::Query<'_>, limit: u64) -> Result<Vec<StoredEvent>, Error> {
        Ok(audit::find(self.connection(), &self.cluster, query, limit).await?)
    }

    /// Commands that wait for an artifact's holder, the oldest first; a hundred at most.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn commands(&self, artifact: &ArtifactName) -> Result<Vec<PendingCommand>, Error> {
        Ok(people::commands(self.connection(), &self.cluster, artifact).await?)
    }

    /// How far an artifact is, by its checkpoints; a hundred at most.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn positions(&self, artifact: &ArtifactName) -> Result<Vec<Position>, Error> {
        Ok(people::positions(self.connection(), &self.cluster, artifact).await?)
    }

    /// Nodes that operators have drained or evicted, whether they take part or not.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn exclusions(&self) -> Result<Vec<Exclusion>, Error> {
        Ok(people::exclusions(self.connection(), &self.cluster).await?)
    }

    /// The names of all clusters of this database.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn clusters(&self) -> Result<Vec<String>, Error> {
        Ok(people::clusters(self.connection()).await?)
    }

    /// The connection, for what plugins have to tell of their tables.
    pub fn connection(&self) -> &DatabaseConnection {
        self.link.connection()
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.link.close().await;
    }
}
