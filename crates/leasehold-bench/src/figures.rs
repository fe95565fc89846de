//! What was measured, against its bound: a table for people, JSON for programs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// What a figure is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// With its direction, as in `<= 2`; none for what is only told.
    bound: Option<String>,
    holds: bool,
}

/// One suite's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    suite: &'static str,
    database: &'static str,
    machine: String,
    figures: Vec<Figure>,
    #[serde(skip)]
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(suite: &'static str, database: &'static str) -> Self {
        Self { suite, database, machine: machine(), figures: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        bound: Option<Bound>,
    ) {
        // Rounded before it is judged, so that nobody reads "2.000 s, bound 2.000 s, missed".
        let value = (value * 1e4).round() / 1e4;
        let holds = match bound {
            Some(Bound::AtMost(most)) => value <= most,
            Some(Bound::AtLeast(least)) => value >= least,
            None => true,
        };
        let bound = bound.map(|bound| match bound {
            Bound::AtMost(most) => format!("<= {}", number(most)),
            Bound::AtLeast(least) => format!(">= {}", number(least)),
        });
        let name = name.into();
        // Suites take minutes: whoever waits sees how far it is, and the table comes at the end.
        eprintln!("measured: {name}: {} {unit}", number(value));
        self.figures.push(Figure { name, value, unit, bound, holds });
    }

    /// A duration and the longest that it may be.
    pub(crate) fn time(&mut self, name: impl Into<String>, value: Duration, bound: Option<Duration>) {
        self.add(name, value.as_secs_f64(), "s", bound.map(|most| Bound::AtMost(most.as_secs_f64())));
    }

    /// Something that people should know, for example what could not be measured.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn print(&self) {
        let width = self.figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
        println!("\n{} on {} ({})", self.suite, self.database, self.machine);
        for Figure { name, value, unit, bound, holds } in &self.figures {
            let pad = " ".repeat(width - name.chars().count());
            let (bound, verdict) = match bound {
                Some(bound) => (bound.as_str(), if *holds { "holds" } else { "MISSED" }),
                None => ("", ""),
            };
            println!("  {name}{pad}  {:>10} {unit:<6}  {bound:<10}  {verdict}", number(*value));
        }
        for note in &self.notes {
            println!("  ({note})");
        }
    }
}

/// One suite as the object, several as an array of them.
pub(crate) fn write(file: &Path, reports: &[Report]) -> Result<()> {
    let text = match reports {
        [report] => serde_json::to_string_pretty(report),
        reports => serde_json::to_string_pretty(reports),
    };
    std::fs::write(file, text? + "\n").with_context(|| format!("writing {}", file.display()))
}

/// Four decimals at most, and none that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The value that `share` of all are not above; the nearest one that was really measured.
pub(crate) fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within a list")]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn machine() -> String {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    format!("{cores} cores, {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_measured_value() {
        let values: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&values, 1.0), Duration::from_millis(100));
        assert_eq!(percentile(&values[..3], 0.5), Duration::from_millis(99));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
