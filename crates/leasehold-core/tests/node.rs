//! Nodes on a real SQLite file: the whole way from the builder to a fenced write.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]
#![cfg(feature = "sqlite")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::artifact::{Artifact, ArtifactError};
use leasehold_core::control::Control;
use leasehold_core::lead::Lead;
use leasehold_core::lease::Lease;

use leasehold_core::name::{ArtifactKind, ArtifactName, NodeId};
use leasehold_core::node::{Node, NodeBuilder};
use leasehold_core::protocol::placement::Placement;
use leasehold_core::resolver::{Problem, ResolveError, Resolver};
use leasehold_core::store::{Target, audit};
use leasehold_core::{Error, LeaseLost};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// Long enough that a slow disk does not look like death.
const TTL: Duration = Duration::from_millis(1600);
/// Only a hang takes longer.
const HANG: Duration = Duration::from_secs(60);

fn url(folder: &TempDir) -> String {
    format!("sqlite://{}/app.db?mode=rwc", folder.path().display())
}

fn builder(folder: &TempDir, node: &str) -> NodeBuilder {
    Node::builder(url(folder)).cluster("orders").node_id(node).ttl(TTL)
}

/// Runs until it is asked to end, and tells the test about its leases.
fn job(name: &str, leases: mpsc::UnboundedSender<Lease>) -> impl Artifact + use<> {
    Lead::new(name, move |lease: Lease| {
        let leases = leases.clone();
        async move {
            leases.send(lease.clone())?;
            lease.revoked().await;
            Ok(())
        }
    })
    .unwrap()
}

async fn next(leases: &mut mpsc::UnboundedReceiver<Lease>) -> Lease {
    tokio::time::timeout(HANG, leases.recv()).await.expect("a run, sooner or later").unwrap()
}

#[tokio::test]
async fn one_of_two_nodes_runs_and_a_polite_stop_hands_over() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    let (to_b, mut on_b) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", to_a)).start().await.unwrap();
    let first = next(&mut on_a).await;
    let b = builder(&folder, "b").artifact(job("import", to_b)).start().await.unwrap();
    assert!(first.is_valid() && a.status().borrow().runs("import") && !b.status().borrow().runs("import"));

    a.shutdown().await;
    let second = next(&mut on_b).await;
    assert!(!first.is_valid() && second.is_valid() && second.token() > first.token());
    assert!(matches!(first.check(), Err(LeaseLost { why: Some(_), .. })));
    a.shutdown().await;
    b.shutdown().await;
    assert!(!second.is_valid());
}

#[tokio::test]
async fn a_fenced_transaction_commits_with_the_lease_and_not_without() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", to_a)).start().await.unwrap();
    let lease = next(&mut on_a).await;
    let db = Database::connect(url(&folder)).await.unwrap();
    db.execute_unprepared("create table booked (id text primary key)").await.unwrap();

    let book = async |id: &'static str| {
        let booked = lease
            .transaction(&db, async |txn| {
                txn.execute_unprepared(&format!("insert into booked values ('{id}')")).await?;
                lease.checkpoint(txn, "up-to", id).await?;
                Ok::<_, ArtifactError>(())
            })
            .await;
        booked.map_err(|error| error.to_string())
    };
    book("first").await.unwrap();
    assert_eq!(lease.load("up-to").await.unwrap().as_deref(), Some("first"));
    lease.save("up-to", 7).await.unwrap();
    assert_eq!(lease.load("up-to").await.unwrap().as_deref(), Some("7"));

    // Behind the node's back, as a grant after an expiry would.
    db.execute_unprepared("update leasehold_lease set token = token + 1").await.unwrap();
    let lost = book("second").await.unwrap_err();
    assert!(lost.contains("the lease on artifact \"import\" is lost"), "{lost}");
    assert!(matches!(lease.save("up-to", 8).await, Err(Error::Lost(_))));
    assert_eq!(count(&db, "booked").await, 1);
    a.shutdown().await;
}

