//! Who gets what, and who does not: placements on the protocol machines, under virtual time.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]

use std::sync::Arc;
use std::time::Duration;

use leasehold_core::name::{ArtifactName, NodeId};
use leasehold_core::protocol::Event;
use leasehold_core::protocol::action::Outcome;
use leasehold_core::protocol::placement::Placement;
use leasehold_core::protocol::request::{Answer, Labels, Request};
use leasehold_core::resolver::{Problem, ResolveError, Resolver};
use leasehold_core::timing::Timings;
use leasehold_testkit::simulation::{Simulation, configured};

const TTL: Duration = Duration::from_secs(2);
const JOBS: [&str; 2] = ["import", "invoices"];

fn timings() -> Timings {
    Timings::derived(TTL)
}

fn simulation() -> Simulation {
    Simulation::new(timings(), Duration::from_millis(1))
}

fn start(sim: &mut Simulation, nodes: &[&str], jobs: &[&str], placement: &Placement) {
    for node in nodes {
        sim.start_with(node, configured(jobs, placement, 0), timings());
    }
}

fn held_by(sim: &Simulation, node: &str, jobs: &[&str]) -> usize {
    jobs.iter().filter(|job| sim.holder(job).as_deref() == Some(node)).count()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("job-{index:02}")).collect()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn move_to(sim: &mut Simulation, job: &str, to: Option<&str>) {
    let request = Request::Prefer { artifact: ArtifactName::new(job).unwrap(), node: to.map(node) };
    assert_eq!(sim.database().apply(&request), Answer::Matched(1));
}

#[test]
fn nothing_is_assigned_until_enough_nodes_have_formed_the_cluster() {
    let two = Placement::round_robin().min_nodes(2);
    let mut sim = simulation();
    start(&mut sim, &["a"], &JOBS, &two);
    sim.advance(TTL * 5, &JOBS);
    assert!(JOBS.iter().all(|job| sim.holder(job).is_none()));
    start(&mut sim, &["b"], &JOBS, &two);
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("formed");
    assert_eq!(sim.database().cluster().unwrap().formed, 2);
}

#[test]
fn a_formed_cluster_fails_over_below_the_minimum_unless_strict() {
    for (placement, goes_on) in [(Placement::round_robin(), true), (Placement::round_robin().strict(), false)]
    {
        // Whoever of the two leads: it survives once, and once it does not.
        for victim in ["a", "b"] {
            let mut sim = simulation();
            start(&mut sim, &["a", "b"], &JOBS, &placement.clone().min_nodes(2));
            sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("formed");
            let survivor = if victim == "a" { "b" } else { "a" };
            let kept = held_by(&sim, survivor, &JOBS);
            sim.advance(TTL, &JOBS);
            sim.kill(victim);
            sim.advance(TTL * 3, &JOBS);
            let expected = if goes_on { JOBS.len() } else { kept };
            assert_eq!(held_by(&sim, survivor, &JOBS), expected, "{placement:?} {victim}");
        }
    }
}

#[test]
fn a_cluster_that_all_have_left_is_formed_anew() {
    let two = Placement::round_robin().min_nodes(2);
    let mut sim = simulation();
    start(&mut sim, &["a", "b"], &JOBS, &two);
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("formed");
    sim.kill("a");
    sim.kill("b");
    start(&mut sim, &["c"], &JOBS, &two);
    sim.advance(TTL * 6, &JOBS);
    assert!(JOBS.iter().all(|job| sim.holder(job).is_none()), "one node alone is no cluster of two");
    start(&mut sim, &["d"], &JOBS, &two);
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("formed");
}

#[test]
fn pinned_artifacts_run_on_the_listed_nodes_only() {
    let pinned = Placement::pinned(["b", "c"]).unwrap();
    let mut sim = simulation();
    start(&mut sim, &["a", "b", "c", "d"], &JOBS, &pinned);
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("holders");
    assert_eq!((held_by(&sim, "b", &JOBS), held_by(&sim, "c", &JOBS)), (1, 1));
    sim.kill("b");
    sim.advance(TTL * 2, &JOBS);
    assert_eq!(held_by(&sim, "c", &JOBS), 2);
    sim.kill("c");
    sim.advance(TTL * 3, &JOBS);
    assert!(JOBS.iter().all(|job| sim.holder(job).is_none()), "none of the listed nodes lives");
    start(&mut sim, &["b"], &JOBS, &pinned);
    sim.advance(TTL * 2, &JOBS);
    assert_eq!(held_by(&sim, "b", &JOBS), 2);
}

