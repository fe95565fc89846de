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

pub(crate) struct Bed {
    pub(crate) target: Target,
    pub(crate) url: String,
    pub(crate) link: Link,
    pub(crate) cluster: ClusterName,
    /// The incarnation that answers.
    pub(crate) live: Incarnation,
    pub(crate) epoch: i64,
    _folder: Option<tempfile::TempDir>,
}

pub(crate) fn artifact(name: &str) -> ArtifactName {
    ArtifactName::new(name).unwrap()
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A deployment of artifacts of one kind; `salt` tells configurations apart.
pub(crate) fn deployment(names: &[&str], kind: &str, resolver: &str, salt: u128) -> Deployment {
    let deployed = Deployed {
        kind: ArtifactKind::new(kind).unwrap(),
        fingerprint: Uuid::from_u128(salt),
        placement: Placement::by(resolver),
    };
    Deployment::new(names.iter().map(|n| (artifact(n), deployed.clone())).collect())
}

impl Bed {
    #[cfg(feature = "sqlite")]
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        Self::new(url, Some(folder)).await
    }

    /// A schema of its own on the server that the environment names.
    #[cfg(feature = "test-postgres")]
    pub(crate) async fn postgres() -> Self {
        Self::new(Self::postgres_schema().await, None).await
    }

    #[cfg(feature = "test-postgres")]
    pub(crate) async fn postgres_schema() -> String {
        let url = std::env::var("LEASEHOLD_TEST_POSTGRES").expect(
            "LEASEHOLD_TEST_POSTGRES must name a PostgreSQL server; run `scripts/test`, which starts one",
        );
        let schema = format!("t{}", Uuid::now_v7().simple());
        let link = Link::open(&Target::from_url(&url).unwrap()).await.unwrap();
        link.connection().execute_unprepared(&format!("create schema {schema}")).await.unwrap();
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}options=-c%20search_path%3D{schema}")
    }

    #[cfg(feature = "test-mariadb")]
    pub(crate) async fn mariadb() -> Self {
        Self::new(Self::database("LEASEHOLD_TEST_MARIADB").await, None).await
    }

    #[cfg(feature = "test-mysql")]
    pub(crate) async fn mysql() -> Self {
        Self::new(Self::database("LEASEHOLD_TEST_MYSQL").await, None).await
    }

    /// A database of its own on the server that the environment names.
    #[cfg(any(feature = "test-mariadb", feature = "test-mysql"))]
    pub(crate) async fn database(variable: &str) -> String {
        let url = std::env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} must name a server; run `scripts/test`, which starts one")
        });
        let name = format!("t{}", Uuid::now_v7().simple());
        let link = Link::open(&Target::from_url(&url).unwrap()).await.unwrap();
        link.connection().execute_unprepared(&format!("create database {name}")).await.unwrap();
        let (server, rest) = url.rsplit_once('/').unwrap();
        let options = rest.split_once('?').map_or(String::new(), |(_, options)| format!("?{options}"));
        format!("{server}/{name}{options}")
    }

    async fn new(url: String, folder: Option<tempfile::TempDir>) -> Self {
        let target = Target::from_url(&url).unwrap();
        migrate(&target).await.unwrap();
        let link = Link::open(&target).await.unwrap();
        let cluster = ClusterName::new(format!("c{}", Uuid::now_v7().simple())).unwrap();
        let mut bed =
            Self { target, url, link, cluster, live: Incarnation::from(""), epoch: 0, _folder: folder };
        let (row, live, _) = bed.open("nobody").await;
        (bed.live, bed.epoch) = (live, row.epoch);
        bed
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.target.backend() == DbBackend::Postgres
    }

    pub(crate) async fn another(&self) -> Link {
        Link::open(&self.target).await.unwrap()
    }

    pub(crate) async fn call(&self, request: Request) -> Answer {
        self.try_call(request).await.unwrap()
    }

    pub(crate) async fn try_call(&self, request: Request) -> Result<Answer, StoreError> {
        self.link.call(&self.cluster, &request).await
    }

    pub(crate) async fn matched(&self, request: Request) -> u64 {
        match self.call(request).await {
            Answer::Matched(n) => n,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.link.connection().execute_unprepared(sql).await.unwrap();
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let statement = Statement::from_string(self.target.backend(), sql);
        let row = self.link.connection().query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }

    pub(crate) async fn open(&self, name: &str) -> (ClusterRow, Incarnation, Option<NodeRow>) {
        match self.call(Request::Open { node: node(name), max_ttl: Duration::from_secs(5) }).await {
            Answer::Opened { cluster, live, occupant } => (cluster, live, occupant),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn join_request(&self, name: &str, session: SessionId) -> Request {
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
    pub(crate) async fn join(&self, name: &str) -> SessionId {
        let session = SessionId::fresh();
        assert_eq!(self.matched(self.join_request(name, session)).await, 1);
        assert!(self.renew(session, 1).await.0);
        session
    }

    pub(crate) fn renewal(&self, session: SessionId, beat: i64) -> Request {
        Request::Renew { session, beat, pass: 7, incarnation: self.live.clone(), scope: Scope::Everyone }
    }

    pub(crate) async fn renew(&self, session: SessionId, beat: i64) -> (bool, View) {
        match self.call(self.renewal(session, beat)).await {
            Answer::Renewed { matched, view } => (matched, view),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn watch(&self, scope: Scope) -> View {
        match self.call(Request::Watch { scope }).await {
            Answer::View(view) => view,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn revision(&self) -> i64 {
        self.watch(Scope::Heads).await.cluster.revision
    }

    pub(crate) async fn register(&self, names: &[&str]) {
        self.call(Request::Register { deployment: deployment(names, "task", "any", 1) }).await;
    }

    pub(crate) async fn leases(&self) -> Vec<LeaseRow> {
        match self.call(Request::Leases { deployments: Vec::new() }).await {
            Answer::Leases { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn lease(&self, name: &str) -> LeaseRow {
        self.leases().await.into_iter().find(|l| l.artifact.as_str() == name).unwrap()
    }

    pub(crate) fn grant(&self, rows: Vec<(ArtifactName, Token, SessionId)>) -> Request {
        let rows = rows.into_iter().map(|(artifact, seen, to)| Grant { artifact, seen, to }).collect();
        Request::Grant { rows, incarnation: self.live.clone(), epoch: self.epoch, term: 0 }
    }

    /// Gives a lease to a session and tells the token.
    pub(crate) async fn give(&self, name: &str, to: SessionId) -> Token {
        let seen = self.lease(name).await.token;
        assert_eq!(self.matched(self.grant(vec![(artifact(name), seen, to)])).await, 1);
        self.lease(name).await.token
    }

    pub(crate) fn hand_over(
        &self,
        session: SessionId,
        name: &str,
        token: Token,
        to: Option<SessionId>,
    ) -> Request {
        let rows = vec![Handover { artifact: artifact(name), token, to }];
        Request::HandOver { session, rows, incarnation: self.live.clone(), epoch: self.epoch }
    }

    pub(crate) fn key(&self, name: &str, token: Token, session: SessionId) -> LeaseKey {
        LeaseKey { cluster: self.cluster.clone(), artifact: artifact(name), token, session }
    }
}