async fn count(db: &DatabaseConnection, table: &str) -> i64 {
    let sql = format!("select count(*) as n from {table}");
    let row =
        db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

#[tokio::test]
async fn a_dropped_transaction_leaves_the_pool_usable() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", to_a)).start().await.unwrap();
    let lease = next(&mut on_a).await;
    let mut options = sea_orm::ConnectOptions::new(url(&folder));
    options.max_connections(1);
    let db = Database::connect(options).await.unwrap();
    db.execute_unprepared("create table booked (id integer primary key)").await.unwrap();
    for _ in 0..20 {
        let (entered, mut inside) = watch::channel(false);
        let body = lease.transaction(&db, async |txn| {
            txn.execute_unprepared("insert into booked default values").await?;
            entered.send_replace(true);
            std::future::pending::<()>().await;
            Ok::<_, ArtifactError>(())
        });
        tokio::select! {
            _ = body => unreachable!("the body never ends"),
            _ = inside.wait_for(|inside| *inside) => {}
        }
    }
    assert_eq!(count(&db, "booked").await, 0);
    a.shutdown().await;
}

struct Flaky {
    name: ArtifactName,
    tries: mpsc::UnboundedSender<Lease>,
}

#[async_trait]
impl Artifact for Flaky {
    fn name(&self) -> &ArtifactName {
        &self.name
    }

    fn kind(&self) -> ArtifactKind {
        ArtifactKind::new("lead").unwrap()
    }

    async fn run(&self, lease: Lease) -> Result<(), ArtifactError> {
        self.tries.send(lease)?;
        panic!("no such table: orders");
    }
}

#[tokio::test]
async fn a_panic_is_shown_and_repeated_under_a_higher_token() {
    let folder = TempDir::new().unwrap();
    let (tries, mut runs) = mpsc::unbounded_channel();
    let flaky = Flaky { name: ArtifactName::new("import").unwrap(), tries };
    let a = builder(&folder, "a").artifact(flaky).start().await.unwrap();
    let first = next(&mut runs).await;
    let second = next(&mut runs).await;
    assert!(second.token() > first.token() && !first.is_valid());
    a.wait(|status| status.errors.values().any(|error| error.contains("panicked: no such table")))
        .await
        .unwrap();
    a.shutdown().await;
}

#[tokio::test]
async fn pause_and_resume_reach_the_holder_from_any_node() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    let (to_b, mut on_b) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", to_a)).start().await.unwrap();
    next(&mut on_a).await;
    let b = builder(&folder, "b").artifact(job("import", to_b)).start().await.unwrap();
    let import = ArtifactName::new("import").unwrap();
    b.control().pause(&import).await.unwrap();
    a.wait(|status| status.running.is_empty()).await.unwrap();
    b.control().pause(&import).await.unwrap();
    let unknown = ArtifactName::new("export").unwrap();
    assert!(matches!(b.control().pause(&unknown).await, Err(Error::Artifact { .. })));
    b.control().resume(&import).await.unwrap();
    tokio::select! {
        _ = next(&mut on_a) => {}
        _ = next(&mut on_b) => {}
    }
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn an_operator_moves_drains_evicts_and_forgets_and_the_trail_says_who_and_why() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    let (to_b, mut on_b) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", to_a)).start().await.unwrap();
    next(&mut on_a).await;
    let b = builder(&folder, "b").label("zone", "eu").artifact(job("import", to_b)).start().await.unwrap();
    let import = ArtifactName::new("import").unwrap();
    let [node_a, node_b, nobody] = ["a", "b", "nobody"].map(|id| NodeId::new(id).unwrap());
    // From a process that is no node.
    let control =
        Control::open(&url(&folder), "orders").await.unwrap().by("night shift").reason("bank is closed");

    control.move_artifact(&import, &node_b).await.unwrap();
    next(&mut on_b).await;
    let c = builder(&folder, "c").start().await.unwrap();
    let refused = control.move_artifact(&import, &NodeId::new("c").unwrap()).await.unwrap_err().to_string();
    assert!(refused.contains("has not deployed it"), "{refused}");
    c.shutdown().await;
    let refused = control.move_artifact(&import, &nobody).await.unwrap_err().to_string();
    assert!(refused.contains("no such node takes part; there are: a, b"), "{refused}");
    control.unmove_artifact(&import).await.unwrap();

    control.drain(&node_b).await.unwrap();
    next(&mut on_a).await;
    assert!(control.readmit(&node_b).await.unwrap());
    assert!(!control.readmit(&node_b).await.unwrap(), "it is not drained any more");

    control.evict(&node_a).await.unwrap();
    next(&mut on_b).await;
    assert!(control.readmit(&node_a).await.unwrap());

    let refused = control.forget(&import).await.unwrap_err().to_string();
    assert!(refused.contains("is deployed by a node that has a session"), "{refused}");
    a.shutdown().await;
    b.shutdown().await;
    control.forget(&import).await.unwrap();
    assert!(matches!(control.pause(&import).await, Err(Error::Artifact { .. })), "it is not known any more");

    let db = Database::connect(url(&folder)).await.unwrap();
    let text = "select kind, detail from leasehold_event where detail like '%night shift%' order by at, id";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap();
    let kinds: Vec<String> = rows.iter().map(|row| row.try_get("", "kind").unwrap()).collect();
    assert_eq!(kinds, ["moved", "unmoved", "drained", "readmitted", "evicted", "readmitted", "forgotten"]);
    assert!(rows.iter().all(|row| row.try_get::<String>("", "detail").unwrap().contains("bank is closed")));
}

