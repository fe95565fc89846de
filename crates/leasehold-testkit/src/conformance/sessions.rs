//! Sessions, the cluster's row and incarnations.

use std::time::Duration;

use leasehold_core::protocol::ids::{Incarnation, SessionId};
use leasehold_core::protocol::request::*;

use super::bed::{Bed, artifact, deployment, node};

pub async fn opening_makes_one_row(bed: Bed) {
    let (row, live, occupant) = bed.open("n1").await;
    assert_eq!((row.revision, row.term, row.leader), (1, 0, None));
    assert_eq!(row.adopted, live);
    assert_eq!(row.max_ttl, Duration::from_secs(5));
    assert!(row.epoch > 2_000_000_000, "tenths of a second since 2020: {}", row.epoch);
    assert_eq!(occupant, None);
    let again = Request::Open { node: node("n1"), max_ttl: Duration::from_secs(9) };
    let Answer::Opened { cluster, .. } = bed.call(again).await else { panic!() };
    assert_eq!(cluster, row, "an existing row is kept");
}

pub async fn joins(bed: Bed) {
    let first = SessionId::fresh();
    assert_eq!(bed.matched(bed.join_request("n1", first)).await, 1);
    let (_, _, occupant) = bed.open("n1").await;
    let occupant = occupant.unwrap();
    assert_eq!((occupant.session, occupant.beat), (first, 0));
    assert_eq!(occupant.labels["zone"], "a\"b");
    assert_eq!(occupant.ttl, Duration::from_millis(1500));

    assert_eq!(bed.matched(bed.join_request("n1", SessionId::fresh())).await, 0, "the node id is taken");
    assert_eq!(bed.matched(bed.join_request("n2", first)).await, 0, "a session joins once");
    assert_eq!(bed.watch(Scope::Everyone).await.nodes.len(), 1);
}

pub async fn renews_and_views(bed: Bed) {
    let me = bed.join("n1").await;
    let (matched, view) = bed.renew(me, 5).await;
    assert!(matched);
    assert_eq!((view.nodes[0].beat, view.nodes[0].pass), (5, 7), "the answer shows the beat that it brought");
    assert_eq!(view.live, bed.live);
    assert!(view.wall_ms > 1_600_000_000_000);
    assert_eq!(bed.watch(Scope::Everyone).await.nodes, view.nodes);

    let (matched, view) = bed.renew(me, 5).await;
    assert!(!matched, "a beat that is not higher");
    assert_eq!(view.nodes[0].beat, 5);
    assert!(!bed.renew(SessionId::fresh(), 1).await.0);
    assert_eq!(bed.revision().await, 1, "membership raises no revision");
}

pub async fn heads_are_the_leader_and_two(bed: Bed) {
    let mut all = Vec::new();
    for i in 0..5 {
        all.push(bed.join(&format!("n{i}")).await);
    }
    let sessions = |view: View| view.nodes.iter().map(|n| n.session).collect::<Vec<_>>();
    assert_eq!(sessions(bed.watch(Scope::Heads).await), all[..2]);
    let elect = |session, term| Request::Elect { session, term, incarnation: bed.live.clone() };
    bed.matched(elect(all[4], 0)).await;
    assert_eq!(sessions(bed.watch(Scope::Heads).await), [all[0], all[1], all[4]]);
    bed.matched(elect(all[0], 1)).await;
    assert_eq!(sessions(bed.watch(Scope::Heads).await), all[..3]);
    assert_eq!(sessions(bed.watch(Scope::Everyone).await), all);
    bed.matched(elect(SessionId::fresh(), 2)).await;
    assert_eq!(sessions(bed.watch(Scope::Heads).await), all[..2], "a leader without a row");
}

pub async fn expires_only_an_unmoved_beat(bed: Bed) {
    let me = bed.join("n1").await;
    let expire = |beat| Request::Expire { session: me, beat, incarnation: bed.live.clone() };
    assert!(bed.renew(me, 2).await.0);
    assert_eq!(bed.matched(expire(1)).await, 0, "the beat moved");
    assert_eq!(bed.matched(expire(2)).await, 1);
    assert_eq!(bed.matched(expire(2)).await, 0);
    assert!(!bed.renew(me, 3).await.0, "the session is over");
}

