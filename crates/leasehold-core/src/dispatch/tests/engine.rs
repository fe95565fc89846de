use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::*;
use crate::clock::Instant;
use crate::handler::Failure;

const SECOND: Duration = Duration::from_secs(1);
const START: Instant = Instant::ZERO;

fn entry(position: u64, key: Option<&str>) -> Entry {
    let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    Entry { lane: 0, position, key, attempts: 0, due: None }
}

fn engine(order: Order, policy: RetryPolicy) -> Engine<u64> {
    Engine::new(order, policy, 100, 7)
}

fn admit(engine: &mut Engine<u64>, keys: &[Option<&str>]) {
    for (position, key) in keys.iter().enumerate() {
        engine.admit(entry(position as u64, *key), position as u64);
    }
}

fn handed(engine: &mut Engine<u64>, now: Instant) -> Vec<(Ticket, u64)> {
    std::iter::from_fn(|| engine.next(now)).map(|next| (next.ticket, next.item)).collect()
}

fn items(handed: &[(Ticket, u64)]) -> Vec<u64> {
    handed.iter().map(|(_, item)| *item).collect()
}

fn failed() -> Outcome {
    Outcome::Failed(Failure::Retry(None), "no".into())
}

#[test]
fn ordered_hands_over_one_at_a_time_and_waits_for_its_retries() {
    let mut engine = engine(Order::Ordered, RetryPolicy::default());
    admit(&mut engine, &[None, Some("a"), None]);
    let first = handed(&mut engine, START);
    assert_eq!(items(&first), [0]);
    let Verdict::RetryAt(at) = engine.finish(first[0].0, failed(), START) else { panic!("a retry") };
    assert!(at > START && at <= START + SECOND);
    assert!(handed(&mut engine, START).is_empty());
    assert_eq!(engine.next_wake(), Some(at));
    let again = engine.next(at).unwrap();
    assert_eq!((again.item, again.attempt), (0, 2));
    assert_eq!(engine.finish(again.ticket, Outcome::Done, at), Verdict::Settled);
    assert_eq!(items(&handed(&mut engine, at)), [1]);
}

#[test]
fn per_key_runs_keys_in_parallel_up_to_the_bound_and_holds_up_only_the_key_that_fails() {
    let mut engine = engine(Order::PerKey(3), RetryPolicy::default());
    admit(&mut engine, &[Some("a"), Some("a"), Some("b"), None, None, Some("b")]);
    let first = handed(&mut engine, START);
    assert_eq!(items(&first), [0, 2, 3], "one of each key, and no more than three");
    engine.finish(first[0].0, failed(), START);
    engine.finish(first[1].0, Outcome::Done, START);
    assert_eq!(items(&handed(&mut engine, START)), [4, 5], "key a waits for its head");
}

#[test]
fn dead_lettering_lets_the_key_go_on_and_counts_attempts_of_earlier_holders() {
    let policy = RetryPolicy { attempts: Some(3), then: Then::DeadLetter, ..RetryPolicy::default() };
    let mut engine = engine(Order::PerKey(1), policy);
    engine.admit(Entry { attempts: 2, ..entry(5, Some("a")) }, 5);
    engine.admit(entry(6, Some("a")), 6);
    let next = engine.next(START).unwrap();
    assert_eq!(next.attempt, 3);
    assert_eq!(engine.finish(next.ticket, failed(), START), Verdict::Settled);
    assert_eq!(items(&handed(&mut engine, START)), [6]);
    let settlement = engine.take_settlement();
    assert_eq!(settlement.decisions[0].action, Action::DeadLetter { attempts: 3, reason: "no".into() });
    assert_eq!(settlement.watermarks, [(0, 5)]);
}

#[test]
fn a_rejected_message_has_no_further_attempt_and_a_fatal_one_stops_in_place() {
    let policy = RetryPolicy { then: Then::Discard, ..RetryPolicy::default() };
    let mut engine = engine(Order::Unordered(2), policy);
    admit(&mut engine, &[None, None]);
    let handed = handed(&mut engine, START);
    let reject = Outcome::Failed(Failure::Reject, "no JSON".into());
    assert_eq!(engine.finish(handed[0].0, reject, START), Verdict::Settled);
    let fatal = Outcome::Failed(Failure::Fatal, "no key".into());
    assert_eq!(engine.finish(handed[1].0, fatal, START), Verdict::Stop("no key".into()));
    assert_eq!(engine.take_settlement().decisions.len(), 1);
}

