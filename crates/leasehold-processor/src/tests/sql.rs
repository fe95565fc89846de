//! What only the store in a database does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use leasehold_core::handler::{Handler, HandlerError};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_testkit::cluster::Cluster;
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use super::{bed, builder};
use crate::conformance::Bed;
use crate::gate::Window;
use crate::outgoing::Outgoing;
use crate::store::{MessageStore, Which};
use crate::{Order, Processor, SqlStore};

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn next<T>(inbox: &mut UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, inbox.recv()).await.expect("in time").expect("a sender")
}

/// On each database of this build.
pub(super) async fn on_each<F: Future<Output = ()>>(test: impl Fn(Bed<SqlStore>) -> F) {
    test(bed(Cluster::sqlite().await)).await;
    #[cfg(feature = "test-postgres")]
    test(bed(Cluster::on("LEASEHOLD_TEST_POSTGRES").await)).await;
    #[cfg(feature = "test-mariadb")]
    test(bed(Cluster::on("LEASEHOLD_TEST_MARIADB").await)).await;
    #[cfg(feature = "test-mysql")]
    test(bed(Cluster::on("LEASEHOLD_TEST_MYSQL").await)).await;
}

/// A processor that tells the texts it gets, and its node.
async fn collect(
    bed: &Bed<SqlStore>,
    id: &str,
    order: Order,
) -> (leasehold_core::node::Node, UnboundedReceiver<String>) {
    collect_every(bed, id, order, Duration::from_millis(20)).await
}

/// The same, with a processor that looks so often.
pub(super) async fn collect_every(
    bed: &Bed<SqlStore>,
    id: &str,
    order: Order,
    poll: Duration,
) -> (leasehold_core::node::Node, UnboundedReceiver<String>) {
    let (send, seen) = unbounded_channel();
    let handler = move |message: Message, _: Lease| {
        let sent = message.text().map(|text| send.send(text.to_owned()));
        async move { Ok(sent??) }
    };
    let processor = Processor::new("p", bed.store.clone(), handler).unwrap().order(order);
    let processor = processor.poll(poll);
    let node = builder(bed, id);
    let node = node.ttl(Duration::from_millis(1600)).artifact(processor).start().await.unwrap();
    (node, seen)
}

