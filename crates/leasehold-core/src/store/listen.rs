//! Notifications: they wake a node sooner, and are never truth.

use std::fmt;

use sea_orm::DbBackend;
use sea_orm::sqlx::postgres::PgListener;

use super::error::StoreError;
use super::postgres;
use super::target::{Place, Target};
use crate::name::ClusterName;

/// A connection that hears when assignments of a cluster change.
pub struct Listener {
    inner: PgListener,
}

impl Listener {
    /// Connects and listens.
    ///
    /// # Errors
    /// [`super::ErrorKind::Unreachable`] when nobody answers; [`super::ErrorKind::Invalid`] for a database that cannot notify.
    pub async fn open(target: &Target, cluster: &ClusterName) -> Result<Self, StoreError> {
        const OPERATION: &str = "listen";
        let options = match &target.place {
            Place::Postgres(options) => (**options).clone(),
            #[allow(unreachable_patterns, reason = "the only kind of database of this build, perhaps")]
            _ => {
                return Err(StoreError::new(
                    super::ErrorKind::Invalid,
                    OPERATION,
                    "only PostgreSQL has notifications: poll",
                ));
            }
        };
        let error = |e| StoreError::sqlx(DbBackend::Postgres, OPERATION, &e);
        let mut inner = PgListener::connect_with(&postgres::pool(options)).await.map_err(error)?;
        inner.listen(&postgres::channel(cluster)).await.map_err(error)?;
        Ok(Self { inner })
    }

    /// Resolves after a notification, or after the connection was lost and made again: in both cases the caller should
    /// look. May be cancelled.
    ///
    /// # Errors
    /// When the connection was lost and cannot be made again; the next call tries anew, so pause before it.
    pub async fn recv(&mut self) -> Result<(), StoreError> {
        let heard = self.inner.try_recv().await;
        heard.map(drop).map_err(|e| StoreError::sqlx(DbBackend::Postgres, "listen", &e))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