pub async fn elects_by_term(bed: Bed) {
    let (a, b) = (bed.join("a").await, bed.join("b").await);
    let elect = |session, term| Request::Elect { session, term, incarnation: bed.live.clone() };
    assert_eq!(bed.matched(elect(a, 0)).await, 1);
    assert_eq!(bed.matched(elect(b, 0)).await, 0, "somebody was faster");
    assert_eq!(bed.matched(elect(b, 1)).await, 1);
    let row = bed.watch(Scope::Heads).await.cluster;
    assert_eq!((row.term, row.leader), (2, Some(b)));
}

/// Makes the cluster's row name another life of the database.
pub async fn forget_incarnation(bed: &Bed) -> Incarnation {
    bed.sql("update leasehold_cluster set incarnation = 'another'").await;
    Incarnation::from("another")
}

pub async fn adopts(bed: Bed) {
    let old = forget_incarnation(&bed).await;
    let adopt = |old: &Incarnation, live: &Incarnation, highest_epoch| Request::Adopt {
        old: old.clone(),
        live: live.clone(),
        highest_epoch,
    };
    assert_eq!(bed.matched(adopt(&old, &old, 0)).await, 0, "that one does not answer");
    assert_eq!(bed.matched(adopt(&bed.live, &bed.live, 0)).await, 0, "that one is not adopted");
    let high = bed.epoch + 1_000_000;
    assert_eq!(bed.matched(adopt(&old, &bed.live, high)).await, 1);
    assert_eq!(bed.matched(adopt(&old, &bed.live, high)).await, 0);
    let row = bed.watch(Scope::Heads).await.cluster;
    assert_eq!((row.epoch, row.term, row.revision), (high + 1, 1, 2));
    assert_eq!((row.adopted, row.leader), (bed.live.clone(), None));

    let old = forget_incarnation(&bed).await;
    assert_eq!(bed.matched(adopt(&old, &bed.live, 0)).await, 1);
    assert_eq!(bed.watch(Scope::Heads).await.cluster.epoch, high + 2, "always higher than before");
}

pub async fn another_incarnation_is_refused(bed: Bed) {
    let me = bed.join("n1").await;
    bed.register(&["a"]).await;
    let token = bed.give("a", me).await;
    let wrong = || Incarnation::from("another");
    let later = vec![(artifact("a"), token, me)];

    let Request::Join { node, .. } = bed.join_request("n2", SessionId::fresh()) else { panic!() };
    assert_eq!(bed.matched(Request::Join { node, incarnation: wrong() }).await, 0);
    let renew =
        Request::Renew { session: me, beat: 9, pass: 0, incarnation: wrong(), scope: Scope::Everyone };
    assert!(matches!(bed.call(renew).await, Answer::Renewed { matched: false, .. }));
    let refused = |incarnation: Incarnation| {
        let Request::Grant { rows, epoch, term, .. } = bed.grant(later.clone()) else { panic!() };
        vec![
            Request::Expire { session: me, beat: 1, incarnation: incarnation.clone() },
            Request::Elect { session: me, term: 0, incarnation: incarnation.clone() },
            Request::Grant { rows, incarnation: incarnation.clone(), epoch, term },
            Request::Rerun { session: me, rows: vec![(artifact("a"), token)], incarnation, epoch },
        ]
    };
    for request in refused(wrong()) {
        assert_eq!(bed.matched(request.clone()).await, 0, "{request:?}");
    }
    // The asker means the one that answers, but another one is adopted; then the one that is adopted does not answer.
    let adopted = forget_incarnation(&bed).await;
    for request in refused(bed.live.clone()).into_iter().chain(refused(adopted)) {
        assert_eq!(bed.matched(request.clone()).await, 0, "{request:?}");
    }
    assert_eq!(bed.lease("a").await.token, token);

    // A handover frees meanwhile, without a new token.
    let other = SessionId::fresh();
    assert_eq!(bed.matched(bed.hand_over(me, "a", token, Some(other))).await, 1);
    let lease = bed.lease("a").await;
    assert_eq!((lease.holder, lease.token), (None, token));
}

