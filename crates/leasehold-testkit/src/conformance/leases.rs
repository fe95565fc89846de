//! Artifacts, leases, fences, checkpoints and the audit trail.

use std::time::Duration;

use leasehold_core::protocol::ids::{SessionId, Token};
use leasehold_core::protocol::request::*;
use leasehold_core::store::audit::{self, AuditEvent};
use leasehold_core::store::{ErrorKind, checkpoint, fence};
use sea_orm::{ConnectionTrait, SqliteTransactionMode, TransactionOptions, TransactionTrait};

use super::bed::{Bed, artifact, deployment, node};

pub async fn registers(bed: Bed) {
    let set = deployment(&["b", "a"], "task", "any", 1);
    assert_eq!(bed.matched(Request::Register { deployment: set.clone() }).await, 2);
    assert_eq!(bed.revision().await, 2);
    assert_eq!(bed.matched(Request::Register { deployment: set.clone() }).await, 0);
    assert_eq!(bed.revision().await, 2, "nothing changed");
    let Answer::Leases { rows, deployments, .. } =
        bed.call(Request::Leases { deployments: vec![set.id] }).await
    else {
        panic!()
    };
    assert_eq!(rows.iter().map(|r| r.artifact.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(rows.iter().all(|r| r.holder.is_none() && r.token == Token(0) && r.desired == Desired::Active));
    assert_eq!(deployments, [set]);

    let other = Request::Register { deployment: deployment(&["a", "c"], "polling", "any", 2) };
    let error = bed.try_call(other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.contains("artifact a") && text.contains("task") && text.contains("polling"), "{text}");
    assert_eq!(bed.leases().await.len(), 2, "nothing of it was made");
    assert_eq!(bed.revision().await, 2);
}

pub async fn the_newest_placement_counts(bed: Bed) {
    let old = Request::Register { deployment: deployment(&["a"], "task", "old", 1) };
    let new = Request::Register { deployment: deployment(&["a"], "task", "new", 2) };
    bed.call(old.clone()).await;
    bed.call(new).await;
    assert_eq!(&*bed.lease("a").await.placement.resolver, "new");
    assert_eq!(bed.revision().await, 3);
    bed.call(old).await;
    assert_eq!(
        &*bed.lease("a").await.placement.resolver,
        "new",
        "a fingerprint that was seen before is not the newest"
    );
}

pub async fn grants_by_token(bed: Bed) {
    bed.register(&["a", "b"]).await;
    let (one, two) = (bed.join("1").await, bed.join("2").await);
    let row = |name: &str, token, to| (artifact(name), token, to);
    let before = bed.revision().await;
    let grant = bed.grant(vec![row("b", Token(0), one), row("a", Token(0), one), row("none", Token(0), one)]);
    assert_eq!(bed.matched(grant.clone()).await, 2);
    assert_eq!(bed.revision().await, before + 1, "once for the statement");
    let lease = bed.lease("a").await;
    assert_eq!((lease.holder, lease.token), (Some(one), Token(0).next(bed.epoch)));

    assert_eq!(bed.matched(grant).await, 0, "the token that was seen is stale");
    assert_eq!(bed.revision().await, before + 1, "nothing changed");
    assert_eq!(bed.matched(bed.grant(vec![row("a", lease.token, two), row("b", Token(0), two)])).await, 1);
    assert_eq!(bed.lease("a").await.token, Token(lease.token.0 + 1));

    let Request::Grant { rows, incarnation, epoch, .. } = bed.grant(vec![row("b", lease.token, two)]) else {
        panic!()
    };
    assert_eq!(bed.matched(Request::Grant { rows, incarnation, epoch, term: 9 }).await, 0, "not this term");

    let Answer::Held { cluster, rows } = bed.call(Request::Held { session: two }).await else { panic!() };
    assert_eq!(cluster.revision, before + 2);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].artifact.as_str(), rows[0].token), ("a", Token(lease.token.0 + 1)));
    let Answer::Held { rows, .. } = bed.call(Request::Held { session: SessionId::fresh() }).await else {
        panic!()
    };
    assert!(rows.is_empty());
}

