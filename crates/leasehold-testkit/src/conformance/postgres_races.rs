//! The races of PostgreSQL, each with the twin that shows what the rule is for.

use std::time::Duration;

use leasehold_core::name::ClusterName;
use leasehold_core::protocol::ids::{SessionId, Token};
use leasehold_core::protocol::request::*;
use leasehold_core::store::{ErrorKind, Link, Listener, Target, checkpoint, fence, inspect, migrate};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, TransactionTrait};

use super::bed::{Bed, artifact, deployment, node};

/// A transaction of somebody who has just granted `a` to `to` and has not committed.
async fn uncommitted_grant(bed: &Bed, link: &Link, to: SessionId) -> DatabaseTransaction {
    let txn = link.connection().begin().await.unwrap();
    let grant = format!(
        "update leasehold_lease set holder = '{}', token = token + 1 where cluster = '{}' and artifact = 'a'",
        to.0, bed.cluster
    );
    assert_eq!(txn.execute_unprepared(&grant).await.unwrap().rows_affected(), 1);
    txn
}

/// Waits until a statement with `text` waits for a lock, in the schema of this test: others run at the same time.
async fn until_somebody_waits(link: &Link, text: &str) {
    let sql = format!(
        "select count(*)::int from pg_stat_activity a where wait_event_type = 'Lock' and query like '%{text}%' \
         and exists (select 1 from pg_locks l where l.pid = a.pid and l.relation in \
         ('leasehold_lease'::regclass, 'leasehold_checkpoint'::regclass))"
    );
    for _ in 0..10_000 {
        let statement = Statement::from_string(sea_orm::DbBackend::Postgres, &*sql);
        let row = link.connection().query_one_raw(statement).await.unwrap().unwrap();
        if row.try_get_by_index::<i32>(0).unwrap() > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("nobody waited for a lock in {text}");
}

struct Stale {
    bed: Bed,
    key: leasehold_core::store::LeaseKey,
    grantor: Link,
    observer: Link,
    two: SessionId,
}

async fn stale(bed: Bed) -> Stale {
    bed.register(&["a"]).await;
    let (one, two) = (bed.join("1").await, bed.join("2").await);
    let token = bed.give("a", one).await;
    let key = bed.key("a", token, one);
    checkpoint::put(bed.link.connection(), &key, "p", "old").await.unwrap();
    let (grantor, observer) = (bed.another().await, bed.another().await);
    Stale { bed, key, grantor, observer, two }
}

impl Stale {
    async fn value(&self) -> String {
        let db = self.observer.connection();
        checkpoint::get(db, &self.bed.cluster, &artifact("a"), "p").await.unwrap().unwrap().value
    }
}

/// The twin that fails: the stale write waits for its own row, the grant commits, and the condition in the sub-select
/// is not evaluated again.
pub async fn a_sub_select_lets_a_stale_write_through(bed: Bed) {
    let s = stale(bed).await;
    let blocker = s.bed.another().await;
    let block = blocker.connection().begin().await.unwrap();
    block.execute_unprepared("select 1 from leasehold_checkpoint for update").await.unwrap();
    let sql = format!(
        "update leasehold_checkpoint set value = 'stale twin' where key = 'p' and {} = \
         (select token from leasehold_lease where cluster = '{}' and artifact = 'a')",
        s.key.token, s.bed.cluster
    );
    let writer = s.bed.another().await;
    let write = tokio::spawn(async move { writer.connection().execute_unprepared(&sql).await });
    until_somebody_waits(&s.observer, "stale twin").await;
    let granted = uncommitted_grant(&s.bed, &s.grantor, s.two).await;
    granted.commit().await.unwrap();
    block.commit().await.unwrap();
    assert_eq!(write.await.unwrap().unwrap().rows_affected(), 1);
    assert_eq!(s.value().await, "stale twin", "this is why a sub-select is no fence");
}

/// The same race against the fenced checkpoint: whoever locks the lease first wins, and the other waits or is lost.
pub async fn a_fenced_checkpoint_is_not_fooled(bed: Bed) {
    let s = stale(bed).await;
    let granted = uncommitted_grant(&s.bed, &s.grantor, s.two).await;
    let (writer, key) = (s.bed.another().await, s.key.clone());
    let write = tokio::spawn(async move { checkpoint::put(writer.connection(), &key, "p", "stale").await });
    until_somebody_waits(&s.observer, "leasehold_checkpoint").await;
    granted.commit().await.unwrap();
    assert_eq!(write.await.unwrap().unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(s.value().await, "old");
}

/// The other order: the checkpoint holds the lease while it waits for its own row, so no grant comes between.
pub async fn no_grant_comes_between_a_fenced_checkpoint_and_its_commit(bed: Bed) {
    let s = stale(bed).await;
    let blocker = s.bed.another().await;
    let block = blocker.connection().begin().await.unwrap();
    block.execute_unprepared("select 1 from leasehold_checkpoint for update").await.unwrap();
    let (writer, key) = (s.bed.another().await, s.key.clone());
    let write = tokio::spawn(async move { checkpoint::put(writer.connection(), &key, "p", "in time").await });
    until_somebody_waits(&s.observer, "leasehold_checkpoint").await;
    let grant = s.bed.grant(vec![(artifact("a"), s.key.token, s.two)]);
    assert_eq!(s.bed.matched(grant.clone()).await, 0, "skipped");
    block.commit().await.unwrap();
    write.await.unwrap().unwrap();
    assert_eq!(s.bed.matched(grant).await, 1);
    assert_eq!(s.value().await, "in time");
}

pub async fn a_fence_waits_for_a_grant_and_is_lost(bed: Bed) {
    let s = stale(bed).await;
    for level in ["read committed", "repeatable read", "serializable"] {
        let holder = holder_of(&s.bed).await;
        let key = s.bed.key("a", s.bed.lease("a").await.token, holder);
        let user = s.bed.another().await;
        let txn = user.connection().begin().await.unwrap();
        txn.execute_unprepared(&format!("set transaction isolation level {level}")).await.unwrap();
        txn.execute_unprepared("select 1").await.unwrap();
        let granted = uncommitted_grant(&s.bed, &s.grantor, s.two).await;
        let fenced = tokio::spawn(async move { fence(&txn, &key, Duration::from_secs(60)).await });
        until_somebody_waits(&s.observer, "idle_in_transaction_session_timeout").await;
        granted.commit().await.unwrap();
        let error = fenced.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{level}: {error}");
    }
}

async fn holder_of(bed: &Bed) -> SessionId {
    bed.lease("a").await.holder.unwrap()
}

/// The holder's fence, and whoever wants the lease meanwhile, hold up neither renewals nor other leases.
pub async fn a_fenced_lease_holds_up_nobody_else(bed: Bed) {
    let s = stale(bed).await;
    s.bed.register(&["a", "b"]).await;
    let user = s.bed.another().await;
    let txn = user.connection().begin().await.unwrap();
    fence(&txn, &s.key, Duration::from_secs(300)).await.unwrap();
    let both = s.bed.grant(vec![(artifact("a"), s.key.token, s.two), (artifact("b"), Token(0), s.two)]);
    assert_eq!(s.bed.matched(both).await, 1, "only the free one");
    assert!(s.bed.renew(s.two, 2).await.0);
    assert!(s.bed.renew(s.key.session, 2).await.0);
    let free = s.bed.hand_over(s.key.session, "a", s.key.token, None);
    assert_eq!(s.bed.matched(free).await, 0, "the fence holds against its own node, too");
    txn.commit().await.unwrap();
}

/// The twin: a grant that waits instead of skipping (a lock of the lease after the cluster's row, as one would write it
/// with two statements) holds up everybody who raises the revision.
pub async fn locking_the_cluster_first_holds_up_everybody(bed: Bed) {
    let s = stale(bed).await;
    s.bed.register(&["a", "b"]).await;
    let user = s.bed.another().await;
    let fenced = user.connection().begin().await.unwrap();
    fence(&fenced, &s.key, Duration::from_secs(30)).await.unwrap();
    let cluster = s.bed.cluster.clone();
    let twin = s.bed.another().await;
    let waiting = tokio::spawn(async move {
        let txn = twin.connection().begin().await.unwrap();
        txn.execute_unprepared("set local lock_timeout = '10s'").await.unwrap();
        let raise = format!("update leasehold_cluster set revision = revision + 1 where name = '{cluster}'");
        txn.execute_unprepared(&raise).await.unwrap();
        txn.execute_unprepared("select 'twin' from leasehold_lease where artifact = 'a' for update").await
    });
    until_somebody_waits(&s.observer, "twin").await;
    let grant = s.bed.grant(vec![(artifact("b"), Token(0), s.two)]);
    assert_eq!(s.bed.try_call(grant).await.unwrap_err().kind(), ErrorKind::Conflict);
    fenced.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
}

pub async fn the_server_ends_a_fenced_transaction_that_falls_silent(bed: Bed) {
    let s = stale(bed).await;
    let user = s.bed.another().await;
    let txn = user.connection().begin().await.unwrap();
    fence(&txn, &s.key, Duration::from_millis(150)).await.unwrap();
    while s.bed.matched(s.bed.grant(vec![(artifact("a"), s.key.token, s.two)])).await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(txn.execute_unprepared("select 1").await.is_err());
}

pub async fn notifications_tell_of_assignments_and_not_of_renewals(bed: Bed) {
    let s = stale(bed).await;
    let mut listener = Listener::open(&s.bed.target, &s.bed.cluster).await.unwrap();
    assert!(s.bed.renew(s.two, 2).await.0);
    s.bed.watch(Scope::Everyone).await;
    let quiet = tokio::time::timeout(Duration::from_millis(150), listener.recv()).await;
    assert!(quiet.is_err(), "a renewal wakes nobody");
    s.bed.give("a", s.two).await;
    tokio::time::timeout(Duration::from_secs(60), listener.recv()).await.unwrap().unwrap();
    s.bed.call(Request::Leave { sessions: vec![s.two] }).await;
    tokio::time::timeout(Duration::from_secs(60), listener.recv()).await.unwrap().unwrap();

    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'LISTEN%'";
    s.observer
        .connection()
        .execute_unprepared(&format!("{kill} and query like '%{}%'", channel_of(&s.bed)))
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(60), listener.recv()).await.unwrap().unwrap();
    let elect = Request::Elect { session: s.two, term: 0, incarnation: s.bed.live.clone() };
    assert_eq!(s.bed.matched(elect).await, 1);
    tokio::time::timeout(Duration::from_secs(60), listener.recv()).await.unwrap().unwrap();
}

/// FNV-1a, written down once more: nodes of different versions must agree on it.
fn channel_of(bed: &Bed) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bed.cluster.as_str().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("leasehold_{hash:016x}")
}

