//! A year of slots of 1,000 expressions in five zones, as an independent implementation has them: `scripts/cron-year`
//! writes the file with cronsim 2.8 (Python).

use std::fmt::Write;

use leasehold_core::name::ArtifactName;

use super::*;

const YEAR: &str = include_str!("year.tsv");
/// 2026-01-01 and 2027-01-01, UTC.
const BEGIN: i64 = 1_767_225_600_000;
const END: i64 = 1_798_761_600_000;
/// Where the two were compared leaving the clock changes out.
const NEAR: i64 = 2 * 86_400_000;

fn slots(expression: &str, zone: Tz) -> Vec<i64> {
    let mut config = TaskConfig::new(ArtifactName::new("t").unwrap(), Schedule::Cron(expression.to_owned()));
    config.zone = Some(zone);
    let table = Timetable::new(&config).unwrap();
    let mut at = Progress { anchor: 0, last: Some(BEGIN - 1), completed: None, fired: 0, before: 0 };
    let mut slots = Vec::new();
    while let Some(slot) = table.next(at).filter(|slot| *slot < END) {
        slots.push(slot);
        at.last = Some(slot);
    }
    slots
}

/// The hours of the year at whose end the zone's offset is another.
fn changes(zone: Tz) -> Vec<i64> {
    let offset = |at: i64| DateTime::from_timestamp_millis(at).unwrap().with_timezone(&zone).naive_local();
    let hour = 3_600_000;
    let hours = (BEGIN - 2 * NEAR..END + 2 * NEAR).step_by(3_600_000);
    hours.filter(|at| (offset(at + hour) - offset(*at)).num_milliseconds() != hour).collect()
}

/// As `digest` of the script.
fn digest<'a>(slots: impl IntoIterator<Item = &'a i64>) -> String {
    let (mut count, mut hash, mut text) = (0, 0xcbf2_9ce4_8422_2325_u64, String::new());
    for slot in slots {
        text.clear();
        writeln!(text, "{}", slot / 1000).unwrap();
        hash = text.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        count += 1;
    }
    format!("{count}\t{hash:016x}")
}

#[test]
fn a_year_agrees_with_an_independent_implementation() {
    let (mut far, mut near) = (Vec::new(), Vec::new());
    for line in YEAR.lines() {
        let mut columns = line.splitn(3, '\t');
        let zone: Tz = columns.next().unwrap().parse().unwrap();
        let (expression, digests) = (columns.next().unwrap(), columns.next().unwrap());
        let slots = slots(expression, zone);
        let changes = changes(zone);
        let calm = slots.iter().filter(|slot| changes.iter().all(|change| (*slot - change).abs() > NEAR));
        let calm = digest(calm);
        if !digests.ends_with(&calm) {
            far.push(format!("{line} here {calm}"));
        } else if digests != format!("{}\t{calm}", digest(&slots)) {
            near.push(format!("{line} here {}", digest(&slots)));
        }
    }
    assert!(far.is_empty(), "{} differ: {far:#?}", far.len());
    // Where the clocks change: at Lord Howe's half hour cronsim leaves slots out that no gap touches (a daily 12:29:54
    // fires 363 times a year there, 365 here). In Cairo's gap from 0:00 on it leaves out 0:11:23, which fires here when
    // the gap is over. In New York's repeated hour it fires 1:13:58 twice, once here; and so with two lists of such times.
    let of = |zone: &str| near.iter().filter(|line| line.starts_with(zone)).count();
    let known = (of("Australia/Lord_Howe"), of("Africa/Cairo"), of("America/New_York"), near.len());
    assert_eq!(known, (34, 1, 3, 38), "{near:#?}");
}