pub async fn drains_deploys_leaves_and_evicts(bed: Bed) {
    let (a, b) = (bed.join("a").await, bed.join("b").await);
    let set = deployment(&["x"], "task", "any", 3).id;
    assert_eq!(bed.matched(Request::Drain { session: a, draining: true }).await, 1);
    assert_eq!(bed.matched(Request::Deploy { session: a, deployment: set }).await, 1);
    let row = bed.watch(Scope::Everyone).await.nodes[0].clone();
    assert!(row.draining && row.deployment == set);

    let exclude = |node, evict| Request::Exclude { node, evict, by: "me".into(), reason: "it's slow".into() };
    assert_eq!(bed.matched(exclude(node("b"), true)).await, 1);
    assert!(!bed.renew(b, 2).await.0, "an evicted session cannot renew");
    assert_eq!(bed.matched(Request::Leave { sessions: vec![b, a, SessionId::fresh()] }).await, 2);
    assert_eq!(bed.matched(exclude(node("b"), true)).await, 0, "nobody is there");
    bed.join("b").await;
    let row = bed.watch(Scope::Everyone).await.nodes[0].clone();
    assert!(row.draining && !row.evicted, "drained when it joins again");
    assert!(bed.open("b").await.2.unwrap().draining);
    bed.join("a").await;
    assert!(!bed.watch(Scope::Everyone).await.nodes[1].draining);
    assert_eq!(bed.matched(exclude(node("a"), false)).await, 1);
    let row = bed.watch(Scope::Everyone).await.nodes[1].clone();
    assert!(row.draining && !row.evicted, "drained without a word of its own");
    for (of, was) in [("a", 1), ("b", 1), ("b", 0)] {
        assert_eq!(bed.matched(Request::Readmit { node: node(of) }).await, was);
    }
    assert!(bed.watch(Scope::Everyone).await.nodes.iter().all(|row| !row.draining));
    assert_eq!(bed.revision().await, 1);
}

/// Each with a connection of its own, as their processes have.
pub async fn fifty_nodes_join_at_once(bed: Bed) {
    let mut joins = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (link, cluster) = (bed.another().await, bed.cluster.clone());
        let session = SessionId::fresh();
        let (join, renewal) = (bed.join_request(&format!("n{n}"), session), bed.renewal(session, 1));
        let register = Request::Register { deployment: deployment(&["a", "b"], "task", "any", 1) };
        joins.spawn(async move {
            link.call(&cluster, &register).await.unwrap();
            assert_eq!(link.call(&cluster, &join).await.unwrap(), Answer::Matched(1));
            let Answer::Renewed { matched, .. } = link.call(&cluster, &renewal).await.unwrap() else {
                panic!()
            };
            link.close().await;
            matched
        });
    }
    assert!(joins.join_all().await.into_iter().all(|renewed| renewed));
    assert_eq!(bed.watch(Scope::Everyone).await.nodes.len(), 50);
    assert_eq!(bed.leases().await.len(), 2);
}

pub async fn who_asks_is_among_the_heads(bed: Bed) {
    let mut all = Vec::new();
    for i in 0..4 {
        all.push(bed.join(&format!("n{i}")).await);
    }
    let mut renewal = bed.renewal(all[3], 2);
    if let Request::Renew { scope, .. } = &mut renewal {
        *scope = Scope::Heads;
    }
    let Answer::Renewed { matched: true, view } = bed.call(renewal).await else { panic!() };
    let sessions: Vec<_> = view.nodes.iter().map(|n| n.session).collect();
    assert_eq!(sessions, [all[0], all[1], all[3]]);
    assert_eq!(view.nodes[2].beat, 2);
}

pub async fn forms_by_term(bed: Bed) {
    assert_eq!(bed.open("n").await.0.formed, 0);
    assert_eq!(bed.matched(Request::Form { formed: 3, term: 0 }).await, 1);
    assert_eq!(bed.matched(Request::Form { formed: 2, term: 7 }).await, 0, "of another term");
    let row = bed.watch(Scope::Heads).await.cluster;
    assert_eq!((row.formed, row.revision), (3, 1));
}
