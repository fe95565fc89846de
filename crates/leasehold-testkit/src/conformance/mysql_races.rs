//! The races of MariaDB and MySQL, each with the twin that shows what the rule is for.

use std::time::Duration;

use leasehold_core::protocol::ids::{SessionId, Token};
use leasehold_core::store::{ErrorKind, LeaseKey, Link, checkpoint, fence};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, Statement, TransactionTrait,
};
use tokio::task::JoinHandle;

use super::bed::{Bed, artifact};

/// A transaction of somebody who has just granted `a` to `to` and has not committed.
async fn uncommitted_grant(bed: &Bed, link: &Link, to: SessionId) -> DatabaseTransaction {
    let txn = link.connection().begin().await.unwrap();
    let grant = format!(
        "update leasehold_lease set holder = unhex('{}'), token = token + 1 where cluster = '{}' and artifact = 'a'",
        to.0.simple(),
        bed.cluster
    );
    assert_eq!(txn.execute_unprepared(&grant).await.unwrap().rows_affected(), 1);
    txn
}

/// Waits until a statement with `text`, in the database of this test, waits for a lock.
/// `text` stands before the first bytes that are no text: MySQL compares no further.
async fn until_somebody_waits(link: &Link, text: &str) {
    let query = async |sql: &str| {
        link.connection().query_all_raw(Statement::from_string(DbBackend::MySql, sql)).await.unwrap()
    };
    let version: String = query("select version()").await[0].try_get_by_index(0).unwrap();
    // Each server shows some of its waits in one place only. In `innodb_trx` both show what was there when nobody had
    // read it for 0.1 s.
    let waits = async || {
        if !version.contains("MariaDB") {
            let sql = format!(
                "select 1 from performance_schema.data_lock_waits w join performance_schema.threads t \
                 on t.thread_id = w.requesting_thread_id where t.processlist_db = database() \
                 and (t.processlist_info is null or t.processlist_info like '%{text}%')"
            );
            return !query(&sql).await.is_empty();
        }
        let sql = format!(
            "select id from information_schema.processlist where db = database() and info like '%{text}%'"
        );
        let askers = query(&sql).await;
        let status: String = query("show engine innodb status").await[0].try_get_by_index(2).unwrap();
        askers.iter().any(|asker| {
            let asker = format!("thread id {},", asker.try_get_by_index::<i64>(0).unwrap());
            status.split("---TRANSACTION").any(|one| one.contains("LOCK WAIT") && one.contains(&asker))
        })
    };
    for _ in 0..1000 {
        if waits().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody waited for a lock in {text}");
}

/// A connection that waits longer for a lock than ours do.
async fn patient(bed: &Bed) -> Link {
    let link = bed.another().await;
    link.connection().execute_unprepared("set session innodb_lock_wait_timeout = 30").await.unwrap();
    link
}

struct Stale {
    bed: Bed,
    key: LeaseKey,
    grantor: Link,
    observer: Link,
    two: SessionId,
}

async fn stale(bed: Bed) -> Stale {
    bed.register(&["a", "b"]).await;
    let (one, two) = (bed.join("1").await, bed.join("2").await);
    let token = bed.give("a", one).await;
    let key = bed.key("a", token, one);
    checkpoint::put(bed.link.connection(), &key, "p", "old").await.unwrap();
    let (grantor, observer) = (patient(&bed).await, bed.another().await);
    Stale { bed, key, grantor, observer, two }
}

impl Stale {
    /// A statement that waits for a lock.
    async fn waiter(&self, sql: String, marker: &'static str) -> JoinHandle<Result<ExecResult, DbErr>> {
        let writer = patient(&self.bed).await;
        let write = tokio::spawn(async move { writer.connection().execute_unprepared(&sql).await });
        until_somebody_waits(&self.observer, marker).await;
        write
    }

    async fn value(&self) -> String {
        let db = self.observer.connection();
        checkpoint::get(db, &self.bed.cluster, &artifact("a"), "p").await.unwrap().unwrap().value
    }
}

/// The twin that fails: the stale write waits for its own row, the grant commits, and the condition in the sub-select
/// is not evaluated again.
pub async fn a_sub_select_lets_a_stale_write_through(bed: Bed) {
    let s = stale(bed).await;
    let blocker = patient(&s.bed).await;
    let block = blocker.connection().begin().await.unwrap();
    block.execute_unprepared("select 1 from leasehold_checkpoint for update").await.unwrap();
    let sql = format!(
        "update leasehold_checkpoint set value = 'stale twin' where `key` = 'p' and {} = \
         (select token from leasehold_lease where cluster = '{}' and artifact = 'a')",
        s.key.token, s.bed.cluster
    );
    let writer = patient(&s.bed).await;
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
    let (writer, key) = (patient(&s.bed).await, s.key.clone());
    let write = tokio::spawn(async move { checkpoint::put(writer.connection(), &key, "p", "stale").await });
    until_somebody_waits(&s.observer, "leasehold_checkpoint").await;
    granted.commit().await.unwrap();
    assert_eq!(write.await.unwrap().unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(s.value().await, "old");
}

/// A plain read shows the transaction's snapshot; the fence reads what is there now, at any level.
pub async fn a_fence_waits_for_a_grant_and_is_lost(bed: Bed) {
    let s = stale(bed).await;
    for level in ["read committed", "repeatable read", "serializable"] {
        let lease = s.bed.lease("a").await;
        let key = s.bed.key("a", lease.token, lease.holder.unwrap());
        let user = patient(&s.bed).await;
        let level_set = format!("set session transaction isolation level {level}");
        user.connection().execute_unprepared(&level_set).await.unwrap();
        let txn = user.connection().begin().await.unwrap();
        txn.execute_unprepared("select 1 from leasehold_node").await.unwrap();
        let granted = uncommitted_grant(&s.bed, &s.grantor, s.two).await;
        let fenced = tokio::spawn(async move { fence(&txn, &key, Duration::from_secs(60)).await });
        until_somebody_waits(&s.observer, "from leasehold_lease").await;
        granted.commit().await.unwrap();
        let error = fenced.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{level}: {error}");
    }
}

/// The holder's fence, and whoever wants the lease meanwhile, hold up neither renewals nor other leases.
pub async fn a_fenced_lease_holds_up_nobody_else(bed: Bed) {
    let s = stale(bed).await;
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

/// A grant that waits for a fenced lease: ours has locked no row of a node, its twin that looks whether the grantee lives has.
pub async fn a_grant_that_reads_the_node_delays_its_renewals(bed: Bed) {
    let s = stale(bed).await;
    let user = s.bed.another().await;
    let fenced = user.connection().begin().await.unwrap();
    fence(&fenced, &s.key, Duration::from_secs(300)).await.unwrap();
    let (session, cluster) = (s.two.0.simple(), &s.bed.cluster);
    let lease = format!("l.cluster = '{cluster}' and l.artifact = 'a'");
    let ours = s.waiter(
        format!(
            "update (select 'ours' as w) w straight_join leasehold_lease l on {lease} straight_join leasehold_cluster c \
             on c.name = '{cluster}' set l.token = l.token + 1, c.revision = c.revision + 1"
        ),
        "ours",
    )
    .await;
    assert!(s.bed.renew(s.two, 2).await.0, "no renewal waits for it");
    let twin = s.waiter(
        format!(
            "update (select 'twin' as w) w straight_join leasehold_node n on n.session = unhex('{session}') \
             straight_join leasehold_lease l on {lease} set l.token = l.token + 1, n.pass = n.pass"
        ),
        "twin",
    )
    .await;
    let error = s.bed.try_call(s.bed.renewal(s.two, 3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    fenced.rollback().await.unwrap();
    ours.await.unwrap().unwrap();
    twin.await.unwrap().unwrap();
}

/// Without the collation the two would be one; a checkpoint's name is the user's, and may end with a space.
pub async fn names_compare_bytewise(bed: Bed) {
    let s = stale(bed).await;
    let db = s.bed.link.connection();
    for name in ["p ", "P", "ß", "ss"] {
        checkpoint::put(db, &s.key, name, name).await.unwrap();
    }
    assert_eq!(s.value().await, "old");
    let read = checkpoint::get(db, &s.bed.cluster, &artifact("a"), "p ").await.unwrap().unwrap();
    assert_eq!(read.value, "p ");
}
