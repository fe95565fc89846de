//! Which files of a listing are taken, and in which order: pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobMatcher;
use leasehold_core::clock::Instant;

use super::config::{Complete, FilesConfig, Sort};
use super::storage::{Entry, Listing};

/// Of files that are being written, by those who say so.
const PARTIAL: [&str; 3] = [".tmp", ".part", ".filepart"];
/// So many names of one problem are told.
const NAMED: usize = 3;

/// Remembers how long files have stayed what they are.
#[derive(Debug, Default)]
pub(super) struct Stability(HashMap<Arc<str>, (Arc<str>, Instant)>);

impl Stability {
    /// Whether it has stayed the same for so long, in two looks at least.
    fn is_stable(&self, entry: &Entry, now: Instant, time: Duration) -> bool {
        self.0
            .get(&entry.path)
            .is_some_and(|(tag, since)| *tag == entry.tag && now > *since && now.since(*since) >= time)
    }

    fn look(&mut self, entries: &[Entry], now: Instant) {
        let mut next = HashMap::with_capacity(entries.len());
        for entry in entries {
            let since = match self.0.get(&entry.path) {
                Some((tag, since)) if *tag == entry.tag => *since,
                _ => now,
            };
            next.insert(Arc::clone(&entry.path), (Arc::clone(&entry.tag), since));
        }
        self.0 = next;
    }
}

/// What was chosen of a listing.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// In their order.
    pub(super) files: Vec<Entry>,
    pub(super) problems: Problems,
}

/// What was left alone, and why.
#[derive(Debug, Default)]
pub(super) struct Problems {
    first: Vec<String>,
    more: usize,
}

impl Problems {
    pub(super) fn add(&mut self, problem: impl Into<String>) {
        if self.first.len() < NAMED { self.first.push(problem.into()) } else { self.more += 1 }
    }

    /// For people.
    pub(super) fn text(&self) -> Option<String> {
        if self.first.is_empty() {
            return None;
        }
        let more = if self.more > 0 { format!("; and {} more", self.more) } else { String::new() };
        Some(format!("left alone: {}{more}", self.first.join("; ")))
    }
}

