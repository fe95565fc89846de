//! A database of a test's own, and the requests in short form.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leasehold_core::name::{ArtifactKind, ArtifactName, ClusterName, NodeId};
use leasehold_core::protocol::ids::{Incarnation, SessionId, Token};
use leasehold_core::protocol::request::*;
use leasehold_core::store::{LeaseKey, Link, StoreError, Target, migrate};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use uuid::Uuid;

/// A migrated database of a case's own, with a connection to it.
pub struct Bed {
    pub(super) target: Target,
    server: String,
    pub(super) url: String,
    pub(super) link: Link,
    pub(super) cluster: ClusterName,
    /// The incarnation that answers.
    pub(super) live: Incarnation,
    pub(super) epoch: i64,
    _folder: Option<tempfile::TempDir>,
}

pub(super) fn artifact(name: &str) -> ArtifactName {
    ArtifactName::new(name).unwrap()
}

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A deployment of artifacts of one kind; `salt` tells configurations apart.
pub(super) fn deployment(names: &[&str], kind: &str, resolver: &str, salt: u128) -> Deployment {
    let deployed = Deployed {
        kind: ArtifactKind::new(kind).unwrap(),
        fingerprint: Uuid::from_u128(salt),
        placement: Placement::by(resolver),
    };
    Deployment::new(names.iter().map(|n| (artifact(n), deployed.clone())).collect())
}

impl Bed {
    /// A SQLite file of its own, deleted at the end.
    #[cfg(feature = "sqlite")]
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        Self::new(url.clone(), url, Some(folder)).await
    }

    /// A schema (PostgreSQL) or a database (MariaDB, MySQL) of its own on the server whose URL this variable of the
    /// environment holds. It stays there.
    ///
    /// # Panics
    /// When the variable is not set, or its user may not create schemas or databases.
    pub async fn on(variable: &str) -> Self {
        let server = std::env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} must name a server; `scripts/test` starts one and sets it")
        });
        let target = Target::from_url(&server).unwrap();
        let link = Link::open(&target).await.unwrap();
        let name = format!("t{}", Uuid::now_v7().simple());
        let (what, url) = match target.backend() {
            DbBackend::Postgres => {
                let separator = if server.contains('?') { '&' } else { '?' };
                ("schema", format!("{server}{separator}options=-c%20search_path%3D{name}"))
            }
            _ => {
                let (host, rest) = server.rsplit_once('/').unwrap();
                let options =
                    rest.split_once('?').map_or(String::new(), |(_, options)| format!("?{options}"));
                ("database", format!("{host}/{name}{options}"))
            }
        };
        link.connection().execute_unprepared(&format!("create {what} {name}")).await.unwrap();
        Self::new(server, url, None).await
    }

    async fn new(server: String, url: String, folder: Option<tempfile::TempDir>) -> Self {
        let target = Target::from_url(&url).unwrap();
        migrate(&target).await.unwrap();
        let link = Link::open(&target).await.unwrap();
        let cluster = ClusterName::new(format!("c{}", Uuid::now_v7().simple())).unwrap();
        let mut bed = Self {
            target,
            server,
            url,
            link,
            cluster,
            live: Incarnation::from(""),
            epoch: 0,
            _folder: folder,
        };
        let (row, live, _) = bed.open("nobody").await;
        (bed.live, bed.epoch) = (live, row.epoch);
        bed
    }

    /// The server, as the environment names it.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.target.backend() == DbBackend::Postgres
    }

    pub(super) async fn another(&self) -> Link {
        Link::open(&self.target).await.unwrap()
    }

    pub(super) async fn call(&self, request: Request) -> Answer {
        self.try_call(request).await.unwrap()
    }

    pub(super) async fn try_call(&self, request: Request) -> Result<Answer, StoreError> {
        self.link.call(&self.cluster, &request).await
    }

    pub(super) async fn matched(&self, request: Request) -> u64 {
        match self.call(request).await {
            Answer::Matched(n) => n,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn sql(&self, sql: &str) {
        self.link.connection().execute_unprepared(sql).await.unwrap();
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        let statement = Statement::from_string(self.target.backend(), sql);
        let row = self.link.connection().query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }

    pub(super) async fn open(&self, name: &str) -> (ClusterRow, Incarnation, Option<NodeRow>) {
        match self.call(Request::Open { node: node(name), max_ttl: Duration::from_secs(5) }).await {
            Answer::Opened { cluster, live, occupant } => (cluster, live, occupant),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn join_request(&self, name: &str, session: SessionId) -> Request {
        let labels = Arc::new(BTreeMap::from([("zone".to_owned(), "a\"b".to_owned())]));
        let node = NewNode {
            session,
            node: node(name),
            ttl: Duration::from_millis(1500),
            labels,
            deployment: deployment(&[], "task", "any", 0).id,
            draining: false,
        };
        Request::Join { node, incarnation: self.live.clone() }
    }

    /// A session that has joined and renewed once.
    pub(super) async fn join(&self, name: &str) -> SessionId {
        let session = SessionId::fresh();
        assert_eq!(self.matched(self.join_request(name, session)).await, 1);
        assert!(self.renew(session, 1).await.0);
        session
    }

    pub(super) fn renewal(&self, session: SessionId, beat: i64) -> Request {
        Request::Renew { session, beat, pass: 7, incarnation: self.live.clone(), scope: Scope::Everyone }
    }

    pub(super) async fn renew(&self, session: SessionId, beat: i64) -> (bool, View) {
        match self.call(self.renewal(session, beat)).await {
            Answer::Renewed { matched, view } => (matched, view),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn watch(&self, scope: Scope) -> View {
        match self.call(Request::Watch { scope }).await {
            Answer::View(view) => view,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn revision(&self) -> i64 {
        self.watch(Scope::Heads).await.cluster.revision
    }

    pub(super) async fn register(&self, names: &[&str]) {
        self.call(Request::Register { deployment: deployment(names, "task", "any", 1) }).await;
    }

    pub(super) async fn leases(&self) -> Vec<LeaseRow> {
        match self.call(Request::Leases { deployments: Vec::new() }).await {
            Answer::Leases { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn lease(&self, name: &str) -> LeaseRow {
        self.leases().await.into_iter().find(|l| l.artifact.as_str() == name).unwrap()
    }

    pub(super) fn grant(&self, rows: Vec<(ArtifactName, Token, SessionId)>) -> Request {
        let rows = rows.into_iter().map(|(artifact, seen, to)| Grant { artifact, seen, to }).collect();
        Request::Grant { rows, incarnation: self.live.clone(), epoch: self.epoch, term: 0 }
    }

    /// Gives a lease to a session and tells the token.
    pub(super) async fn give(&self, name: &str, to: SessionId) -> Token {
        let seen = self.lease(name).await.token;
        assert_eq!(self.matched(self.grant(vec![(artifact(name), seen, to)])).await, 1);
        self.lease(name).await.token
    }

    pub(super) fn hand_over(
        &self,
        session: SessionId,
        name: &str,
        token: Token,
        to: Option<SessionId>,
    ) -> Request {
        let rows = vec![Handover { artifact: artifact(name), token, to }];
        Request::HandOver { session, rows, incarnation: self.live.clone(), epoch: self.epoch }
    }

    pub(super) fn key(&self, name: &str, token: Token, session: SessionId) -> LeaseKey {
        LeaseKey { cluster: self.cluster.clone(), artifact: artifact(name), token, session }
    }
}