#[test]
fn requeueing_frees_the_place_where_no_order_is_asked_for() {
    let policy = RetryPolicy { place: Place::Requeue, ..RetryPolicy::default() };
    let mut free = engine(Order::Unordered(1), policy);
    admit(&mut free, &[None]);
    let next = free.next(START).unwrap();
    assert_eq!(free.finish(next.ticket, failed(), START), Verdict::Settled);
    assert!(matches!(free.take_settlement().decisions[0].action, Action::Requeue { attempts: 1, .. }));
    let mut ordered = engine(Order::Ordered, policy);
    admit(&mut ordered, &[None]);
    let next = ordered.next(START).unwrap();
    assert!(matches!(ordered.finish(next.ticket, failed(), START), Verdict::RetryAt(_)));
}

#[test]
fn a_lost_lane_is_forgotten_and_what_is_in_flight_still_holds_up_its_key() {
    let mut engine = engine(Order::PerKey(4), RetryPolicy::default());
    admit(&mut engine, &[Some("a"), Some("a"), Some("b")]);
    let first = handed(&mut engine, START);
    engine.finish(first[1].0, Outcome::Done, START);
    engine.lose(0);
    assert!(engine.take_settlement().is_empty(), "what was decided can be told to nobody");
    engine.admit(Entry { lane: 1, ..entry(0, Some("a")) }, 10);
    engine.admit(Entry { lane: 1, ..entry(1, Some("b")) }, 11);
    assert_eq!(items(&handed(&mut engine, START)), [11]);
    assert_eq!(engine.finish(first[0].0, Outcome::Done, START), Verdict::Void);
    assert_eq!(items(&handed(&mut engine, START)), [10]);
}

#[test]
fn draining_hands_nothing_over_and_settles_what_ends() {
    let mut engine = engine(Order::PerKey(2), RetryPolicy::default());
    admit(&mut engine, &[Some("a"), Some("a"), Some("b"), None]);
    let first = handed(&mut engine, START);
    engine.drain();
    assert_eq!((engine.room(), engine.in_flight()), (0, 2));
    assert!(matches!(engine.finish(first[0].0, failed(), START), Verdict::RetryAt(_)));
    engine.finish(first[1].0, Outcome::Done, START);
    assert!(engine.next(START + SECOND * 100).is_none());
    assert_eq!(engine.take_settlement().decisions.len(), 1);
    assert_eq!(engine.in_flight(), 0);
}

#[test]
fn a_message_that_is_not_due_holds_up_what_follows_it() {
    let mut engine = engine(Order::Ordered, RetryPolicy::default());
    engine.admit(Entry { due: Some(START + SECOND), ..entry(0, None) }, 0);
    engine.admit(entry(1, None), 1);
    assert!(engine.next(START).is_none());
    assert_eq!(engine.next(START + SECOND).unwrap().item, 0);
}

#[test]
fn a_million_messages_pass_in_linear_time() {
    let mut engine: Engine<u64> = Engine::new(Order::PerKey(64), RetryPolicy::default(), 1_000_000, 7);
    let keys: Vec<String> = (0..10_000).map(|key| format!("key-{key}")).collect();
    for position in 0..1_000_000_u64 {
        engine.admit(entry(position, Some(&keys[position as usize % keys.len()])), position);
    }
    assert_eq!(engine.room(), 0);
    let mut done = 0;
    loop {
        let handed = handed(&mut engine, START);
        if handed.is_empty() {
            break;
        }
        for (ticket, _) in handed {
            engine.finish(ticket, Outcome::Done, START);
            done += 1;
        }
        let settlement = engine.take_settlement();
        engine.give_back(settlement);
    }
    assert_eq!(done, 1_000_000);
}

