//! Where the database is.

use std::fmt;

use sea_orm::{DatabaseConnection, DbBackend};

use super::error::{ErrorKind, StoreError};

/// Where the database is: enough to open connections of our own, as many as needed and whenever.
///
/// Its `Debug` and `Display` forms show no password.
#[derive(Clone)]
pub struct Target {
    pub(crate) place: Place,
}

/// The connect options of one kind of database.
#[derive(Clone)]
pub(crate) enum Place {
    #[cfg(feature = "sqlite")]
    Sqlite(Box<sea_orm::sqlx::sqlite::SqliteConnectOptions>),
    #[cfg(feature = "postgres")]
    Postgres(Box<sea_orm::sqlx::postgres::PgConnectOptions>),
    #[cfg(feature = "mysql")]
    MySql(Box<sea_orm::sqlx::mysql::MySqlConnectOptions>),
}

impl Target {
    /// From `sqlite://path/to/file.db`, `postgres://user:password@host:port/database`, or the same with `mysql` or
    /// `mariadb`.
    ///
    /// A SQLite file that does not exist is created, unless the URL has a `mode`; its folder must exist. A path
    /// after two slashes is relative (`sqlite://data.db`), after three absolute (`sqlite:///var/data.db`).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a scheme that is unknown or whose feature is not enabled, and for SQLite in memory.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let invalid = |message: String| StoreError::new(ErrorKind::Invalid, "open", message);
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" => Self::sqlite_url(url),
            "postgres" | "postgresql" => Self::postgres_url(url),
            "mysql" | "mariadb" => Self::mysql_url(url),
            _ => Err(invalid(
                "the database URL has no known scheme; it starts with sqlite://, postgres://, mysql:// or mariadb://".to_owned(),
            )),
        }
    }

    /// Of the database that `db` is connected to. Its pool is not used: leasehold opens connections of its own, with
    /// the same address and credentials, and on PostgreSQL with the `search_path` that the pool has set.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a database whose feature is not enabled, and for SQLite in memory. On PostgreSQL,
    /// when the database does not answer.
    pub async fn from_connection(db: &DatabaseConnection) -> Result<Self, StoreError> {
        match db.get_database_backend() {
            #[cfg(feature = "sqlite")]
            DbBackend::Sqlite => {
                Self::sqlite((*db.get_sqlite_connection_pool().connect_options()).clone(), false)
            }
            #[cfg(feature = "postgres")]
            DbBackend::Postgres => {
                let options = (*db.get_postgres_connection_pool().connect_options()).clone();
                let options = super::postgres::with_search_path_of(db, options).await?;
                Ok(Self { place: Place::Postgres(Box::new(options)) })
            }
            #[cfg(feature = "mysql")]
            DbBackend::MySql => {
                let options = (*db.get_mysql_connection_pool().connect_options()).clone();
                Ok(Self { place: Place::MySql(Box::new(options)) })
            }
            other => Err(match super::dialect::of(other) {
                Err(error) => error,
                Ok(_) => {
                    StoreError::new(ErrorKind::Invalid, "open", "this kind of connection cannot be used")
                }
            }),
        }
    }

    /// The kind of database.
    pub fn backend(&self) -> DbBackend {
        match &self.place {
            #[cfg(feature = "sqlite")]
            Place::Sqlite(_) => DbBackend::Sqlite,
            #[cfg(feature = "postgres")]
            Place::Postgres(_) => DbBackend::Postgres,
            #[cfg(feature = "mysql")]
            Place::MySql(_) => DbBackend::MySql,
        }
    }

    /// A URL by which another process of this machine reaches the same place, with the password: not to be shown.
    pub(crate) fn reach(&self) -> String {
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        use sea_orm::sqlx::ConnectOptions;
        match &self.place {
            #[cfg(feature = "sqlite")]
            Place::Sqlite(options) => {
                let file = options.get_filename();
                let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
                format!("sqlite://{}?mode=rw", file.display())
            }
            #[cfg(feature = "postgres")]
            Place::Postgres(options) => {
                let mut url = options.to_url_lossy();
                // What this leaves out, and where the tables may be.
                if let Some(more) = options.get_options() {
                    url.query_pairs_mut().append_pair("options", more);
                }
                url.to_string()
            }
            #[cfg(feature = "mysql")]
            Place::MySql(options) => options.to_url_lossy().to_string(),
        }
    }

    /// A pool of at most `connections` to this place, for fenced writes; it connects when it is first used.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when this build has no support for the database.
    pub fn pool(&self, connections: u32) -> Result<DatabaseConnection, StoreError> {
        super::dialect::of(self.backend())?.pool(self, connections)
    }

    #[cfg(feature = "sqlite")]
    fn sqlite_url(url: &str) -> Result<Self, StoreError> {
        let options = url.parse::<sea_orm::sqlx::sqlite::SqliteConnectOptions>();
        let options = options.map_err(|e| StoreError::sqlx(DbBackend::Sqlite, "open", &e))?;
        if url.contains("mode=memory") {
            return Err(in_memory());
        }
        let create = !url.contains("mode=");
        Self::sqlite(if create { options.create_if_missing(true) } else { options }, url.contains("mode=ro"))
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(
        options: sea_orm::sqlx::sqlite::SqliteConnectOptions,
        read_only: bool,
    ) -> Result<Self, StoreError> {
        let file = options.get_filename().to_string_lossy();
        if file.is_empty() || file.contains(":memory:") || file.starts_with("file:sqlx-in-memory") {
            return Err(in_memory());
        }
        if read_only {
            return Err(StoreError::new(
                ErrorKind::ReadOnly,
                "open",
                "the SQLite URL says mode=ro, but leasehold writes; use mode=rw, or mode=rwc to create the file",
            ));
        }
        Ok(Self { place: Place::Sqlite(Box::new(options)) })
    }

    #[cfg(not(feature = "sqlite"))]
    fn sqlite_url(_: &str) -> Result<Self, StoreError> {
        Err(StoreError::new(
            ErrorKind::Invalid,
            "open",
            "leasehold was built without support for sqlite: enable its feature `sqlite`",
        ))
    }

    #[cfg(feature = "postgres")]
    fn postgres_url(url: &str) -> Result<Self, StoreError> {
        // What the parser says may quote parts of the URL: its text is left out.
        let options = url.parse::<sea_orm::sqlx::postgres::PgConnectOptions>().map_err(|_| {
            StoreError::new(
                ErrorKind::Invalid,
                "open",
                "the PostgreSQL URL cannot be read; it looks like postgres://user:password@host:5432/database, with special \
                 characters of the password percent-encoded",
            )
        })?;
        Ok(Self { place: Place::Postgres(Box::new(options)) })
    }

    #[cfg(feature = "mysql")]
    fn mysql_url(url: &str) -> Result<Self, StoreError> {
        let rest = url.split_once(':').map_or("", |(_, rest)| rest);
        // What the parser says may quote parts of the URL: its text is left out.
        let options =
            format!("mysql:{rest}").parse::<sea_orm::sqlx::mysql::MySqlConnectOptions>().map_err(|_| {
                StoreError::new(
                    ErrorKind::Invalid,
                    "open",
                    "the MariaDB or MySQL URL cannot be read; it looks like mysql://user:password@host:3306/database, with special \
                     characters of the password percent-encoded",
                )
            })?;
        Ok(Self { place: Place::MySql(Box::new(options)) })
    }

    #[cfg(not(feature = "mysql"))]
    fn mysql_url(_: &str) -> Result<Self, StoreError> {
        Err(StoreError::new(
            ErrorKind::Invalid,
            "open",
            "leasehold was built without support for MariaDB and MySQL: enable its feature `mysql`",
        ))
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres_url(_: &str) -> Result<Self, StoreError> {
        Err(StoreError::new(
            ErrorKind::Invalid,
            "open",
            "leasehold was built without support for postgres: enable its feature `postgres`",
        ))
    }
}

#[cfg(feature = "sqlite")]
fn in_memory() -> StoreError {
    StoreError::new(
        ErrorKind::Invalid,
        "open",
        "SQLite in memory cannot be shared by several connections or processes; use a file, for example \
         sqlite:///var/lib/my-service/leasehold.db, or one in a temporary folder for tests",
    )
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            #[cfg(feature = "sqlite")]
            Place::Sqlite(options) => write!(f, "sqlite://{}", options.get_filename().display()),
            #[cfg(feature = "postgres")]
            Place::Postgres(o) => {
                let database = o.get_database().unwrap_or_else(|| o.get_username());
                match o.get_socket() {
                    Some(socket) => write!(f, "postgres://{}/{database}", socket.display()),
                    None => write!(f, "postgres://{}:{}/{database}", o.get_host(), o.get_port()),
                }
            }
            #[cfg(feature = "mysql")]
            Place::MySql(o) => {
                let database = o.get_database().unwrap_or_default();
                match o.get_socket() {
                    Some(socket) => write!(f, "mysql://{}/{database}", socket.display()),
                    None => write!(f, "mysql://{}:{}/{database}", o.get_host(), o.get_port()),
                }
            }
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Target::from_url(url).map_or_else(|e| e.to_string(), |target| format!("accepted {target}"))
    }

    #[test]
    fn refuses_what_cannot_work_and_says_what_can() {
        for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite://x.db?mode=memory", "sqlite://"] {
            assert!(refused(url).contains("use a file"), "{url}");
        }
        assert!(refused("sqlite://x.db?mode=ro").contains("mode=rw"));
        #[cfg(not(feature = "mysql"))]
        assert!(refused("mysql://u:secret@h/d").contains("feature `mysql`"));
        #[cfg(feature = "mysql")]
        assert_eq!(refused("mariadb://u:secret@h/d"), "accepted mysql://h:3306/d");
        assert!(refused("oracle://u:secret@h/d").contains("sqlite://, postgres://"));
        assert!(!refused("oracle://u:secret@h/d").contains("secret"));
    }

    #[cfg(not(feature = "postgres"))]
    #[test]
    fn a_missing_feature_is_named() {
        assert!(refused("postgres://u:secret@h/d").contains("feature `postgres`"));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn no_password_is_shown() {
        let target = Target::from_url("postgres://bob:secret@db.example:5433/app").unwrap();
        assert_eq!(format!("{target:?}"), "Target(postgres://db.example:5433/app)");
        let broken = refused("postgres://bob:secret@db.example:port/app");
        assert!(!broken.contains("secret"), "{broken}");
    }
}
