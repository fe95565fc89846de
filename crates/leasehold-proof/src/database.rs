//! The database that a cluster meets in: a new one on a server that is there, one on a server of the round's own, or a file.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use leasehold_tests::scratch::Scratch;
use leasehold_tests::{mysql, postgres};
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tempfile::TempDir;

use crate::work::EFFECTS;

/// Where clusters meet.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Where {
    /// A server, as a URL with a database; each round makes a database of its own. Or `sqlite`, for a file.
    #[arg(long)]
    pub(crate) database: Option<String>,
    /// A server of each round's own, which can be restarted and replaced by an older copy. `scripts/test -- COMMAND` tells where
    /// its programs are.
    #[arg(long)]
    pub(crate) own: Option<Own>,
}

/// A kind of server that the proof starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Own {
    Postgres,
    Mariadb,
    Mysql,
}

/// What can be done to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// There are connections to hurt.
    pub(crate) network: bool,
    /// The server can be restarted and rolled back.
    pub(crate) restart: bool,
}

#[derive(Debug)]
pub(crate) enum Server {
    Postgres(postgres::Server),
    My(mysql::Server),
}

#[derive(Debug)]
enum Place {
    Shared(Scratch),
    Own(Server),
    File { _folder: TempDir },
}

/// The database of one round.
#[derive(Debug)]
pub(crate) struct Database {
    place: Place,
    pub(crate) url: String,
}

impl Where {
    /// For people, without a password; and how it is asked for.
    pub(crate) fn words(&self) -> (String, String) {
        match (&self.database, self.own) {
            (_, Some(own)) => {
                let name =
                    own.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
                (format!("{name}, a server of its own"), format!("--own {name}"))
            }
            (Some(url), _) => {
                let kind = url.split(':').next().unwrap_or_default();
                (
                    kind.to_owned(),
                    if kind == "sqlite" {
                        "--database sqlite".to_owned()
                    } else {
                        "--database $URL".to_owned()
                    },
                )
            }
            (None, None) => Default::default(),
        }
    }
}

impl Database {
    /// A new, empty one.
    pub(crate) async fn create(place: &Where) -> Result<Self> {
        let (place, url) = match (&place.database, place.own) {
            (_, Some(own)) => {
                // Starting one blocks.
                let started = tokio::task::spawn_blocking(move || match own {
                    Own::Postgres => Server::Postgres(postgres::Server::start()),
                    Own::Mariadb => Server::My(mysql::Server::mariadb()),
                    Own::Mysql => Server::My(mysql::Server::mysql()),
                });
                let server = started.await?;
                let url = server.url();
                (Place::Own(server), url)
            }
            (Some(file), None) if file.starts_with("sqlite") => {
                let folder = TempDir::new()?;
                let url = format!("sqlite://{}/proof.db?mode=rwc", folder.path().display());
                (Place::File { _folder: folder }, url)
            }
            (Some(server), None) => {
                let scratch = Scratch::on(server).await;
                let url = scratch.url().to_owned();
                (Place::Shared(scratch), url)
            }
            (None, None) => anyhow::bail!("give --database or --own"),
        };
        let db = sea_orm::Database::connect(&url).await.context("the database of the round")?;
        let table = format!("create table {EFFECTS} (artifact varchar(100), token bigint, value bigint)");
        db.execute_unprepared(&table).await?;
        db.close().await?;
        Ok(Self { place, url })
    }

    pub(crate) fn abilities(&self) -> Abilities {
        let network = !matches!(self.place, Place::File { .. });
        Abilities { network, restart: self.server().is_some() }
    }

    pub(crate) fn server(&self) -> Option<&Server> {
        match &self.place {
            Place::Own(server) => Some(server),
            Place::Shared(_) | Place::File { .. } => None,
        }
    }

    /// Where its server listens, if it has one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Shared(scratch) => Some(scratch.address()),
            Place::Own(_) => {
                let authority = self.url.split('@').nth(1)?.split('/').next()?;
                authority.parse().ok()
            }
            Place::File { .. } => None,
        }
    }

    /// Its URL by another address.
    pub(crate) fn url_by(&self, address: SocketAddr) -> String {
        match (&self.place, self.address()) {
            (Place::Shared(scratch), _) => scratch.url_by(address),
            (_, Some(own)) => self.url.replace(&own.to_string(), &address.to_string()),
            (_, None) => self.url.clone(),
        }
    }

    /// Ends all other connections to it, as its owner may.
    pub(crate) async fn terminate_backends(&self, db: &DatabaseConnection) -> Result<()> {
        use sea_orm::{DbBackend, Statement};

        let backend = db.get_database_backend();
        if backend == DbBackend::Postgres {
            let text = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
                        and pid <> pg_backend_pid() and application_name = 'leasehold'";
            db.query_all_raw(Statement::from_string(backend, text)).await?;
            return Ok(());
        }
        let text = "select cast(id as signed) as id from information_schema.processlist where db = database() \
                    and id <> connection_id()";
        for row in db.query_all_raw(Statement::from_string(backend, text)).await? {
            // It may have ended by itself.
            let _ = db.execute_unprepared(&format!("kill {}", row.try_get::<i64>("", "id")?)).await;
        }
        Ok(())
    }
}

impl Server {
    fn url(&self) -> String {
        match self {
            Self::Postgres(server) => server.url(),
            Self::My(server) => server.url(),
        }
    }

    pub(crate) fn crash(&self) {
        match self {
            Self::Postgres(server) => server.crash(),
            Self::My(server) => server.crash(),
        }
    }

    pub(crate) fn up(&self) {
        match self {
            Self::Postgres(server) => server.up(),
            Self::My(server) => server.up(),
        }
    }

    /// Copies its data, for which it is stopped in order for a moment.
    pub(crate) fn copy(&self) {
        match self {
            Self::Postgres(server) => {
                server.down();
                server.back_up();
                server.up();
            }
            Self::My(server) => {
                server.down();
                server.back_up();
                server.up();
            }
        }
    }

    /// Puts that copy in place of the data of a stopped server.
    pub(crate) fn roll_back(&self) {
        match self {
            Self::Postgres(server) => server.roll_back(),
            Self::My(server) => server.roll_back(),
        }
    }
}
