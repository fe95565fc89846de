//! The table of a run.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::brokers;
use crate::database::Where;
use crate::plan::Way;
use crate::round::Outcome;

/// What all rounds of a run have brought.
pub(crate) struct Report {
    database: String,
    option: String,
    features: &'static str,
    seed: u64,
    rounds: usize,
    operations: usize,
    violations: usize,
    healed: Vec<u64>,
    faults: BTreeMap<String, (usize, Vec<u64>)>,
    /// In how many rounds a topic was consumed like this.
    ways: BTreeMap<Way, usize>,
}

impl Report {
    pub(crate) fn new(database: &Where, brokers: &brokers::Where, seed: u64) -> Self {
        let (mut database, mut option) = database.words();
        let (names, options) = brokers.words();
        database += &names;
        option += &options;
        let (rounds, operations, violations, healed, faults, ways) = Default::default();
        let features = match (brokers.rabbitmq.is_some(), brokers.kafka.is_some()) {
            (true, true) => " --features rabbitmq,kafka",
            (true, false) => " --features rabbitmq",
            (false, true) => " --features kafka",
            (false, false) => "",
        };
        Self { database, option, features, seed, rounds, operations, violations, healed, faults, ways }
    }

    /// A round, and how a topic was consumed in it.
    pub(crate) fn add(&mut self, outcome: &Outcome, way: Option<Way>) {
        self.rounds += 1;
        if let Some(way) = way {
            *self.ways.entry(way).or_default() += 1;
        }
        self.operations += outcome.operations;
        self.violations += outcome.violations.len();
        self.healed.push(outcome.healed_ms);
        for (kind, recovery) in &outcome.recoveries {
            let (count, recoveries) = self.faults.entry(kind.clone()).or_default();
            *count += 1;
            recoveries.extend(recovery);
        }
    }

    pub(crate) fn violations(&self) -> usize {
        self.violations
    }

    /// What repeats one round.
    pub(crate) fn command(&self, seed: u64) -> String {
        let Self { option, features, .. } = self;
        format!("cargo run --release -p leasehold-proof{features} -- run {option} --seed {seed} --rounds 1")
    }

    /// Markdown.
    pub(crate) fn text(&self) -> String {
        let Self { database, seed, rounds, operations, violations, .. } = self;
        let faults: usize = self.faults.values().map(|(count, _)| count).sum();
        let mut text = format!(
            "{database}: seed {seed}, {rounds} rounds, {faults} faults, {operations} operations, **{violations} violations**. \
             Everything ran again after the last fault of a round in {}.{}\n\n\
             | fault | times | moved | median ms | worst ms |\n|---|---:|---:|---:|---:|\n",
            times(&self.healed),
            ways(&self.ways)
        );
        for (kind, (count, recoveries)) in &self.faults {
            let (median, worst) = middle(recoveries)
                .map_or_else(Default::default, |(median, worst)| (median.to_string(), worst.to_string()));
            // Writing to a text does not fail.
            let _ = writeln!(text, "| {kind} | {count} | {} | {median} | {worst} |", recoveries.len());
        }
        text
    }
}

fn middle(values: &[u64]) -> Option<(u64, u64)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
}

fn times(values: &[u64]) -> String {
    middle(values)
        .map_or_else(String::new, |(median, worst)| format!("{median} ms (median), {worst} ms (worst)"))
}

fn ways(rounds: &BTreeMap<Way, usize>) -> String {
    if rounds.is_empty() {
        return String::new();
    }
    let all: Vec<_> = rounds.iter().map(|(way, count)| format!("{way} ({count} rounds)")).collect();
    format!(" The topic was consumed by {}.", all.join(", "))
}
