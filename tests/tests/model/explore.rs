//! The scenario as a model of stateright, and what to print when it finds something.

use std::time::{Duration, Instant};

use leasehold_core::protocol::rules::{Rule, Rules};
use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use crate::driver::{Driver, Setting};
use crate::scenario::{Move, Scenario};
use crate::world::{Leg, World, Wrong};

/// One choice. States in which there is only one are passed through without a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next leg arrives.
    Land,
    /// It is held back.
    Hold,
    /// Time goes on.
    Tick,
    /// This held leg arrives.
    Release(usize),
    /// This move of the scenario is made.
    Make(usize),
}

/// A scenario with some set of rules.
#[derive(Debug)]
pub struct Exploration(pub Setting);

impl Exploration {
    pub fn new(scenario: Scenario, without: Option<Rule>) -> Self {
        Self(Setting::new(scenario, without.map_or_else(Rules::default, Rules::without)))
    }

    fn driver<'a>(&'a self, world: &'a mut World, told: Option<&'a mut Vec<String>>) -> Driver<'a> {
        Driver { world, setting: &self.0, told }
    }

    fn choices(&self, world: &World) -> Vec<Step> {
        let scenario = &self.0.scenario;
        let acts = world.step >= scenario.warm && world.step < scenario.rests();
        let releases = (0..world.held.len()).map(Step::Release);
        let Some(first) = world.flying.front() else {
            let mut steps = vec![Step::Tick];
            if acts {
                steps.extend(self.moves(world, |_| true));
                steps.extend(releases);
            }
            return steps;
        };
        let mut steps = vec![Step::Land];
        if acts {
            let (node, kind, side) = (first.node, first.kind, first.side());
            if world.holds < scenario.holds && (scenario.may_hold)(node, kind, side) {
                steps.push(Step::Hold);
            }
            if matches!(first.leg, Leg::Answer(_)) {
                steps.extend(self.moves(world, |made| *made == Move::Pause(node)));
            }
            if scenario.fine {
                steps.extend(releases);
            }
        }
        steps
    }

    fn moves(&self, world: &World, wanted: impl Fn(&Move) -> bool) -> Vec<Step> {
        let scenario = &self.0.scenario;
        let mut steps: Vec<Step> = Vec::new();
        for (index, made) in scenario.moves.iter().enumerate() {
            if world.made & (1 << index) != 0 {
                continue;
            }
            let same = |step: &Step| matches!(step, Step::Make(other) if scenario.moves[*other] == *made);
            if wanted(made) && Driver::may(world, made) && !steps.iter().any(same) {
                steps.push(Step::Make(index));
            }
            if scenario.ordered {
                break;
            }
        }
        steps
    }

    fn take(&self, world: &mut World, step: &Step, told: Option<&mut Vec<String>>) {
        let mut driver = self.driver(world, told);
        match step {
            Step::Land => driver.land(),
            Step::Hold => driver.hold(),
            Step::Tick => driver.tick(),
            Step::Release(index) => driver.release(*index),
            Step::Make(index) => {
                driver.world.made |= 1 << *index;
                driver.make(&self.0.scenario.moves[*index]);
            }
        }
    }

    /// Goes on to the next real choice, or to the end.
    fn pass(&self, world: &mut World, mut told: Option<&mut Vec<String>>) {
        let scenario = &self.0.scenario;
        while world.wrong.is_none() && !world.over {
            let resting = !world.disturbed(scenario);
            if resting && world.flying.is_empty() {
                let mut driver = self.driver(world, told.as_deref_mut());
                if driver.calm() || driver.world.step >= scenario.rests() + scenario.quiet {
                    driver.check_end();
                    world.over = true;
                    return;
                }
            }
            let choices = self.choices(world);
            if !resting && choices.len() > 1 {
                return;
            }
            self.take(world, &choices[0], told.as_deref_mut());
        }
    }

    /// The story of a path, by telling it again.
    pub fn story(&self, path: Path<World, Step>) -> Vec<String> {
        let steps = path.into_vec();
        let Some((first, _)) = steps.first() else { return Vec::new() };
        let mut world = World::new(&self.0.scenario, self.0.rules, first.reversed);
        let mut told = Vec::new();
        self.pass(&mut world, Some(&mut told));
        for (_, step) in steps {
            if let Some(step) = step {
                self.take(&mut world, &step, Some(&mut told));
                self.pass(&mut world, Some(&mut told));
            }
        }
        told
    }
}

impl Model for Exploration {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let orders: &[bool] = if self.0.scenario.both_orders { &[false, true] } else { &[false] };
        let begin = |&reversed: &bool| {
            let mut world = World::new(&self.0.scenario, self.0.rules, reversed);
            self.pass(&mut world, None);
            world
        };
        orders.iter().map(begin).collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.wrong.is_none() && !world.over {
            steps.extend(self.choices(world));
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        self.take(&mut world, &step, None);
        self.pass(&mut world, None);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn clean<const N: usize>(_: &Exploration, world: &World) -> bool {
            world.wrong.as_ref().is_none_or(|wrong| wrong.name() != Wrong::NAMES[N])
        }
        let [holder, token, beat, bound, end, storm] = Wrong::NAMES;
        vec![
            Property::always(holder, clean::<0>),
            Property::always(token, clean::<1>),
            Property::always(beat, clean::<2>),
            Property::always(bound, clean::<3>),
            Property::always(end, clean::<4>),
            Property::always(storm, clean::<5>),
        ]
    }
}

/// How an exploration ended.
#[derive(Debug)]
pub struct Verdict {
    pub violated: Vec<&'static str>,
    pub states: usize,
    pub took: Duration,
    pub story: Vec<String>,
}

/// How to go through the states.
#[derive(Clone, Copy, Debug)]
pub enum Search {
    /// All of them, in little memory.
    Exhaustive,
    /// Until the first violation, the shortest first.
    Shortest,
}

#[allow(clippy::disallowed_methods, reason = "for people: how long it took")]
pub fn explore(scenario: &Scenario, without: Option<Rule>, search: Search) -> Verdict {
    let started = Instant::now();
    let checker = Exploration::new(scenario.clone(), without).checker().finish_when(HasDiscoveries::Any);
    match search {
        Search::Exhaustive => judge(&checker.spawn_dfs().join(), started),
        Search::Shortest => judge(&checker.spawn_bfs().join(), started),
    }
}

fn judge(checker: &impl Checker<Exploration>, started: Instant) -> Verdict {
    let found = checker.discoveries();
    let violated = found.keys().copied().collect();
    let story = found.into_values().next().map(|path| checker.model().story(path)).unwrap_or_default();
    Verdict { violated, states: checker.unique_state_count(), took: started.elapsed(), story }
}