/// Chooses. `wall` is the time in milliseconds since 1970, as the database sees it.
pub(super) fn choose(
    config: &FilesConfig,
    matcher: &GlobMatcher,
    listing: Listing,
    stability: &mut Stability,
    now: Instant,
    wall: i64,
) -> Choice {
    let Listing { entries, problems } = listing;
    let mut choice = Choice::default();
    for problem in problems {
        choice.problems.add(problem);
    }
    let markers: std::collections::HashSet<Arc<str>> = match &config.complete {
        Complete::Marker(suffix) => entries
            .iter()
            .filter_map(|entry| entry.path.strip_suffix(suffix.as_str()).map(Arc::from))
            .collect(),
        _ => Default::default(),
    };
    let mut matching: Vec<Entry> =
        entries.into_iter().filter(|entry| matcher.is_match(&*entry.path)).collect();
    if let Complete::Marker(suffix) = &config.complete {
        matching.retain(|entry| !entry.path.ends_with(suffix.as_str()));
    }
    let is_complete = |entry: &Entry, stability: &Stability| match &config.complete {
        Complete::Stable(time) => stability.is_stable(entry, now, *time),
        Complete::Renamed => !PARTIAL.iter().any(|suffix| entry.path.ends_with(suffix)),
        Complete::Marker(_) => markers.contains(&entry.path),
    };
    let most = if config.records == super::Records::Whole { config.max_body } else { u64::MAX };
    for entry in &matching {
        let age = Duration::from_millis(u64::try_from(wall - entry.modified).unwrap_or(0));
        if !is_complete(entry, stability)
            || config.min_age.is_some_and(|least| age < least)
            || config.max_age.is_some_and(|most| age > most)
        {
            continue;
        }
        let limit = config.max_size.unwrap_or(u64::MAX);
        if entry.size > limit {
            choice
                .problems
                .add(format!("{:?} has {} bytes, and max-size is {limit}", entry.path, entry.size));
        } else if entry.size > most {
            choice.problems.add(format!(
                "{:?} has {} bytes, and max-body is {most}: raise it, or take records or a reference",
                entry.path, entry.size
            ));
        } else {
            choice.files.push(entry.clone());
        }
    }
    if matches!(config.complete, Complete::Stable(_)) {
        stability.look(&matching, now);
    }
    match config.sort {
        Sort::Name => choice.files.sort_unstable_by(|a, b| a.path.cmp(&b.path)),
        Sort::Time => choice.files.sort_unstable_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path))),
        Sort::Size => choice.files.sort_unstable_by(|a, b| (a.size, &a.path).cmp(&(b.size, &b.path))),
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, size: u64, modified: i64) -> Entry {
        Entry { path: path.into(), size, modified, tag: format!("{size}-{modified}").into() }
    }

    fn chosen(change: impl Fn(&mut FilesConfig), entries: Vec<Entry>) -> (Vec<String>, Option<String>) {
        let mut config = FilesConfig::new("a".try_into().unwrap(), "/drop", "*");
        config.complete = Complete::Renamed;
        change(&mut config);
        let listing = Listing { entries, problems: Vec::new() };
        let matcher = config.matcher().unwrap();
        let choice = choose(&config, &matcher, listing, &mut Stability::default(), Instant::ZERO, 100_000);
        (choice.files.iter().map(|entry| entry.path.to_string()).collect(), choice.problems.text())
    }

    #[test]
    fn a_file_is_stable_when_two_looks_saw_the_same() {
        let config = FilesConfig::new("a".try_into().unwrap(), "/drop", "*");
        let (matcher, mut stability) = (config.matcher().unwrap(), Stability::default());
        let mut look = |size, second| {
            let listing = Listing { entries: vec![entry("a", size, 0)], problems: Vec::new() };
            let now = Instant::ZERO + Duration::from_secs(second);
            choose(&config, &matcher, listing, &mut stability, now, 0).files.len()
        };
        assert_eq!([look(1, 0), look(1, 1), look(2, 2), look(2, 3), look(2, 4)], [0, 0, 0, 0, 1]);
    }

    #[test]
    fn files_come_in_the_order_that_was_asked_for_also_beyond_4_gib() {
        let files = || vec![entry("c", 5_000_000_000, 1), entry("a", 1, 3), entry("b", 4_999_999_999, 2)];

        assert_eq!(chosen(|c| c.records = super::super::Records::lines(), files()).0, ["a", "b", "c"]);
        let sorted =
            |sort| chosen(move |c| (c.sort, c.records) = (sort, super::super::Records::Reference), files()).0;
        assert_eq!(sorted(Sort::Time), ["c", "b", "a"]);
        assert_eq!(sorted(Sort::Size), ["a", "b", "c"]);
    }

    #[test]
    fn age_size_and_names_decide() {
        let files = || {
            vec![
                entry("new", 1, 99_000),
                entry("old", 1, 0),
                entry("big", 9, 50_000),
                entry("x.tmp", 1, 50_000),
            ]
        };
        let (names, problem) = chosen(
            |c| {
                (c.min_age, c.max_age, c.max_size) =
                    (Some(Duration::from_secs(5)), Some(Duration::from_secs(60)), Some(5))
            },
            files(),
        );
        assert!(names.is_empty(), "{names:?}");
        assert_eq!(problem.unwrap(), "left alone: \"big\" has 9 bytes, and max-size is 5");
        assert_eq!(chosen(|_| {}, files()).0, ["big", "new", "old"]);
    }

    #[test]
    fn a_marker_completes_its_file_and_is_none_itself() {
        let files = vec![entry("a", 1, 0), entry("a.done", 0, 0), entry("b", 1, 0)];
        assert_eq!(chosen(|c| c.complete = Complete::Marker(".done".to_owned()), files).0, ["a"]);
    }

    #[test]
    fn problems_are_told_without_end() {
        let mut problems = Problems::default();
        (0..10).for_each(|n| problems.add(n.to_string()));
        assert_eq!(problems.text().unwrap(), "left alone: 0; 1; 2; and 7 more");
    }
}
