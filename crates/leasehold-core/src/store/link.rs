//! One connection to the database.

use std::time::Duration;

use sea_orm::DatabaseConnection;

use super::dialect::{self, Wire};
use super::error::{ErrorKind, StoreError};
use super::target::Target;
use crate::name::ClusterName;
use crate::protocol::request::{Answer, Request};

/// One database connection of leasehold's own: it starves nobody and nobody starves it.
///
/// A link mends itself after a lost connection. After [`ErrorKind::Unreachable`] opening another one is worthwhile all
/// the same: the address may lead to another server by now, or the file may have been replaced.
#[derive(Debug)]
pub struct Link {
    wire: Box<dyn Wire>,
}

/// Pauses before a conflict is retried; each is a round trip or two of the others.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(60)];

/// What has already waited this long for a lock is not worth another wait inside one call.
const PATIENCE: Duration = Duration::from_millis(500);

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] when nobody answers, [`ErrorKind::ReadOnly`] for a server in recovery,
    /// [`ErrorKind::Invalid`] for credentials or addresses that cannot work.
    pub async fn open(target: &Target) -> Result<Self, StoreError> {
        Ok(Self { wire: dialect::of(target.backend())?.open(target).await? })
    }

    /// Executes a request. Serialization failures and deadlocks are retried inside, a few times.
    ///
    /// **Not to be cancelled**: dropping the future while a transaction begins spoils the connection. Spawn it, and stop
    /// waiting for the handle instead; the call then ends on its own.
    ///
    /// # Errors
    /// After [`ErrorKind::Unreachable`] the effect is unknown; after any other kind the request had none.
    pub async fn call(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        let started = tokio::time::Instant::now();
        for pause in PAUSES {
            match self.ask(cluster, request).await {
                Err(error) if error.kind() == ErrorKind::Conflict && started.elapsed() < PATIENCE => {
                    tracing::debug!(%cluster, %error, "retrying after a conflict");
                    tokio::time::sleep(pause).await;
                }
                done => return done,
            }
        }
        self.ask(cluster, request).await
    }

    async fn ask(&self, cluster: &ClusterName, request: &Request) -> Result<Answer, StoreError> {
        let asking = self.wire.call(cluster, request);
        #[cfg(feature = "failpoints")]
        let asking = crate::failpoint::sent(crate::failpoint::Point::QuerySent, asking);
        let answer = asking.await;
        #[cfg(feature = "failpoints")]
        crate::failpoint::reached(crate::failpoint::Point::Answered);
        answer
    }

    /// The connection, for checkpoints and audit events outside of users' transactions. It is the only one of its pool.
    pub fn connection(&self) -> &DatabaseConnection {
        self.wire.connection()
    }

    /// Closes the connection.
    pub async fn close(self) {
        // A connection that cannot be closed politely is gone anyway.
        let _ = self.wire.connection().close_by_ref().await;
    }
}