#[test]
fn pinned_artifacts_may_run_elsewhere_while_none_of_the_listed_nodes_lives() {
    let pinned = Placement::pinned(["b"]).unwrap().or_elsewhere();
    let mut sim = simulation();
    start(&mut sim, &["a", "b"], &JOBS, &pinned);
    sim.advance(TTL, &JOBS);
    assert_eq!(held_by(&sim, "b", &JOBS), 2);
    sim.kill("b");
    sim.advance(TTL * 2, &JOBS);
    assert_eq!(held_by(&sim, "a", &JOBS), 2);
    start(&mut sim, &["b"], &JOBS, &pinned);
    sim.advance(TTL * 2, &JOBS);
    assert_eq!(held_by(&sim, "b", &JOBS), 2, "and goes back");
}

#[test]
fn labels_select_nodes() {
    let eu = Placement::round_robin().label("zone", "eu");
    let mut sim = simulation();
    for (name, zone) in [("a", "us"), ("b", "eu")] {
        let labels =
            Labels::from([("zone".to_owned(), zone.to_owned()), ("disk".to_owned(), "fast".to_owned())]);
        sim.start_labelled(name, configured(&JOBS, &eu, 0), timings(), labels);
    }
    sim.advance(TTL, &JOBS);
    assert_eq!(held_by(&sim, "b", &JOBS), 2);
    sim.kill("b");
    sim.advance(TTL * 3, &JOBS);
    assert!(JOBS.iter().all(|job| sim.holder(job).is_none()));
}

#[test]
fn what_is_held_stays_when_nodes_join_unless_it_is_to_be_rebalanced() {
    let (jobs, settle) = (names(10), TTL * 4);
    let jobs: Vec<&str> = jobs.iter().map(String::as_str).collect();
    for (placement, moves) in
        [(Placement::round_robin(), false), (Placement::round_robin().rebalance_after(settle), true)]
    {
        let mut sim = simulation();
        start(&mut sim, &["a"], &jobs, &placement);
        sim.advance(settle * 2, &jobs);
        start(&mut sim, &["b", "c"], &jobs, &placement);
        sim.advance(settle - TTL, &jobs);
        assert_eq!(held_by(&sim, "a", &jobs), 10, "the cluster has not settled");
        let before = sim.history().len();
        sim.advance(settle * 4, &jobs);
        let spread = ["a", "b", "c"].map(|node| held_by(&sim, node, &jobs));
        let moved = if moves { 6 } else { 0 };
        assert_eq!(spread.iter().sum::<usize>(), 10);
        assert_eq!(spread[0], 10 - moved, "{spread:?}");
        assert!(!moves || spread.iter().all(|held| (3..=4).contains(held)), "{spread:?}");
        assert_eq!(sim.history().len() - before, moved * 2, "the fewest moves: each a stop and a start");
    }
}

#[test]
fn a_move_is_kept_while_the_node_may_run_it_and_after_restarts_of_all() {
    let mut sim = simulation();
    start(&mut sim, &["a", "b"], &JOBS, &Placement::active_passive());
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("holders");
    let to = if sim.holder("import").unwrap() == "a" { "b" } else { "a" };
    let other = if to == "a" { "b" } else { "a" };
    move_to(&mut sim, "import", Some(to));
    sim.wait(TTL, |sim| sim.holder("import").as_deref() == Some(to)).expect("moved");
    assert_eq!(sim.holder("invoices").as_deref(), Some(other), "the other one stays");
    sim.kill(to);
    sim.wait(TTL * 2, |sim| sim.holder("import").as_deref() == Some(other)).expect("failed over");
    sim.kill(other);
    start(&mut sim, &["a", "b"], &JOBS, &Placement::active_passive());
    sim.wait(TTL * 3, |sim| sim.holder("import").as_deref() == Some(to)).expect("where it was moved to");
    move_to(&mut sim, "import", None);
    sim.advance(TTL * 2, &JOBS);
    assert_eq!(sim.holder("import").as_deref(), Some(to), "what is held stays");
}

#[test]
fn drain_is_an_operators_and_readmission_ends_it() {
    let mut sim = simulation();
    start(&mut sim, &["a", "b"], &JOBS, &Placement::active_passive());
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("holders");
    let drained = sim.holder("import").unwrap();
    let exclude = Request::Exclude {
        node: node(&drained),
        evict: false,
        by: "operator".to_owned(),
        reason: "kernel update".to_owned(),
    };
    sim.database().apply(&exclude);
    let other = |sim: &Simulation| JOBS.iter().all(|job| sim.holder(job).is_some_and(|held| held != drained));
    sim.wait(TTL, other).expect("handed over, not expired");
    assert!(sim.machine(&drained).unwrap().session().is_some(), "it keeps its session");
    sim.kill(&drained);
    start(&mut sim, &[&drained], &JOBS, &Placement::active_passive());
    sim.advance(TTL * 3, &JOBS);
    move_to(&mut sim, "import", Some(&drained));
    sim.advance(TTL * 2, &JOBS);
    assert!(other(&sim), "drained still, after a restart, whatever is moved there");
    sim.database().apply(&Request::Readmit { node: node(&drained) });
    sim.wait(TTL, |sim| sim.holder("import").as_ref() == Some(&drained)).expect("takes part again");
}