pub async fn grants_many(bed: Bed) {
    let names: Vec<String> = (0..2_500).map(|i| format!("a{i:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bed.register(&names).await;
    let me = bed.join("1").await;
    let revision = bed.revision().await;
    let rows: Vec<_> = names.iter().map(|n| (artifact(n), Token(0), me)).collect();
    let mut granted = Vec::new();
    for set in rows.chunks(MAX_ROWS) {
        granted.push(bed.matched(bed.grant(set.to_vec())).await);
    }
    assert_eq!(granted, [2_000, 500]);
    assert_eq!(bed.revision().await, revision + 2);
    assert!(bed.leases().await.iter().all(|l| l.holder == Some(me)));
    let rows: Vec<_> = bed.leases().await.into_iter().take(MAX_ROWS).collect();
    let rows =
        rows.into_iter().map(|l| Handover { artifact: l.artifact, token: l.token, to: None }).collect();
    let request = Request::HandOver { session: me, rows, incarnation: bed.live.clone(), epoch: bed.epoch };
    assert_eq!(bed.matched(request).await, 2_000);
}

pub async fn hands_over(bed: Bed) {
    bed.register(&["a"]).await;
    let (one, two) = (bed.join("1").await, bed.join("2").await);
    let token = bed.give("a", one).await;
    assert_eq!(bed.matched(bed.hand_over(two, "a", token, None)).await, 0, "not the holder");
    assert_eq!(bed.matched(bed.hand_over(one, "a", Token(token.0 - 1), None)).await, 0, "not this token");
    let revision = bed.revision().await;
    let request = bed.hand_over(one, "a", token, Some(two));
    assert_eq!(bed.matched(request.clone()).await, 1);
    assert_eq!(bed.matched(request).await, 0, "repeating it is harmless");
    assert_eq!(bed.revision().await, revision + 1);
    let lease = bed.lease("a").await;
    assert_eq!((lease.holder, lease.token), (Some(two), Token(token.0 + 1)));
    assert_eq!(bed.matched(bed.hand_over(two, "a", lease.token, None)).await, 1);
    let freed = bed.lease("a").await;
    assert_eq!((freed.holder, freed.token), (None, lease.token), "freeing raises no token");
    assert!(bed.give("a", one).await > lease.token);
}

pub async fn reruns(bed: Bed) {
    bed.register(&["a"]).await;
    let (one, two) = (bed.join("1").await, bed.join("2").await);
    let token = bed.give("a", one).await;
    let rerun = |session, token, epoch| {
        let rows = vec![(artifact("a"), token)];
        Request::Rerun { session, rows, incarnation: bed.live.clone(), epoch }
    };
    assert_eq!(bed.matched(rerun(two, token, bed.epoch)).await, 0);
    assert_eq!(bed.matched(rerun(one, token, bed.epoch)).await, 1);
    assert_eq!(bed.matched(rerun(one, token, bed.epoch)).await, 0);
    let lease = bed.lease("a").await;
    assert_eq!((lease.holder, lease.token), (Some(one), Token(token.0 + 1)));
    assert_eq!(bed.matched(rerun(one, lease.token, bed.epoch + 5)).await, 1);
    assert_eq!(bed.lease("a").await.token, Token(((bed.epoch + 5) << 20) + 1));
}

pub async fn targets_and_desires(bed: Bed) {
    bed.register(&["a", "b"]).await;
    let me = bed.join("1").await;
    let target = |to| Request::Target { rows: vec![(artifact("a"), to), (artifact("none"), to)] };
    assert_eq!(bed.matched(target(Some(me))).await, 1);
    assert_eq!(bed.lease("a").await.target, Some(me));
    assert_eq!(bed.revision().await, 3);
    assert_eq!(bed.matched(target(Some(me))).await, 1);
    assert_eq!(bed.revision().await, 3, "nothing changed");
    bed.matched(target(None)).await;
    assert_eq!(bed.lease("a").await.target, None);

    let desire = |name: &str, desired| Request::Desire { artifact: artifact(name), desired };
    assert_eq!(bed.matched(desire("a", Desired::Paused)).await, 1);
    assert_eq!(bed.matched(desire("a", Desired::Paused)).await, 1);
    assert_eq!(bed.matched(desire("none", Desired::Paused)).await, 0);
    assert_eq!(bed.revision().await, 5);
    assert_eq!(bed.lease("a").await.desired, Desired::Paused);
    assert_eq!(bed.lease("b").await.desired, Desired::Active);
}

pub async fn keeps_out(bed: Bed) {
    let me = bed.join("1").await;
    let row = |session, failures| KeepOut {
        artifact: artifact("a"),
        session,
        failures,
        until_beat: 40,
        error: "it's \"broken\"".to_owned(),
    };
    let gone = bed.join("2").await;
    bed.call(Request::KeepOut { rows: vec![row(gone, 1)] }).await;
    bed.call(Request::Leave { sessions: vec![gone] }).await;
    assert_eq!(bed.matched(Request::KeepOut { rows: vec![row(me, 1), row(me, 2)] }).await, 1);
    let Answer::Leases { keep_outs, .. } = bed.call(Request::Leases { deployments: Vec::new() }).await else {
        panic!()
    };
    assert_eq!(keep_outs, [row(me, 2)], "the last counts, and those of sessions that are gone are forgotten");
}

/// The planner read the lease and that `me` lives; then `me` expires, before or after the grant. Either way the lease
/// is free for whoever looks: its holder has no row.
pub async fn expiry_beside_a_grant_leaves_no_orphan(bed: Bed) {
    bed.register(&["a"]).await;
    let other = bed.another().await;
    for round in 0..20 {
        let me = bed.join(&format!("n{round}")).await;
        let seen = bed.lease("a").await.token;
        let grant = bed.grant(vec![(artifact("a"), seen, me)]);
        let expire = Request::Expire { session: me, beat: 1, incarnation: bed.live.clone() };
        let (granted, expired) = tokio::join!(bed.call(grant), other.call(&bed.cluster, &expire));
        assert_eq!((granted, expired.unwrap()), (Answer::Matched(1), Answer::Matched(1)));
        let lease = bed.lease("a").await;
        let nodes = bed.watch(Scope::Everyone).await.nodes;
        let live = nodes.iter().any(|n| Some(n.session) == lease.holder);
        assert!(!live, "the lease must be free: {lease:?}");
        let next = bed.join("next").await;
        assert!(bed.give("a", next).await > lease.token, "and grantable");
        bed.call(Request::Leave { sessions: vec![next] }).await;
    }
}

pub async fn checkpoints_are_fenced(bed: Bed) {
    bed.register(&["a"]).await;
    let (one, two) = (bed.join("1").await, bed.join("2").await);
    let token = bed.give("a", one).await;
    let db = bed.link.connection();
    let key = bed.key("a", token, one);
    let get = async || checkpoint::get(db, &bed.cluster, &artifact("a"), "position").await.unwrap();
    assert_eq!(get().await, None);
    checkpoint::put(db, &key, "position", "{\"n\": 1}").await.unwrap();
    checkpoint::put(db, &key, "position", "{\"n\": 2}").await.unwrap();
    let stored = get().await.unwrap();
    assert_eq!((stored.token, stored.value.as_str()), (token, "{\"n\": 2}"));

    let next = bed.give("a", two).await;
    let error = checkpoint::put(db, &key, "position", "stale").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains(" a "), "{error}");
    assert_eq!(get().await.unwrap().value, "{\"n\": 2}");
    assert_eq!(
        checkpoint::put(db, &bed.key("a", next, one), "p", "").await.unwrap_err().kind(),
        ErrorKind::Lost
    );
    let long = "x".repeat(checkpoint::MAX_NAME + 1);
    let error = checkpoint::put(db, &bed.key("a", next, two), &long, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

fn writing(bed: &Bed) -> TransactionOptions {
    let mode = (!bed.is_postgres()).then_some(SqliteTransactionMode::Immediate);
    TransactionOptions { sqlite_transaction_mode: mode, ..TransactionOptions::default() }
}

pub async fn a_fence_holds_the_lease(bed: Bed) {
    bed.register(&["a"]).await;
    let (one, two) = (bed.join("1").await, bed.join("2").await);
    let token = bed.give("a", one).await;
    let user = bed.another().await;
    bed.sql("create table work (n bigint)").await;

    let txn = user.connection().begin_with_options(writing(&bed)).await.unwrap();
    txn.execute_unprepared("insert into work values (1)").await.unwrap();
    fence(&txn, &bed.key("a", token, one), Duration::from_secs(3)).await.unwrap();
    checkpoint::put(&txn, &bed.key("a", token, one), "p", "1").await.unwrap();
    if bed.is_postgres() {
        // Skipped, at once: it neither waits nor is it half done. On SQLite it would wait for the transaction.
        assert_eq!(bed.matched(bed.grant(vec![(artifact("a"), token, two)])).await, 0);
    }
    txn.commit().await.unwrap();
    assert!(bed.give("a", two).await > token);
    assert_eq!(bed.number("select count(*) from work").await, 1);

    let txn = user.connection().begin_with_options(writing(&bed)).await.unwrap();
    txn.execute_unprepared("insert into work values (2)").await.unwrap();
    let error = fence(&txn, &bed.key("a", token, one), Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    txn.rollback().await.unwrap();
}

pub async fn audits(bed: Bed) {
    let db = bed.link.connection();
    let event = |kind: &str, token| AuditEvent {
        kind: kind.to_owned(),
        node: Some(node("n1")),
        artifact: Some(artifact("a")),
        token,
        detail: "it's".to_owned(),
    };
    let plain = AuditEvent { kind: "join".to_owned(), ..AuditEvent::default() };
    audit::record(db, &bed.cluster, &[]).await.unwrap();
    audit::record(db, &bed.cluster, &[plain.clone(), event("grant", Some(Token(1 << 51)))]).await.unwrap();
    audit::record(db, &bed.cluster, &[event("pause", None)]).await.unwrap();
    let latest = audit::latest(db, &bed.cluster, 2).await.unwrap();
    let events: Vec<_> = latest.iter().map(|e| e.event.clone()).collect();
    assert_eq!(events, [event("pause", None), event("grant", Some(Token(1 << 51)))]);
    assert!(latest[0].at_ms > 1_600_000_000_000 && latest[0].id > latest[1].id);

    assert_eq!(audit::trim(db, &bed.cluster, Duration::from_secs(60), 10).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(audit::trim(db, &bed.cluster, Duration::ZERO, 2).await.unwrap(), 2);
    let left = audit::latest(db, &bed.cluster, 9).await.unwrap();
    assert_eq!(left.len(), 1);
}

pub async fn prefers_commands_and_forgets(bed: Bed) {
    bed.register(&["a", "b"]).await;
    let me = bed.join("n1").await;
    let token = bed.give("a", me).await;
    let revision = bed.revision().await;
    let prefer = |name, node| Request::Prefer { artifact: artifact(name), node };
    assert_eq!(bed.matched(prefer("a", Some(node("n2")))).await, 1);
    assert_eq!(bed.matched(prefer("a", Some(node("n2")))).await, 1, "as it is already");
    assert_eq!(bed.matched(prefer("nobody", None)).await, 0);
    assert_eq!(bed.lease("a").await.preferred, Some(node("n2")));
    assert_eq!(bed.revision().await, revision + 1);
    assert_eq!(bed.matched(prefer("a", None)).await, 1);
    assert_eq!(bed.lease("a").await.preferred, None);

    let command = |name| Request::Command {
        artifact: artifact(name),
        verb: "fire".to_owned(),
        args: "{}".to_owned(),
        by: "o'neil".to_owned(),
        reason: String::new(),
    };
    let held = async || match bed.call(Request::Held { session: me }).await {
        Answer::Held { rows, .. } => rows.into_iter().map(|row| (row.token, row.command)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(held().await, [(token, 0)]);
    assert_eq!(bed.call(command("nobody")).await, Answer::Commanded(None));
    let mut last = 0;
    for _ in 0..2 {
        assert!(matches!(bed.call(command("a")).await, Answer::Commanded(Some(id)) if id > last));
        last = bed.number("select max(id) from leasehold_command").await;
    }
    assert_eq!(bed.call(command("a")).await, Answer::Commanded(Some(last + 1)));
    last += 1;
    assert_eq!(held().await, [(token, last)]);
    assert_eq!(bed.revision().await, revision + 5, "the holder is to look");

    let forget = || Request::Forget { artifact: artifact("a") };
    let set = deployment(&["a", "b"], "task", "any", 1).id;
    assert_eq!(bed.matched(Request::Deploy { session: me, deployment: set }).await, 1);
    assert_eq!(bed.matched(forget()).await, 0, "a node has it");
    assert_eq!(bed.matched(Request::Leave { sessions: vec![me] }).await, 1);
    assert_eq!(bed.matched(forget()).await, 1);
    assert_eq!(bed.leases().await.len(), 1);
    assert_eq!(bed.number("select count(*) from leasehold_command").await, 0);
    bed.call(Request::Register { deployment: deployment(&["a"], "task", "any", 9) }).await;
    assert_eq!(bed.lease("a").await.token, token, "tokens never start anew");
}
