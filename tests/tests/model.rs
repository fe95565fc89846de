//! The protocol under a bounded adversary, explored state by state.
#![allow(missing_docs, reason = "a test suite")]
#![allow(unreachable_pub, reason = "modules of a test suite")]
#![allow(clippy::print_stderr, reason = "state counts and counterexamples are for people")]

#[path = "model/checks.rs"]
mod checks;
#[path = "model/driver.rs"]
mod driver;
#[path = "model/explore.rs"]
mod explore;
#[path = "model/placing.rs"]
mod placing;
#[path = "model/scenario.rs"]
mod scenario;
#[path = "model/scenarios.rs"]
mod scenarios;
#[path = "model/world.rs"]
mod world;

use explore::{Search, explore};
use scenario::Scenario;

fn clean(scenario: &Scenario) {
    let verdict = explore(scenario, None, Search::Exhaustive);
    eprintln!("{}: {} states in {:.1?}", scenario.name, verdict.states, verdict.took);
    assert!(
        verdict.violated.is_empty(),
        "{} violates {:?}\n{}",
        scenario.name,
        verdict.violated,
        verdict.story.join("\n")
    );
}

#[test]
fn two_nodes_delays() {
    clean(&scenarios::two_nodes_delays());
}

#[test]
fn sweep() {
    let only = std::env::var("ONLY").ok();
    for s in scenarios::all().iter().filter(|s| only.as_deref().is_none_or(|o| o.split(',').any(|o| o == s.name))) {
        let v = explore(s, None, Search::Shortest);
        eprintln!("SWEEP {} {} states {:.1?} {:?}", s.name, v.states, v.took, v.violated);
        if !v.violated.is_empty() {
            eprintln!("{}", v.story.join("\n"));
        }
    }
}

#[test]
fn rulesweep() {
    use leasehold_core::protocol::rules::Rule::*;
    for rule in [
        RenewalChecksIncarnation, TrustCountsFromSend, BeatStampedAtReceipt, ExpiryChecksBeat, HolderWithoutRowIsFree,
        EligibleAfterFirstRenewal, GrantChecksToken, LeasesReadBeforeNodes, FinishedTokens, HandoverRepeats,
        ChangesCheckIncarnation, AdoptionWaitsMaxTtl, AdoptionRaisesEpoch, EpochFromOneRead, EveryoneObserves,
        OlderAnswersDropped, GivenAwayIsFinished,
    ] {
        let mut list = scenarios::all();
        list.sort_by_key(|s| ["rerun", "handover_unknown_outcome", "rollback_with_late_start"].contains(&s.name));
        let mut found = false;
        for s in list {
            let v = explore(&s, Some(rule), Search::Limited(std::time::Duration::from_secs(4)));
            if !v.violated.is_empty() {
                eprintln!("RULE {rule:?} {} {:?} {} states {:.1?}", s.name, v.violated, v.states, v.took);
                found = true;
                break;
            }
        }
        if !found { eprintln!("RULE {rule:?} NOT CONVICTED"); }
    }
}