pub(super) fn is_sqlite(bed: &Bed<SqlStore>) -> bool {
    bed.database.starts_with("sqlite")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_there_if_its_transaction_commits() {
    on_each(async |bed| {
        let db = cluster(&bed);
        let txn = db.begin().await.unwrap();
        bed.store.append(&txn, Outgoing::text("rolled back")).await.unwrap();
        txn.rollback().await.unwrap();
        let txn = db.begin().await.unwrap();
        bed.store
            .append_batch(&txn, &(0..237).map(|n| Outgoing::text(n.to_string())).collect::<Vec<_>>())
            .await
            .unwrap();
        txn.commit().await.unwrap();
        let (node, mut seen) = collect(&bed, "a", Order::Ordered).await;
        for n in 0..237 {
            assert_eq!(next(&mut seen).await, n.to_string());
        }
        node.shutdown().await;
    })
    .await;
}

pub(super) fn cluster(bed: &Bed<SqlStore>) -> sea_orm::DatabaseConnection {
    bed.keep.as_ref().unwrap().downcast_ref::<Cluster>().unwrap().db.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_delivered_though_later_ones_were() {
    on_each(async |bed| {
        if is_sqlite(&bed) {
            return; // It has one writer at a time: ids are in the order of commits.
        }
        let db = cluster(&bed);
        let late = db.begin().await.unwrap();
        bed.store.append(&late, Outgoing::text("late")).await.unwrap();
        bed.store.append(&db, Outgoing::text("early")).await.unwrap();
        let (node, mut seen) = collect(&bed, "a", Order::Ordered).await;
        assert_eq!(next(&mut seen).await, "early");
        late.commit().await.unwrap();
        assert_eq!(next(&mut seen).await, "late");
        node.shutdown().await;
        assert!(seen.try_recv().is_err(), "nothing comes twice");
        assert_eq!(bed.store.depth().await.unwrap().waiting, 0);
    })
    .await;
}

/// A key whose ordered appends do not wait for those of `key`: MySQL's share few locks among all keys of all stores.
async fn key_beside(bed: &Bed<SqlStore>, key: &str) -> String {
    let db = cluster(bed);
    for n in 0.. {
        let other = format!("other-{n}");
        if db.get_database_backend() != DbBackend::MySql {
            return other;
        }
        let sql = "select crc32(?) mod 32 = crc32(?) mod 32 as shared";
        let names = [key, other.as_str()].map(|key| format!("{}/{key}", bed.store.name()).into());
        let statement = Statement::from_sql_and_values(DbBackend::MySql, sql, names);
        let row = db.query_one_raw(statement).await.unwrap().unwrap();
        if !row.try_get::<bool>("", "shared").unwrap() {
            return other;
        }
    }
    unreachable!("one key of 32 meets another")
}

#[tokio::test(flavor = "multi_thread")]
async fn ordered_appends_of_a_key_follow_one_another() {
    on_each(async |bed| {
        if is_sqlite(&bed) {
            return; // Its writers follow one another anyway.
        }
        let db = cluster(&bed);
        let error =
            bed.store.append_ordered(&db.begin().await.unwrap(), Outgoing::text("x")).await.unwrap_err();
        assert!(error.to_string().contains("has no key"), "{error}");
        let first = db.begin().await.unwrap();
        bed.store.append_ordered(&first, Outgoing::text("first").key("k")).await.unwrap();
        let (store, other) = (bed.store.clone(), db.clone());
        let second = tokio::spawn(async move {
            let txn = other.begin().await.unwrap();
            store.append_ordered(&txn, Outgoing::text("second").key("k")).await.unwrap();
            txn.commit().await.unwrap();
        });
        let other = key_beside(&bed, "k").await;
        let txn = db.begin().await.unwrap();
        bed.store.append_ordered(&txn, Outgoing::text("another key").key(&other)).await.unwrap();
        txn.commit().await.unwrap();
        assert!(!second.is_finished(), "it waits for the first");
        first.commit().await.unwrap();
        second.await.unwrap();
        let ids = bed.store.list(i64::MIN, 10).await.unwrap();
        assert_eq!(ids.iter().filter(|row| row.key.as_deref() == Some("k")).count(), 2);
        let (node, mut seen) = collect(&bed, "a", Order::PerKey(4)).await;
        let mut of_k = Vec::new();
        while of_k.len() < 2 {
            of_k.extend(Some(next(&mut seen).await).filter(|text| text != "another key"));
        }
        assert_eq!(of_k, ["first", "second"]);
        node.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_key_with_thousands_of_messages_holds_up_no_other() {
    on_each(async |bed| {
        let open = Arc::new(AtomicBool::new(false));
        let (send, mut seen) = unbounded_channel();
        let gate = Arc::clone(&open);
        let handler = move |message: Message, _: Lease| {
            let (send, gate) = (send.clone(), Arc::clone(&gate));
            async move {
                if message.key().is_some_and(|key| key == "blocked") && !gate.load(Ordering::Relaxed) {
                    return Err(HandlerError::retry("not yet"));
                }
                Ok(send.send(message.text()?.to_owned())?)
            }
        };
        let processor =
            Processor::new("p", bed.store.clone(), handler).unwrap().order(Order::PerKey(8)).read_ahead(200);
        let processor = processor.without_breaker().attempts(1_000_000).poll(Duration::from_millis(20));
        let processor = processor.backoff(Duration::from_millis(50), Duration::from_millis(50));
        let blocked = (0..3000).map(|n| Outgoing::text(format!("b{n}")).key("blocked"));
        let others = (0..1000).map(|n| Outgoing::text(format!("o{n}")).key(n % 7));
        bed.store.append_all(&blocked.chain(others).collect::<Vec<_>>()).await.unwrap();
        let node = builder(&bed, "a");
        let node = node.artifact(processor).start().await.unwrap();
        for _ in 0..1000 {
            assert!(next(&mut seen).await.starts_with('o'));
        }
        open.store(true, Ordering::Relaxed);
        for n in 0..3000 {
            assert_eq!(next(&mut seen).await, format!("b{n}"));
        }
        node.shutdown().await;
        assert_eq!(bed.store.depth().await.unwrap().waiting, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_move_to_another_store() {
    on_each(async |bed| {
        let db = cluster(&bed);
        let other = format!("{}-other", bed.store.name());
        bed.store
            .append_all(&(0..1200).map(|n| Outgoing::text(n.to_string())).collect::<Vec<_>>())
            .await
            .unwrap();
        assert_eq!(bed.store.move_to(&other, Which::All).await.unwrap(), 1200);
        let moved = SqlStore::new(&db, &other).unwrap();
        assert_eq!(
            (bed.store.depth().await.unwrap().waiting, moved.depth().await.unwrap().waiting),
            (0, 1200)
        );
        let error = bed.store.move_to(&bed.cluster, Which::All).await.unwrap_err();
        assert!(error.to_string().contains("to itself"), "{error}");
        assert_eq!(moved.purge(Which::All).await.unwrap(), 1200);
    })
    .await;
}

/// A handler that tells under which lease it was called, and stays until it is let go.
fn held() -> (impl Handler, UnboundedReceiver<Lease>, watch::Sender<bool>) {
    let (entered, enters) = unbounded_channel();
    let (leave, left) = watch::channel(false);
    let handler = move |_: Message, lease: Lease| {
        let (entered, mut left) = (entered.clone(), left.clone());
        async move {
            entered.send(lease)?;
            left.wait_for(|left| *left).await?;
            Ok(())
        }
    };
    (handler, enters, leave)
}

/// Nothing is acknowledged under a token that is not the newest.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_lost_its_lease_acknowledges_nothing() {
    on_each(async |bed| {
        let db = cluster(&bed);
        bed.store.append(&db, Outgoing::text("once")).await.unwrap();
        let (handler, mut enters, leave) = held();
        let processor = Processor::new("p", bed.store.clone(), handler).unwrap();
        let node = builder(&bed, "a");
        let node = node.artifact(processor).start().await.unwrap();
        let lease = next(&mut enters).await;
        // What a grant to somebody else does, in the middle of the delivery.
        let sql = format!("update leasehold_lease set token = token + 1 where cluster = '{}'", bed.cluster);
        db.execute_unprepared(&sql).await.unwrap();
        leave.send(true).unwrap();
        lease.revoked().await;
        assert_eq!(bed.store.depth().await.unwrap().waiting, 1, "it is delivered again");
        node.shutdown().await;
    })
    .await;
}

/// The state that a holder leaves whose process was killed, with so many attempts of the first message recorded.
async fn killed(bed: &Bed<SqlStore>, attempts: u32) {
    let db = cluster(bed);
    let key = if db.get_database_backend() == DbBackend::MySql { "`key`" } else { "key" };
    let sql = format!(
        "insert into leasehold_checkpoint (cluster, artifact, {key}, token, value) values ('{}', 'p', 'reading', 0, 'open')",
        bed.cluster
    );
    db.execute_unprepared(&sql).await.unwrap();
    let sql = format!(
        "update leasehold_message set attempts = {attempts} where store = '{}' and message = 'm0'",
        bed.store.name()
    );
    db.execute_unprepared(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_attempts_are_recorded_before_messages_are_handed_over() {
    on_each(async |bed| {
        let db = cluster(&bed);
        bed.store
            .append_all(
                &(0..20).map(|n| Outgoing::text(n.to_string()).id(format!("m{n}"))).collect::<Vec<_>>(),
            )
            .await
            .unwrap();
        killed(&bed, 1).await;
        let (send, mut seen) = unbounded_channel();
        let (counting, name) = (db.clone(), bed.store.name().to_owned());
        let handler = move |message: Message, _: Lease| {
            let (send, db, name) = (send.clone(), counting.clone(), name.clone());
            async move {
                let sql = format!(
                    "select attempts from leasehold_message where store = '{name}' and message = '{}'",
                    message.id()
                );
                let row =
                    db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?.unwrap();
                let recorded: i64 = row.try_get("", "attempts")?;
                Ok(send.send((message.id().into_owned(), message.attempt(), recorded))?)
            }
        };
        let processor = Processor::new("p", bed.store.clone(), handler).unwrap().order(Order::Unordered(4));
        let node = builder(&bed, "a");
        let node = node.artifact(processor.poll(Duration::from_millis(20))).start().await.unwrap();
        for _ in 0..20 {
            let (id, attempt, recorded) = next(&mut seen).await;
            assert_eq!(i64::from(attempt), recorded, "{id}");
            assert_eq!(attempt, if id == "m0" { 2 } else { 1 });
        }
        // Through with them, as far as the store knows: nothing needs to be recorded any more.
        bed.until_empty().await;
        bed.store.append(&db, Outgoing::text("after").id("after")).await.unwrap();
        assert_eq!(next(&mut seen).await, ("after".to_owned(), 1, 0));
        node.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_its_process_does_not_survive_is_parked() {
    on_each(async |bed| {
        bed.store.append_all(&[Outgoing::text("killer").id("m0"), Outgoing::text("fine")]).await.unwrap();
        killed(&bed, 8).await;
        let (node, mut seen) = collect(&bed, "a", Order::Ordered).await;
        assert_eq!(next(&mut seen).await, "fine");
        node.shutdown().await;
        let parked = bed.store.parked(i64::MIN, 10).await.unwrap();
        assert!(parked[0].reason.contains("did not survive 8 attempts") && parked.len() == 1, "{parked:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_what_fails_holds_up_its_key_until_it_works_again() {
    on_each(async |bed| {
        let messages = (0..40).map(|n| Outgoing::text(n.to_string()).id(format!("m{n}")).key(n % 2));
        bed.store.append_all(&messages.collect::<Vec<_>>()).await.unwrap();
        killed(&bed, 1).await;
        let (send, mut seen) = unbounded_channel();
        let handler = move |message: Message, _: Lease| {
            let sent = message.text().map(|text| send.send((text.to_owned(), message.attempt())));
            let fails = message.id() == "m2" && message.attempt() < 3;
            async move {
                sent??;
                if fails { Err("not yet".into()) } else { Ok(()) }
            }
        };
        let millis = Duration::from_millis;
        let processor = Processor::new("p", bed.store.clone(), handler).unwrap().order(Order::PerKey(8));
        let node = builder(&bed, "a");
        let processor = processor.backoff(millis(50), millis(50)).poll(millis(20));
        let node = node.artifact(processor).start().await.unwrap();
        let mut of_even = Vec::new();
        let mut done = 0;
        while done < 2 {
            let (text, attempt) = next(&mut seen).await;
            done += usize::from(text == "38" || text == "39");
            if text.parse::<usize>().unwrap().is_multiple_of(2) {
                of_even.push((text, attempt));
            }
        }
        node.shutdown().await;
        assert_eq!(
            of_even.iter().filter(|(text, _)| text == "2").count(),
            2 + usize::from(of_even[1].1 == 1),
            "{of_even:?}"
        );
        assert_eq!(bed.store.depth().await.unwrap().waiting, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_in_order_is_not_overtaken_though_it_commits_behind_the_reader() {
    on_each(async |bed| {
        if is_sqlite(&bed) {
            return; // Ids are in the order of commits.
        }
        let db = cluster(&bed);
        let (node, mut seen) = collect(&bed, "a", Order::PerKey(4)).await;
        for round in 0..10 {
            let first = db.begin().await.unwrap();
            bed.store
                .append_ordered(&first, Outgoing::text(format!("{round} first")).key("k"))
                .await
                .unwrap();
            bed.store.append(&db, Outgoing::text("between").key("other")).await.unwrap();
            // The reader is past the first one's place.
            assert_eq!(next(&mut seen).await, "between");
            first.commit().await.unwrap();
            let second = db.begin().await.unwrap();
            bed.store
                .append_ordered(&second, Outgoing::text(format!("{round} second")).key("k"))
                .await
                .unwrap();
            second.commit().await.unwrap();
            assert_eq!(next(&mut seen).await, format!("{round} first"));
            assert_eq!(next(&mut seen).await, format!("{round} second"));
        }
        node.shutdown().await;
        assert!(seen.try_recv().is_err(), "nothing comes twice");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_behind_a_gate_is_parked_and_a_panic_does_not_close_it() {
    on_each(async |bed| {
        let (send, mut seen) = unbounded_channel();
        let handler = move |message: Message, _: Lease| {
            let sent = message.text().map(|text| send.send(text.to_owned()));
            let panics = message.attempt() == 1 && message.id() == "first";
            async move {
                sent??;
                assert!(!panics, "as the probe of a circuit");
                Ok(())
            }
        };
        let millis = Duration::from_millis;
        let breaker = crate::Breaker { failures: 1, pause: millis(100), max_pause: millis(200) };
        let throttle = crate::Throttle { messages: 1, per: Duration::from_secs(1), burst: 1 };
        let processor =
            Processor::new("p", bed.store.clone(), handler).unwrap().breaker(breaker).throttle(throttle);
        let processor = processor.backoff(millis(20), millis(20)).poll(millis(20));
        let short = |text: &str| Outgoing::text(text).time_to_live(millis(1500));
        let all = [
            Outgoing::text("first").id("first"),
            Outgoing::text("second"),
            short("expires"),
            Outgoing::text("last"),
        ];
        bed.store.append_all(&all).await.unwrap();
        let node = builder(&bed, "a");
        let node = node.artifact(processor).start().await.unwrap();
        for text in ["first", "first", "second", "last"] {
            assert_eq!(next(&mut seen).await, text);
        }
        node.shutdown().await;
        let parked = bed.store.parked(i64::MIN, 10).await.unwrap();
        assert!(
            parked.len() == 1 && parked[0].reason.contains("expired") && parked[0].attempts == 0,
            "{parked:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_keeps_times_and_a_purge_under_way_costs_no_lease() {
    on_each(async |bed| {
        let db = cluster(&bed);
        let hour = Duration::from_secs(3600);
        bed.store.append_all(&[Outgoing::text("later").delay(hour).time_to_live(hour * 2)]).await.unwrap();
        let other = format!("{}-other", bed.store.name());
        bed.store.move_to(&other, Which::All).await.unwrap();
        let moved = SqlStore::new(&db, &other).unwrap();
        assert!(moved.list(i64::MIN, 1).await.unwrap()[0].due.is_some());

        let (handler, mut enters, leave) = held();
        bed.store.append(&db, Outgoing::text("purged meanwhile")).await.unwrap();
        let processor =
            Processor::new("p", bed.store.clone(), handler).unwrap().poll(Duration::from_millis(20));
        let node = builder(&bed, "a");
        let node = node.artifact(processor).start().await.unwrap();
        let first = next(&mut enters).await;
        assert_eq!(bed.store.purge(Which::All).await.unwrap(), 1);
        leave.send(true).unwrap();
        bed.store.append(&db, Outgoing::text("next")).await.unwrap();
        assert_eq!(next(&mut enters).await.token(), first.token(), "the same run");
        node.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_its_windows_a_processor_hands_nothing_over() {
    on_each(async |bed| {
        let closed = SqlStore::new(&cluster(&bed), format!("{}-closed", bed.store.name())).unwrap();
        let (send, mut seen) = unbounded_channel();
        let processor = |name: &str, store: &SqlStore, opens: &str| {
            let (send, opens, name) = (send.clone(), opens.to_owned(), name.to_owned());
            let said = name.clone();
            let handler = move |_: Message, _: Lease| {
                let sent = send.send(said.clone());
                async move { Ok(sent?) }
            };
            let window = Window { opens, lasts: Duration::from_secs(1), zone: None };
            Processor::new(name, store.clone(), handler).unwrap().window(window)
        };
        closed.append_all(&[Outgoing::text("waits")]).await.unwrap();
        // One second each year, and each second.
        let shut = processor("shut", &closed, "0 0 0 1 1 *");
        let open = processor("open", &bed.store, "* * * * * *");
        let node = builder(&bed, "a");
        let node = node.artifact(shut).artifact(open).start().await.unwrap();
        node.wait(|status| status.running.len() == 2).await.unwrap();
        for _ in 0..20 {
            bed.store.append_all(&[Outgoing::text("comes")]).await.unwrap();
            assert_eq!(next(&mut seen).await, "open");
        }
        node.shutdown().await;
        assert!(seen.try_recv().is_err());
        assert_eq!(closed.depth().await.unwrap().waiting, 1);
    })
    .await;
}

/// However many may be in flight, and however many fit into a page.
#[tokio::test(flavor = "multi_thread")]
async fn payloads_that_are_large_are_read_as_there_is_room_for_them() {
    const MANY: usize = 80;
    const FIT: usize = 64;
    on_each(async |bed| {
        let body = |n: usize| vec![u8::try_from(n).unwrap(); crate::outgoing::DEFAULT_MAX_BYTES];
        for n in 0..MANY {
            bed.store.append_all(&[Outgoing::new(body(n))]).await.unwrap();
        }
        bed.store.append_all(&[Outgoing::text("small")]).await.unwrap();
        let (send, mut seen) = unbounded_channel();
        let (let_go, gate) = watch::channel(false);
        let (in_flight, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let highest = Arc::clone(&most);
        let handler = move |message: Message, _: Lease| {
            let (send, mut gate) = (send.clone(), gate.clone());
            let (in_flight, most) = (Arc::clone(&in_flight), Arc::clone(&most));
            async move {
                most.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let body = message.body().cloned().unwrap_or_default();
                send.send((body.first().copied(), body.len()))?;
                gate.wait_for(|open| *open).await?;
                in_flight.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        };
        let processor = Processor::new("p", bed.store.clone(), handler).unwrap().order(Order::Unordered(200));
        let node = builder(&bed, "a");
        let node = node.artifact(processor).start().await.unwrap();
        let mut all = Vec::new();
        while all.len() < FIT {
            all.push(next(&mut seen).await);
        }
        // More than it would take to hand over what is small.
        let more = tokio::time::timeout(Duration::from_millis(300), seen.recv()).await;
        assert!(more.is_err(), "{more:?}");
        let_go.send(true).unwrap();
        while all.len() < MANY + 1 {
            all.push(next(&mut seen).await);
        }
        bed.until_empty().await;
        node.shutdown().await;
        assert!(highest.load(Ordering::SeqCst) <= FIT + 1);
        all.sort_unstable();
        assert_eq!(all.pop().unwrap(), (Some(b's'), 5));
        for (n, got) in all.into_iter().enumerate() {
            assert_eq!(got, (Some(u8::try_from(n).unwrap()), crate::outgoing::DEFAULT_MAX_BYTES));
        }
    })
    .await;
}

/// A key that is tried again, and has more behind it than may be in memory, holds up no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_key_with_large_payloads_holds_up_no_other() {
    let bed = bed(Cluster::sqlite().await);
    for _ in 0..80 {
        let large = vec![b'x'; crate::outgoing::DEFAULT_MAX_BYTES];
        bed.store.append_all(&[Outgoing::new(large).key("blocked")]).await.unwrap();
    }
    bed.store.append_all(&[Outgoing::text("free").key("free")]).await.unwrap();
    let (send, mut seen) = unbounded_channel();
    let works = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&works);
    let handler = move |message: Message, _: Lease| {
        let (send, healed) = (send.clone(), healed.load(Ordering::SeqCst));
        async move {
            let is_free = message.body().is_some_and(|body| body.len() == 4);
            if is_free || healed {
                return Ok(send.send(is_free)?);
            }
            Err(HandlerError::retry("not yet"))
        }
    };
    let processor = Processor::new("p", bed.store.clone(), handler).unwrap().order(Order::PerKey(4));
    let processor = processor.attempts(1000).backoff(Duration::from_millis(50), Duration::from_millis(100));
    let node = builder(&bed, "a");
    let node = node.artifact(processor.without_breaker()).start().await.unwrap();
    assert!(next(&mut seen).await, "the other key is delivered");
    works.store(true, Ordering::SeqCst);
    for _ in 0..80 {
        assert!(!next(&mut seen).await);
    }
    bed.until_empty().await;
    node.shutdown().await;
}