#[test]
fn nodes_with_the_newest_configuration_are_preferred_and_a_holder_runs_its_own() {
    let (old, new) = (Placement::active_passive(), Placement::active_passive());
    let mut sim = simulation();
    for name in ["a", "b"] {
        sim.start_with(name, configured(&JOBS, &old, 1), timings());
    }
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("holders");
    let holder = sim.holder("import").unwrap();
    sim.start_with("c", configured(&JOBS, &new, 2), timings());
    sim.advance(TTL * 3, &JOBS);
    assert_eq!(sim.holder("import"), Some(holder.clone()), "nothing is taken for a newer configuration");
    sim.kill(&holder);
    sim.advance(TTL * 2, &JOBS);
    assert_eq!(held_by(&sim, "c", &JOBS), 2);
    sim.kill("c");
    sim.advance(TTL * 2, &JOBS);
    assert!(JOBS.iter().all(|job| sim.holder(job).is_some()), "the others are the fallback");
}

#[test]
fn the_newest_configuration_that_fails_is_yielded_to_an_older_one() {
    let placement = Placement::active_passive();
    let mut sim = simulation();
    sim.start_with("a", configured(&["import"], &placement, 1), timings());
    sim.advance(TTL, &[]);
    sim.start_with("b", configured(&["import"], &placement, 2), timings());
    sim.advance(TTL, &[]);
    move_to(&mut sim, "import", Some("b"));
    sim.wait(TTL, |sim| sim.holder("import").as_deref() == Some("b")).expect("moved");
    move_to(&mut sim, "import", None);
    for _ in 0..4 {
        sim.wait(TTL * 4, |sim| sim.holder("import").as_deref() == Some("b")).expect("it tries again");
        sim.end_run("b", "import", Outcome::Failed("no such column".into()));
    }
    sim.wait(TTL, |sim| sim.holder("import").as_deref() == Some("a")).expect("the older one can");
}

#[test]
fn only_nodes_that_have_deployed_an_artifact_get_it() {
    let placement = Placement::round_robin();
    let mut sim = simulation();
    sim.start_with("a", configured(&["import"], &placement, 0), timings());
    sim.start_with("b", configured(&["invoices"], &placement, 0), timings());
    sim.advance(TTL, &JOBS);
    assert_eq!((sim.holder("import").as_deref(), sim.holder("invoices").as_deref()), (Some("a"), Some("b")));
    sim.tell("b", Event::Leave);
    sim.advance(TTL * 3, &JOBS);
    assert_eq!(sim.holder("invoices"), None);
}

#[derive(Debug)]
struct Last;

impl Resolver for Last {
    fn name(&self) -> &str {
        "last"
    }

    fn resolve(&self, problem: &Problem) -> Result<Vec<Option<usize>>, ResolveError> {
        Ok(problem.items.iter().map(|item| item.eligible.last().copied()).collect())
    }
}

#[test]
fn a_leader_without_the_resolver_is_followed_by_one_that_has_it() {
    let mut sim = simulation();
    start(&mut sim, &["a"], &JOBS, &Placement::by("last"));
    sim.advance(TTL * 3, &JOBS);
    assert!(sim.machine("a").unwrap().session().unwrap().leads());
    assert!(JOBS.iter().all(|job| sim.holder(job).is_none()), "it cannot say who gets them");
    sim.resolvers().add(Arc::new(Last));
    start(&mut sim, &["b"], &JOBS, &Placement::by("last"));
    sim.wait(TTL * 3, |sim| held_by(sim, "b", &JOBS) == 2).expect("the other one leads and plans");
}

/// A resolver with a mistake.
#[derive(Debug)]
struct Panics;

impl Resolver for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn resolve(&self, _: &Problem) -> Result<Vec<Option<usize>>, ResolveError> {
        panic!("a mistake");
    }
}