#[tokio::test]
async fn a_move_and_a_pause_outlive_a_restart_of_all_nodes() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    let (to_b, mut on_b) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", to_a.clone())).start().await.unwrap();
    next(&mut on_a).await;
    let b = builder(&folder, "b").artifact(job("import", to_b.clone())).start().await.unwrap();
    let (import, control) = (ArtifactName::new("import").unwrap(), b.control());
    control.move_artifact(&import, &NodeId::new("b").unwrap()).await.unwrap();
    next(&mut on_b).await;
    control.pause(&import).await.unwrap();
    b.wait(|status| status.running.is_empty()).await.unwrap();
    a.shutdown().await;
    b.shutdown().await;
    let a = builder(&folder, "a").artifact(job("import", to_a)).start().await.unwrap();
    let b = builder(&folder, "b").artifact(job("import", to_b)).start().await.unwrap();
    let overview = control.overview().await.unwrap();
    assert!(format!("{overview:?}").contains("Paused"), "{overview:?}");
    control.resume(&import).await.unwrap();
    next(&mut on_b).await;
    assert!(on_a.try_recv().is_err(), "it was moved to b");
    a.shutdown().await;
    b.shutdown().await;
}

/// Why nobody runs this artifact, as an operator reads it.
async fn waiting(control: &Control, artifact: &str) -> String {
    let overview = control.overview().await.unwrap();
    let found = overview.artifacts.into_iter().find(|state| state.artifact.as_str() == artifact).unwrap();
    found.waiting.map(|waiting| waiting.to_string()).unwrap_or_default()
}

#[cfg(unix)]
#[tokio::test]
async fn a_start_that_fails_lets_the_lock_file_go() {
    let folder = TempDir::new().unwrap();
    let lock = folder.path().join("lock");
    let (leases, mut runs) = mpsc::unbounded_channel();
    let start = |migrate| {
        let node = builder(&folder, "a").lock_file(&lock).migrate(migrate);
        node.artifact(job("import", leases.clone())).start()
    };
    let refused = start(false).await.unwrap_err().to_string();
    assert!(!refused.contains("lock file"), "there is no schema: {refused}");
    let node = start(true).await.unwrap();
    next(&mut runs).await;
    let refused = start(true).await.unwrap_err().to_string();
    assert!(refused.contains("holds the lock file"), "{refused}");
    node.shutdown().await;
    start(true).await.unwrap().shutdown().await;
}

