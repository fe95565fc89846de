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
    let all = [
        scenarios::two_nodes_delays(),
        scenarios::two_nodes_joining(),
        scenarios::two_nodes_pause(),
        scenarios::two_nodes_restart(),
        scenarios::two_nodes_both_pause(),
        scenarios::late_expiry(),
        scenarios::late_grant(),
        scenarios::late_planner(),
        scenarios::rerun(),
        scenarios::handover_unknown_outcome(),
        scenarios::pause_and_resume(),
        scenarios::handover_before_the_run(),
        scenarios::moving(),
        scenarios::rollback_with_late_start(),
        scenarios::rollback_of_a_handover(),
        scenarios::different_ttl(),
        scenarios::rates("rates", 100, 133),
        scenarios::four_deaths_at_once(),
        scenarios::death_and_late_answer(),
        scenarios::three_nodes(),
    ];
    for s in all.iter().filter(|s| only.as_deref().is_none_or(|o| o == s.name)) {
        let v = explore(s, None, Search::Shortest);
        eprintln!("SWEEP {} {} states {:.1?} {:?}", s.name, v.states, v.took, v.violated);
        if only.is_some() || !v.violated.is_empty() { eprintln!("{}", v.story.join("\n")); }
    }
}
