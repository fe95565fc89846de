//! The protocol under a bounded adversary, explored state by state: with all rules nothing goes wrong, and without any
//! one of them something does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test suite")]
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
use leasehold_core::protocol::rules::Rule;
use scenario::Scenario;

/// Explores a scenario to its end.
fn clean(scenario: Scenario, without: Option<Rule>) {
    let scenario =
        if std::env::var_os("LEASEHOLD_MODEL_DEEP").is_some() { scenario.deeper() } else { scenario };
    let verdict = explore(&scenario, without, Search::Exhaustive);
    eprintln!("{}: {} states in {:.1?}", scenario.name, verdict.states, verdict.took);
    let story = verdict.story.join("\n");
    assert!(verdict.violated.is_empty(), "{} violates {:?}\n{story}", scenario.name, verdict.violated);
}

/// Looks for the shortest way in which a scenario goes wrong, as it must.
fn convict(without: Option<Rule>, scenario: &Scenario, wrong: &str) {
    let verdict = explore(scenario, without, Search::Shortest);
    let (name, violated) = (scenario.name, verdict.violated);
    eprintln!("without {without:?}, {name}: {violated:?}, {} states in {:.1?}", verdict.states, verdict.took);
    assert!(violated.contains(&wrong), "without {without:?}, {name} violates {violated:?} and not {wrong:?}");
}

macro_rules! nothing_goes_wrong {
    ($($scenario:ident)*) => {
        $(
            #[test]
            fn $scenario() {
                clean(scenarios::$scenario(), None);
            }
        )*
    };
}

// The longest first, so that the last one does not run alone.
nothing_goes_wrong! {
    rollback_of_a_handover
    drain_before_the_run
    handover_unknown_outcome
    restart_of_the_database
    different_ttl
    two_nodes_joining
    three_nodes
    rollback_with_late_start
    two_nodes_both_pause
    two_nodes_pause
    two_nodes_restart
    rerun
    two_nodes_delays
    moving
    slow_holder
    late_planner
    leaving
    drain_and_stay
    late_expiry
    late_grant
    pause_before_the_run
    four_deaths_at_once
    death_and_late_answer
}

#[test]
fn clocks_beyond_the_promise() {
    convict(None, &scenarios::too_slow_holder(), "one holder by time");
}

macro_rules! without_a_rule {
    ($($rule:ident: $scenario:ident, $wrong:literal;)* [implied: $($implied:ident)*]) => {
        $(
            #[test]
            #[allow(non_snake_case, reason = "the name of the rule")]
            fn $rule() {
                convict(Some(Rule::$rule), &scenarios::$scenario(), $wrong);
            }
        )*

        /// Compiles only while every rule is in the table.
        const _: fn(Rule) = |rule| match rule {
            $(Rule::$rule => (),)*
            $(Rule::$implied => (),)*
        };
    };
}

mod without {
    use super::{Rule, clean, convict, scenarios};

    without_a_rule! {
        RenewalChecksIncarnation: rollback_of_a_handover, "one holder by time";
        TrustCountsFromSend: two_nodes_pause, "one holder by time";
        BeatStampedAtReceipt: two_nodes_pause, "one holder by time";
        ExpiryChecksBeat: late_expiry, "one holder by time";
        HolderWithoutRowIsFree: late_expiry, "runs at the end";
        EligibleAfterFirstRenewal: two_nodes_joining, "granted after the first beat";
        GrantChecksToken: late_grant, "one holder by time";
        LeasesReadBeforeNodes: late_planner, "one holder by time";
        FinishedTokens: handover_unknown_outcome, "one holder by token";
        GivenAwayIsFinished: pause_before_the_run, "one holder by time";
        HandoverRepeats: handover_unknown_outcome, "runs at the end";
        ChangesCheckIncarnation: rollback_of_a_handover, "one holder by token";
        AdoptionWaitsMaxTtl: different_ttl, "one holder by time";
        AdoptionRaisesEpoch: rollback_of_a_handover, "one holder by token";
        EveryoneObserves: four_deaths_at_once, "followed within the bound";
        OlderAnswersDropped: death_and_late_answer, "followed within the bound";
        [implied: EpochFromOneRead]
    }

    /// Implied by other rules, in this machine. A leader asks for the leases only after a view, and writes only after
    /// another, in which the adopted incarnation and the live one are both the one that its session joined under.
    /// Incarnations never repeat, so what was read in between is of that life as well, and after its adoption, which
    /// alone changes the epoch. The rule stays, because a planner that starts earlier would need it. That leaving it
    /// out changes nothing is checked here, so that it shows when this argument no longer holds.
    #[test]
    #[allow(non_snake_case, reason = "the name of the rule")]
    fn EpochFromOneRead() {
        clean(scenarios::rollback_with_late_start(), Some(Rule::EpochFromOneRead));
    }
}