#[derive(Clone, Debug)]
enum Step {
    Admit { key: Option<u8>, lane: bool },
    Next,
    Finish { which: usize, fails: bool },
    Pass,
    Lose { lane: bool },
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (prop::option::of(0_u8..4), any::<bool>()).prop_map(|(key, lane)| Step::Admit { key, lane }),
        6 => Just(Step::Next),
        6 => (any::<usize>(), prop::bool::weighted(0.3))
            .prop_map(|(which, fails)| Step::Finish { which, fails }),
        1 => Just(Step::Pass),
        1 => any::<bool>().prop_map(|lane| Step::Lose { lane }),
        2 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 1..300)
}

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Ordered),
        (1_usize..5).prop_map(Order::PerKey),
        (1_usize..5).prop_map(Order::Unordered)
    ]
}

#[derive(Clone, Copy)]
struct Known {
    key: Option<u8>,
    lane: u32,
}

proptest! {
    /// Whatever happens: bounds hold, order holds, nothing is settled twice or before its lowest gap, and in the end
    /// everything that was not lost with its lane is settled.
    #[test]
    fn keeps_order_bounds_and_gaps(order in orders(), steps in steps()) {
        let mut engine: Engine<u64> = Engine::new(order, RetryPolicy::default(), 20, 3);
        let (mut known, mut alive, mut settled) = (HashMap::new(), Vec::new(), HashSet::new());
        let mut flying: Vec<(Ticket, u64)> = Vec::new();
        let (mut now, mut position) = (START, 0_u64);
        // At the end everything is brought to an end.
        let finale = (0..2_000).map(|_| [Step::Pass, Step::Next, Step::Finish { which: 0, fails: false }, Step::Settle]);
        for step in steps.into_iter().chain(finale.flatten()) {
            match step {
                Step::Admit { key, lane } => if engine.room() > 0 {
                    position += 1;
                    let lane = u32::from(lane);
                    let bytes = key.map(|key| Bytes::copy_from_slice(&[key]));
                    engine.admit(Entry { lane, position, key: bytes, attempts: 0, due: None }, position);
                    known.insert(position, Known { key, lane });
                    alive.push(position);
                },
                Step::Next => if let Some(next) = engine.next(now) {
                    let this: Known = known[&next.item];
                    let before = |other: &&u64| **other < next.item;
                    match order {
                        Order::Ordered => prop_assert!(!alive.iter().any(|other| before(&other)), "in order"),
                        Order::PerKey(_) if this.key.is_some() => prop_assert!(
                            !alive.iter().filter(before).any(|other| known[other].key == this.key), "in order of the key"),
                        _ => {}
                    }
                    if let (Order::PerKey(_), Some(_)) = (order, this.key) {
                        prop_assert!(!flying.iter().any(|(_, other)| known[other].key == this.key), "one of a key at once");
                    }
                    flying.push((next.ticket, next.item));
                    prop_assert!(flying.len() <= order.at_once());
                },
                Step::Finish { which, fails } => if !flying.is_empty() {
                    let at = which % flying.len();
                    let (ticket, item) = flying.remove(at);
                    let outcome = if fails { failed() } else { Outcome::Done };
                    match engine.finish(ticket, outcome, now) {
                        Verdict::Settled => { alive.retain(|other| *other != item); }
                        Verdict::RetryAt(at) => prop_assert!(fails && at > now),
                        Verdict::Void => prop_assert!(!alive.contains(&item)),
                        Verdict::Stop(_) => prop_assert!(false, "nobody asked for it"),
                    }
                },
                Step::Pass => now = now + SECOND * 10,
                Step::Lose { lane } => {
                    engine.lose(u32::from(lane));
                    alive.retain(|item| known[item].lane != u32::from(lane));
                }
                Step::Settle => {
                    let settlement = engine.take_settlement();
                    for decision in &settlement.decisions {
                        prop_assert!(settled.insert(decision.item), "settled once");
                    }
                    for (lane, mark) in settlement.watermarks {
                        prop_assert!(!alive.iter().any(|item| known[item].lane == lane && *item <= mark), "the lowest gap");
                    }
                }
            }
            prop_assert_eq!(engine.in_flight(), flying.len());
        }
        prop_assert!(alive.is_empty(), "{:?} were never handled", alive);
    }
}