#[test]
fn a_resolver_without_an_answer_holds_up_only_what_it_places() {
    for resolver in ["nobody-has-it", "panics"] {
        let mut sim = simulation();
        sim.resolvers().add(Arc::new(Panics));
        start(&mut sim, &["a", "b"], &["import"], &Placement::active_passive());
        start(&mut sim, &["c"], &["invoices"], &Placement::by(resolver));
        sim.wait(TTL * 2, |sim| sim.holder("import").is_some()).expect("a holder");
        for _ in 0..2 {
            let holder = sim.holder("import").unwrap();
            let other = if holder == "a" { "b" } else { "a" };
            sim.kill(&holder);
            sim.wait(TTL * 4, |sim| sim.holder("import").as_deref() == Some(other)).expect("failover");
            start(&mut sim, &[holder.as_str()], &["import"], &Placement::active_passive());
            sim.advance(TTL * 2, &["import"]);
        }
        assert_eq!(sim.holder("invoices"), None);
    }
}

#[test]
fn nobody_misses_a_resolver_of_what_no_node_has_deployed() {
    let mut sim = simulation();
    start(&mut sim, &["a"], &["import"], &Placement::active_passive());
    start(&mut sim, &["c"], &["invoices"], &Placement::by("nobody-has-it"));
    sim.advance(TTL * 2, &["import"]);
    // The program that brought it is rolled back.
    sim.kill("c");
    sim.advance(TTL * 3, &["import"]);
    let term = sim.database().cluster().unwrap().term;
    sim.advance(TTL * 5, &["import"]);
    assert_eq!(sim.database().cluster().unwrap().term, term, "the leader completes its passes");
}

#[test]
fn a_move_does_not_assign_what_is_to_wait_for_nodes() {
    let strict = Placement::round_robin().min_nodes(2).strict();
    let mut sim = simulation();
    start(&mut sim, &["a", "b"], &JOBS, &strict);
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("formed");
    let job = JOBS.into_iter().find(|job| sim.holder(job).as_deref() == Some("b")).unwrap();
    sim.kill("b");
    sim.advance(TTL * 3, &JOBS);
    move_to(&mut sim, job, Some("a"));
    sim.advance(TTL * 3, &JOBS);
    assert_eq!(sim.holder(job), None);
    start(&mut sim, &["b"], &JOBS, &strict);
    sim.wait(TTL, |sim| sim.holder(job).as_deref() == Some("a")).expect("moved there");
}

#[test]
fn a_command_reaches_the_run_wherever_it_is() {
    let mut sim = simulation();
    start(&mut sim, &["a", "b"], &JOBS, &Placement::active_passive());
    sim.wait(TTL, |sim| JOBS.iter().all(|job| sim.holder(job).is_some())).expect("holders");
    let holder = sim.holder("import").unwrap();
    let command = Request::Command {
        artifact: ArtifactName::new("import").unwrap(),
        verb: "fire".to_owned(),
        args: String::new(),
        by: String::new(),
        reason: String::new(),
    };
    sim.database().apply(&command);
    sim.wait(TTL, |sim| sim.command(&holder, "import") == Some(1)).expect("told");
    assert_eq!(sim.command(&holder, "invoices"), None);
    // Ids are drawn before transactions commit: the holder took the second, and had not seen the first.
    sim.database().apply(&command);
    sim.wait(TTL, |sim| sim.command(&holder, "import") == Some(2)).expect("told");
    sim.database().take_command(2);
    // Its commit raised the revision.
    sim.database().apply(&Request::Prefer {
        artifact: ArtifactName::new("import").unwrap(),
        node: Some(node(&holder)),
    });
    sim.wait(TTL, |sim| sim.command(&holder, "import") == Some(1)).expect("told of what was committed late");
    sim.kill(&holder);
    let heir = if holder == "a" { "b" } else { "a" };
    sim.wait(TTL * 2, |sim| sim.command(heir, "import") == Some(1)).expect("it waits for the next holder");
}

#[test]
fn an_artifact_that_was_forgotten_while_a_node_joined_comes_back() {
    let mut sim = simulation();
    start(&mut sim, &["a"], &["import"], &Placement::active_passive());
    sim.wait(TTL, |sim| sim.holder("import").is_some()).expect("a holder");
    // The node has registered it, and has no row yet: nobody has it deployed, so it may be forgotten.
    start(&mut sim, &["b"], &["invoices"], &Placement::active_passive());
    let forget = Request::Forget { artifact: ArtifactName::new("invoices").unwrap() };
    let forgotten = (0..1000).any(|_| {
        sim.advance(Duration::from_millis(1), &[]);
        sim.database().apply(&forget) == Answer::Matched(1)
    });
    assert!(forgotten, "between the two");
    sim.wait(TTL, |sim| sim.holder("invoices").as_deref() == Some("b"))
        .expect("the leader registers it again");
}
