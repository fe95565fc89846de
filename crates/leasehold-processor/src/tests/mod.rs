//! Stores and processors on real nodes and real databases.

#[cfg(feature = "http")]
mod http;
mod kept;
mod late;
#[cfg(feature = "http")]
mod secure;
mod sql;

use leasehold_core::node::{Node, NodeBuilder};
use leasehold_testkit::cluster::Cluster;

use crate::SqlStore;
use crate::conformance::Bed;
use crate::store::memory::MemoryStore;

/// A node that meets the others of this bed.
fn builder(bed: &Bed<SqlStore>, id: &str) -> NodeBuilder {
    Node::builder(bed.database.as_str()).cluster(bed.cluster.as_str()).node_id(id)
}

/// A store of this cluster's name: several tests share a database.
fn bed(cluster: Cluster) -> Bed<SqlStore> {
    let store = SqlStore::new(&cluster.db, &cluster.name).unwrap();
    let (database, name) = (cluster.url.clone(), cluster.name.clone());
    Bed { store, database, cluster: name, keep: Some(Box::new(cluster)) }
}

mod memory {
    use super::*;

    async fn on_sqlite() -> Bed<MemoryStore> {
        let cluster = Cluster::sqlite().await;
        let (database, name) = (cluster.url.clone(), cluster.name.clone());
        Bed { store: MemoryStore::new("m"), database, cluster: name, keep: Some(Box::new(cluster)) }
    }

    crate::message_store_conformance!(on_sqlite());
}

mod sqlite {
    crate::message_store_conformance!(async { super::bed(super::Cluster::sqlite().await) });
}

#[cfg(feature = "test-postgres")]
mod postgres {
    crate::message_store_conformance!(async {
        super::bed(super::Cluster::on("LEASEHOLD_TEST_POSTGRES").await)
    });
}

#[cfg(feature = "test-mariadb")]
mod mariadb {
    crate::message_store_conformance!(async {
        super::bed(super::Cluster::on("LEASEHOLD_TEST_MARIADB").await)
    });
}

#[cfg(feature = "test-mysql")]
mod mysql {
    crate::message_store_conformance!(async { super::bed(super::Cluster::on("LEASEHOLD_TEST_MYSQL").await) });
}