pub async fn a_lost_connection_is_an_error_once_and_then_mended(bed: Bed) {
    let other = bed.another().await;
    let mine = bed.number("select pg_backend_pid()::bigint").await;
    other.connection().execute_unprepared(&format!("select pg_terminate_backend({mine})")).await.unwrap();
    let watch = || Request::Watch { scope: Scope::Heads };
    let mut failures = 0;
    while let Err(error) = bed.try_call(watch()).await {
        assert!(error.is_temporary(), "{error:?}");
        failures += 1;
        assert!(failures < 3, "{error:?}");
    }
    let waits =
        Statement::from_string(sea_orm::DbBackend::Postgres, "select current_setting('lock_timeout')");
    let row = bed.link.connection().query_one_raw(waits).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "1s", "the new connection has our settings");
}

pub async fn a_server_that_cannot_carry_leases_is_refused(bed: Bed) {
    let with = |setting: &str| Target::from_url(&format!("{}%20-c%20{setting}", bed.url)).unwrap();
    let error = inspect(&with("synchronous_commit%3Doff")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotDurable);
    assert!(error.to_string().contains("synchronous_commit = on"), "{error}");
    let error = inspect(&with("default_transaction_read_only%3Don")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    let nobody = Target::from_url("postgres://u:secret@127.0.0.1:1/x").unwrap();
    let error = inspect(&nobody).await.unwrap_err();
    assert!(error.is_temporary() && !format!("{error:?}").contains("secret"), "{error:?}");
}

/// Renewals stay heap-only: neither of the columns that they touch is in an index.
pub async fn renewals_are_heap_only_updates(bed: Bed) {
    let me = bed.join("1").await;
    for beat in 2..60 {
        assert!(bed.renew(me, beat).await.0);
    }
    bed.sql("select pg_stat_force_next_flush()").await;
    let sql = "select n_tup_hot_upd * 100 / greatest(n_tup_upd, 1) from pg_stat_user_tables where relid = 'leasehold_node'::regclass";
    let share = bed.number(sql).await;
    assert!(share >= 90, "only {share} % were heap-only");
}

/// A pool that sets its schema after it has connected: the tables are made where its fences will look for them.
pub async fn a_connection_with_a_search_path_is_followed(bed: Bed) {
    let schema = format!("S {}", uuid::Uuid::now_v7().simple());
    // Not `public` behind it: what other suites have made there would be found.
    let behind = format!("{schema} behind");
    bed.sql(&format!("create schema \"{schema}\"; create schema \"{behind}\"")).await;
    let mut options = sea_orm::ConnectOptions::new(bed.server());
    options.set_schema_search_path(format!("\"{schema}\", \"{behind}\""));
    let users = sea_orm::Database::connect(options).await.unwrap();
    let target = Target::from_connection(&users).await.unwrap();
    migrate(&target).await.unwrap();
    let sql = format!(
        "select count(*)::int from pg_tables where schemaname = '{schema}' and tablename like 'leasehold%'"
    );
    let statement = Statement::from_string(sea_orm::DbBackend::Postgres, sql);
    let row = users.query_one_raw(statement).await.unwrap().unwrap();
    assert!(row.try_get_by_index::<i32>(0).unwrap() > 5);
}

/// What is known of a small cluster misleads no planner about a large one.
pub async fn a_new_cluster_in_counted_tables_gets_its_leases(bed: Bed) {
    bed.register(&["a"]).await;
    bed.sql("analyze leasehold_lease, leasehold_artifact, leasehold_deployment").await;
    let cluster = ClusterName::new("large").unwrap();
    let call = async |request: Request| bed.another().await.call(&cluster, &request).await.unwrap();
    let open = Request::Open { node: node("n1"), max_ttl: Duration::from_secs(5) };
    let Answer::Opened { cluster: row, live, .. } = call(open).await else { panic!("not opened") };
    let names: Vec<String> = (0..10_000).map(|index| format!("job-{index:05}")).collect();
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    call(Request::Register { deployment: deployment(&refs, "task", "any", 1) }).await;
    // The first rows of a table are found whatever the plan is: these are in the middle.
    let middle = names[4_000..].iter().take(MAX_ROWS);
    let rows = middle.map(|name| Grant { artifact: artifact(name), seen: Token(0), to: SessionId::fresh() });
    let grant = Request::Grant { rows: rows.collect(), incarnation: live, epoch: row.epoch, term: row.term };
    assert_eq!(call(grant).await, Answer::Matched(MAX_ROWS as u64));
}
