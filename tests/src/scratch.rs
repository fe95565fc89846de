//! Databases on servers that are there.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};

use sea_orm::{ConnectionTrait, Database};

/// Tells the databases of one run apart.
static CREATED: AtomicU64 = AtomicU64::new(0);

/// A database of a test's own on the server that the environment names. It stays behind, for whoever wants to
/// look at a failure; `scripts/test` throws its server away.
#[derive(Debug)]
pub struct Scratch {
    url: String,
    authority: String,
}

#[allow(clippy::expect_used, clippy::panic, reason = "a harness")]
impl Scratch {
    /// A new, empty database.
    ///
    /// # Panics
    /// When the variable is not set or the server cannot be reached.
    pub async fn create(variable: &str) -> Self {
        let server = std::env::var(variable);
        let server = server.unwrap_or_else(|_| {
            panic!("{variable} is not set: this suite needs a server; run it with `scripts/test`, which starts one")
        });
        Self::on(&server).await
    }

    /// A new, empty database on this server, a URL with a database.
    ///
    /// # Panics
    /// When the server cannot be reached, or the user may not make databases.
    pub async fn on(server: &str) -> Self {
        let (before, database) = server.rsplit_once('/').expect("a URL with a database");
        let options = database.find('?').map_or("", |at| &database[at..]);
        let after_scheme = before.split_once("://").map_or(before, |(_, rest)| rest);
        let authority = after_scheme.rsplit_once('@').map_or(after_scheme, |(_, host)| host);
        let count = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("suite_{:x}_{:x}_{count}", std::process::id(), crate::event::now_ms());
        let db = Database::connect(server).await.expect("the server answers");
        db.execute_unprepared(&format!("create database {name}")).await.expect("a database of its own");
        Self { url: format!("{before}/{name}{options}"), authority: authority.to_owned() }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its server listens.
    ///
    /// # Panics
    /// When the server's name cannot be resolved.
    pub fn address(&self) -> SocketAddr {
        self.authority.to_socket_addrs().expect("host:port").next().expect("an address")
    }

    /// Its URL by another address, as of a proxy.
    pub fn url_by(&self, address: SocketAddr) -> String {
        self.url.replace(&self.authority, &address.to_string())
    }
}