#[derive(Debug)]
struct ByTenant;

impl Resolver for ByTenant {
    fn name(&self) -> &str {
        "by-tenant"
    }

    fn resolve(&self, _: &Problem) -> Result<Vec<Option<usize>>, ResolveError> {
        let message = "there is no list of tenants".to_owned();
        Err(ResolveError { resolver: self.name().to_owned(), message })
    }
}

#[tokio::test]
async fn an_overview_tells_why_nobody_runs_an_artifact() {
    let folder = TempDir::new().unwrap();
    let (leases, mut runs) = mpsc::unbounded_channel();
    let placed = |name: &str, placement| Lead::new(name, async |_| Ok(())).unwrap().placement(placement);
    let a = builder(&folder, "a")
        .add_resolver(ByTenant)
        .artifact(placed("custom", Placement::by("by-tenant")))
        .artifact(placed("pinned", Placement::pinned(["x", "y"]).unwrap()))
        .artifact(placed("labelled", Placement::round_robin().label("zone", "eu")))
        .artifact(placed("lonely", Placement::round_robin().min_nodes(3)))
        .artifact(job("import", leases))
        .start()
        .await
        .unwrap();
    next(&mut runs).await;
    let control = a.control();
    assert_eq!(waiting(&control, "import").await, "");
    let why = waiting(&control, "pinned").await;
    assert!(why.contains("pinned to x, y, of which none takes part"), "{why}");
    let why = waiting(&control, "labelled").await;
    assert!(why.contains("has the labels of its placement"), "{why}");
    let why = waiting(&control, "lonely").await;
    assert!(why.contains("waits for 3 nodes") && why.contains("1 take part"), "{why}");
    let said = async || loop {
        let why = waiting(&control, "custom").await;
        if why.contains("list of tenants") {
            return why;
        }
        tokio::task::yield_now().await;
    };
    let why = tokio::time::timeout(HANG, said()).await.unwrap();
    assert_eq!(why, r#"not placed: resolver "by-tenant": there is no list of tenants"#);
    control.pause(&ArtifactName::new("import").unwrap()).await.unwrap();
    a.wait(|status| !status.runs("import")).await.unwrap();
    let paused = async || while waiting(&control, "import").await != "paused" {};
    tokio::time::timeout(HANG, paused()).await.unwrap();
    a.shutdown().await;
    assert!(waiting(&control, "custom").await.contains("deployed by no node"));
}

#[tokio::test]
async fn deploy_and_undeploy_later() {
    let folder = TempDir::new().unwrap();
    let a = builder(&folder, "a").start().await.unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    a.deploy(job("import", to_a.clone())).await.unwrap();
    next(&mut on_a).await;
    assert!(a.deploy(job("import", to_a)).await.unwrap_err().to_string().contains("deployed twice"));
    a.undeploy(&ArtifactName::new("import").unwrap()).unwrap();
    a.wait(|status| status.running.is_empty()).await.unwrap();
    let unknown = a.undeploy(&ArtifactName::new("export").unwrap()).unwrap_err();
    assert!(unknown.to_string().contains("is not deployed on this node"), "{unknown}");
    a.shutdown().await;
}

#[tokio::test]
async fn a_second_process_with_a_live_node_id_is_refused() {
    let folder = TempDir::new().unwrap();
    let a = builder(&folder, "a").start().await.unwrap();
    let error = builder(&folder, "a").start().await.unwrap_err().to_string();
    assert!(
        error.contains("node \"a\" is already running") && error.contains("give each replica its own"),
        "{error}"
    );
    assert!(a.status().borrow().session.is_some());
    a.shutdown().await;
}

#[tokio::test]
async fn the_audit_trail_tells_the_story() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    // The last events are written within about a ttl, or not at all: a long one suits a slow disk.
    let patient = builder(&folder, "a").ttl(HANG);
    let a = patient.artifact(job("import", to_a)).start().await.unwrap();
    next(&mut on_a).await;
    a.shutdown().await;
    let db = Target::from_url(&url(&folder)).unwrap().pool(1).unwrap();
    let cluster = leasehold_core::name::ClusterName::new("orders").unwrap();
    let events = audit::latest(&db, &cluster, 50).await.unwrap();
    let kinds: Vec<&str> = events.iter().rev().map(|stored| stored.event.kind.as_str()).collect();
    for kind in ["joined", "elected", "started", "revoked", "left"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_with_nothing_changed() {
    let folder = TempDir::new().unwrap();
    let error = |builder: NodeBuilder| async move { builder.start().await.unwrap_err().to_string() };
    assert!(error(builder(&folder, "Node A")).await.contains("\"node-a\""));
    assert!(error(builder(&folder, "a").cluster("a b")).await.contains("cluster name"));
    assert!(error(builder(&folder, "a").ttl(Duration::from_millis(10))).await.contains("500ms"));
    assert!(error(builder(&folder, "a").watch(TTL)).await.contains("at most ttl/8"));
    let (leases, _) = mpsc::unbounded_channel();
    let twice = builder(&folder, "a").artifact(job("import", leases.clone())).artifact(job("import", leases));
    assert!(error(twice).await.contains("deployed twice"));
    assert!(error(Node::builder("sqlite::memory:")).await.contains("use a file"));
    assert!(error(Node::builder("oracle://u:secret@h/d")).await.contains("postgres://"));
    assert!(error(Node::builder("sqlite:///no/such/folder/x.db")).await.contains("does not exist"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was created");
}

#[tokio::test]
async fn a_ttl_above_the_clusters_limit_is_refused() {
    let folder = TempDir::new().unwrap();
    let a = builder(&folder, "a").start().await.unwrap();
    let error = builder(&folder, "b").ttl(TTL * 2).start().await.unwrap_err().to_string();
    assert!(error.contains("max_ttl 1.6s") && error.contains("lower ttl"), "{error}");
    a.shutdown().await;
}

#[tokio::test]
async fn a_kind_never_changes() {
    let folder = TempDir::new().unwrap();
    let (leases, _keep) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", leases.clone())).start().await.unwrap();
    struct Other(ArtifactName);
    #[async_trait]
    impl Artifact for Other {
        fn name(&self) -> &ArtifactName {
            &self.0
        }
        fn kind(&self) -> ArtifactKind {
            ArtifactKind::new("task").unwrap()
        }
        async fn run(&self, _: Lease) -> Result<(), ArtifactError> {
            Ok(())
        }
    }
    let other = Other(ArtifactName::new("import").unwrap());
    let error = builder(&folder, "b").artifact(other).start().await.unwrap_err().to_string();
    assert!(error.contains("import") && error.contains("lead") && error.contains("task"), "{error}");
    a.shutdown().await;
}

#[tokio::test]
async fn a_dropped_node_leaves() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", to_a)).start().await.unwrap();
    let lease = next(&mut on_a).await;
    let mut status = a.status();
    drop(a);
    // The channel closes when the keeper is gone.
    let left = status.wait_for(|status| status.state == leasehold_core::status::State::Left).await;
    assert!(left.is_ok() && !lease.is_valid());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_blocked_runtime_loses_no_session() {
    let folder = TempDir::new().unwrap();
    let (to_a, mut on_a) = mpsc::unbounded_channel();
    let a = builder(&folder, "a").artifact(job("import", to_a)).start().await.unwrap();
    let lease = next(&mut on_a).await;
    let session = a.status().borrow().session;
    let blocked = Arc::new(std::sync::Barrier::new(2));
    let until = Arc::clone(&blocked);
    // The only worker waits for the test's own thread, far longer than a ttl.
    let worker = tokio::spawn(async move { until.wait() });
    std::thread::sleep(TTL * 3);
    assert!(lease.is_valid(), "renewed by the keeper's own thread");
    blocked.wait();
    worker.await.unwrap();
    assert_eq!(a.status().borrow().session, session);
    a.shutdown().await;
}
