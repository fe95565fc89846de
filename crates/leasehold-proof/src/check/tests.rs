//! The judge can convict, and does not convict the innocent.

use super::*;
use crate::node::PUSH;

fn records(told: impl IntoIterator<Item = (&'static str, Told)>) -> Vec<Record> {
    let numbered = told.into_iter().zip(1..);
    numbered.map(|((by, told), got)| Record { got, by: by.to_owned(), told }).collect()
}

fn valid(token: i64, at: u64, until: u64) -> Told {
    Told::Valid { artifact: "x".to_owned(), token, at, until }
}

fn effect(token: i64, value: i64, from: u64, until: u64) -> Told {
    Told::Effect { artifact: "x".to_owned(), token, value, from, until }
}

fn outside(token: i64) -> Told {
    Told::Outside { artifact: "x".to_owned(), token, accepted: true }
}

fn fired(slot: i64, attempt: u32) -> Told {
    Told::Fired { slot, attempt, token: 1 }
}

fn appended(number: u64) -> Told {
    appended_to(PUSH, number, 1)
}

fn appended_to(artifact: &str, number: u64, from: u64) -> Told {
    Told::Appended { artifact: artifact.to_owned(), key: "k".to_owned(), number, from, at: from }
}

fn delivered(number: u64) -> Told {
    taken(PUSH, number, 1, true)
}

fn taken(artifact: &str, number: u64, token: i64, accepted: bool) -> Told {
    Told::Delivered { artifact: artifact.to_owned(), key: "k".to_owned(), number, token, accepted }
}

fn begun(token: i64, valid: bool, from: u64) -> Told {
    Told::Begun { artifact: "x".to_owned(), token, valid, from, until: from + 1 }
}

fn promises(told: impl IntoIterator<Item = (&'static str, Told)>) -> Vec<&'static str> {
    violations(&records(told)).into_iter().map(|violation| violation.promise).collect()
}

#[test]
fn a_cluster_that_keeps_its_promises_is_not_convicted() {
    let ended = Told::Ended { artifact: "x".to_owned(), token: 2, at: 25 };
    let told = [
        ("a", valid(1, 0, 10)),
        ("a", effect(1, 1, 1, 2)),
        ("b", valid(2, 10, 40)),
        ("b", ended),
        ("a", valid(3, 25, 50)),
        ("b", effect(2, 2, 12, 30)),
        ("a", effect(3, 3, 26, 29)),
        ("p", outside(1)),
        ("p", outside(2)),
        ("a", fired(0, 1)),
        ("b", fired(0, 2)),
        ("b", fired(250, 1)),
        ("e", delivered(1)),
        ("e", delivered(2)),
        ("e", delivered(1)),
        ("p", appended(1)),
        ("p", appended(2)),
    ];
    assert_eq!(promises(told), [""; 0]);
}

#[test]
fn two_holders_at_one_instant_are_found() {
    assert_eq!(promises([("a", valid(1, 0, 11)), ("b", valid(2, 10, 20))]), ["one holder"]);
    assert_eq!(promises([("a", valid(2, 0, 5)), ("b", valid(1, 10, 20))]), ["tokens rise"]);
    assert_eq!(promises([("a", valid(2, 0, 5)), ("b", valid(2, 10, 20))]), ["tokens rise"]);
}

#[test]
fn effects_of_older_tokens_are_found() {
    let told = [("b", effect(2, 1, 0, 3)), ("a", effect(1, 2, 4, 5))];
    assert!(promises(told).contains(&"no effect of an older token"));
    assert_eq!(promises([("b", outside(2)), ("a", outside(1))]), ["no effect of an older token outside"]);
    let refused = Told::Outside { artifact: "x".to_owned(), token: 1, accepted: false };
    assert_eq!(promises([("b", outside(2)), ("a", refused)]), [""; 0]);
}

#[test]
fn progress_that_goes_back_is_found() {
    let told = [("a", effect(1, 5, 0, 1)), ("b", effect(2, 5, 2, 3))];
    assert_eq!(promises(told), ["progress never goes back"]);
    let saved = |token, value| Told::Saved { artifact: "x".to_owned(), token, value };
    assert_eq!(promises([("a", saved(1, 7)), ("b", saved(2, 3))]), ["progress never goes back"]);
}

#[test]
fn slots_that_fire_twice_or_never_are_found() {
    assert_eq!(promises([("a", fired(0, 1)), ("b", fired(0, 1))]), ["a slot fires once"]);
    assert_eq!(promises([("a", fired(0, 1)), ("a", fired(500, 1))]), ["no slot is left out"]);
}

#[test]
fn messages_that_are_lost_or_out_of_order_are_found() {
    assert_eq!(promises([("p", appended(1))]), ["no message is lost"]);
    let told = || [("e", delivered(2)), ("e", delivered(1)), ("e", delivered(2))];
    let known = [("p", appended(1)), ("p", appended(2))];
    assert_eq!(promises(told().into_iter().chain(known)), ["order of a key"]);
    assert_eq!(promises(told()), [""; 0], "nobody was told what became of them");
}

#[test]
fn what_an_endpoint_refuses_is_not_delivered_and_what_it_should_have_refused_is_found() {
    let refused = [("p", appended(1)), ("e", taken(PUSH, 1, 1, false))];
    assert_eq!(promises(refused), ["no message is lost"]);
    let late = [("e", taken(PUSH, 1, 2, true)), ("e", taken(PUSH, 1, 1, true))];
    assert_eq!(promises(late), ["no effect of an older token outside"]);
}

#[test]
fn messages_that_are_begun_under_an_older_token_or_without_a_lease_are_found() {
    let told = [("b", begun(2, true, 4)), ("a", begun(1, true, 6))];
    assert_eq!(promises(told), ["no message is begun under an older token"]);
    let one = || [("b", begun(2, true, 4)), ("a", begun(1, false, 6))];
    assert_eq!(promises(one()), [""; 0], "it was stopped between the check and the first step");
    let more = (0..5).map(|n| ("a", begun(1, false, 6 + n)));
    assert_eq!(promises(more), ["no message is begun without the lease"]);
}

#[test]
fn a_queue_that_was_deleted_owes_nothing_and_its_successor_has_an_order_of_its_own() {
    let emptied = || ("p", Told::Emptied { artifact: "queue".to_owned(), until: 5 });
    let (old, new) = (|n| ("p", appended_to("queue", n, 4)), |n| ("p", appended_to("queue", n, 6)));
    let take = |n| ("e", taken("queue", n, 1, true));
    assert_eq!(promises([emptied(), old(1)]), [""; 0]);
    assert_eq!(promises([emptied(), new(2)]), ["no message is lost"]);
    assert_eq!(promises([emptied(), old(1), new(2), take(2), take(1)]), [""; 0]);
    assert_eq!(promises([emptied(), new(2), new(3), take(3), take(2)]), ["order of a key"]);
    assert_eq!(promises([emptied(), ("p", appended(1))]), ["no message is lost"], "of another artifact");
}

#[test]
fn a_database_that_was_replaced_has_forgotten_what_was_committed_before_and_nothing_else() {
    let replaced = || ("p", Told::Replaced);
    let later = appended_to(PUSH, 2, 9);
    assert_eq!(promises([replaced(), ("p", appended(1))]), [""; 0]);
    assert_eq!(promises([replaced(), ("p", later)]), ["no message is lost"]);
    assert_eq!(promises([("a", valid(2, 0, 5)), replaced(), ("b", valid(2, 10, 20))]), ["tokens rise"]);
}
