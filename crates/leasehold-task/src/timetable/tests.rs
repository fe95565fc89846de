use leasehold_core::name::ArtifactName;

use super::*;

fn table(schedule: &Schedule) -> Timetable {
    with(schedule, |_| {})
}

fn with(schedule: &Schedule, change: impl FnOnce(&mut TaskConfig)) -> Timetable {
    let mut config = TaskConfig::new(ArtifactName::new("t").unwrap(), schedule.clone());
    change(&mut config);
    config.validate().unwrap();
    Timetable::new(&config).unwrap()
}

const THRESHOLD: Duration = Duration::from_millis(10_000);

fn rate() -> Schedule {
    Schedule::FixedRate(Duration::from_millis(1000))
}

fn delay() -> Schedule {
    Schedule::FixedDelay(Duration::from_millis(1000))
}

fn progress(last: Option<i64>, completed: Option<i64>) -> Progress {
    Progress { anchor: 500, last, completed, fired: 0, before: 0 }
}

fn step(schedule: &Schedule, progress: Progress, misfire: Misfire, now: i64) -> Step {
    table(schedule).step(progress, misfire, THRESHOLD, now)
}

/// Claims what is due, as if firing took no time, until there is nothing left.
fn claimed(schedule: &Schedule, mut progress: Progress, misfire: Misfire, now: i64) -> Vec<i64> {
    let mut all = Vec::new();
    let table = table(schedule);
    while let Step::Claim(slot) = table.step(progress, misfire, THRESHOLD, now) {
        assert!(progress.last.is_none_or(|last| slot > last) && slot <= now);
        all.push(slot);
        progress = Progress { last: Some(slot), completed: Some(now), ..progress };
    }
    all
}

#[test]
fn the_first_slot_is_the_anchor() {
    for schedule in [rate(), delay()] {
        assert_eq!(step(&schedule, progress(None, None), Misfire::default(), 499), Step::Wait(500));
        assert_eq!(step(&schedule, progress(None, None), Misfire::default(), 500), Step::Claim(500));
    }
}

#[test]
fn a_fixed_rate_keeps_to_its_anchor_however_late_the_last_firing_was() {
    let at = |last, now| step(&rate(), progress(Some(last), Some(now)), Misfire::default(), now);
    assert_eq!(at(500, 700), Step::Wait(1500));
    assert_eq!(at(500, 1500), Step::Claim(1500));
    assert_eq!(at(500, 3499), Step::Claim(1500), "late, but within the threshold");
    assert_eq!(at(1234, 1235), Step::Wait(1500), "a slot of an earlier period");
    assert_eq!(at(-9000, 0), Step::Wait(500), "a slot of before the anchor");
}

#[test]
fn a_fixed_delay_counts_from_the_completion() {
    let at = |completed, now| step(&delay(), progress(Some(500), completed), Misfire::default(), now);
    assert_eq!(at(Some(4321), 5320), Step::Wait(5321));
    assert_eq!(at(Some(4321), 5321), Step::Claim(5321));
    assert_eq!(at(Some(4321), 5_000_000), Step::Claim(5321), "there is one slot to catch up with");
    assert_eq!(
        claimed(&delay(), progress(Some(500), Some(4321)), Misfire::FireAll { limit: 9 }, 5_000_000),
        [5321]
    );
}

#[test]
fn a_clock_that_was_set_back_brings_no_slot_again() {
    assert_eq!(step(&rate(), progress(Some(9500), None), Misfire::default(), 600), Step::Wait(10_500));
    assert_eq!(step(&delay(), progress(Some(9500), Some(600)), Misfire::default(), 700), Step::Wait(9501));
}

#[test]
fn late_slots_all_fire_and_misfired_ones_as_the_policy_says() {
    let now = 30_600; // slots up to 30,500 are due; those before 20,600 are misfired
    let late: Vec<i64> = (0..10).map(|n| 21_500 + n * 1000).collect();
    let also = |misfired: &[i64]| [misfired, &late].concat();
    let at = progress(Some(500), Some(501));
    assert_eq!(claimed(&rate(), at, Misfire::Skip, now), late);
    assert_eq!(claimed(&rate(), at, Misfire::FireOnce, now), also(&[20_500]));
    assert_eq!(claimed(&rate(), at, Misfire::FireAll { limit: 3 }, now), also(&[18_500, 19_500, 20_500]));
    let all: Vec<i64> = (1..=30).map(|n| 500 + n * 1000).collect();
    assert_eq!(claimed(&rate(), at, Misfire::FireAll { limit: 1000 }, now), all);
}

#[test]
fn a_slot_as_old_as_the_threshold_is_merely_late() {
    let at = progress(Some(500), Some(501));
    assert_eq!(step(&rate(), at, Misfire::Skip, 11_500), Step::Claim(1500));
    assert_eq!(step(&rate(), at, Misfire::Skip, 11_501), Step::Claim(2500));
}

#[test]
fn skipping_a_fixed_delay_goes_on_by_whole_delays() {
    let at = |now| step(&delay(), progress(Some(500), Some(500)), Misfire::Skip, now);
    assert_eq!(at(11_500), Step::Claim(1500));
    assert_eq!(at(11_501), Step::Claim(2500));
    let long = Schedule::FixedDelay(Duration::from_secs(100));
    let at = |now| step(&long, progress(Some(0), Some(0)), Misfire::Skip, now);
    assert_eq!(at(150_000), Step::Wait(200_000), "not due before the next whole delay, whoever asks when");
    assert_eq!(at(199_000), Step::Wait(200_000));
    assert_eq!(at(201_000), Step::Claim(200_000));
}

#[test]
fn centuries_of_missed_slots_cost_no_time() {
    let fast = Schedule::FixedRate(Duration::from_millis(10));
    let now = 30_000_000_000_000;
    let at = Progress { anchor: 0, last: None, completed: None, fired: 0, before: 0 };
    let step = table(&fast).step(at, Misfire::FireOnce, THRESHOLD, now);
    assert_eq!(step, Step::Claim(now - 10_010));
}

fn millis_of(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

/// The first slots of a cron expression after an instant, as local times with their offset.
fn slots(expression: &str, zone: Tz, after: &str, count: usize) -> Vec<String> {
    let table = with(&Schedule::Cron(expression.to_owned()), |config| config.zone = Some(zone));
    let mut at = Progress { anchor: 0, last: Some(millis_of(after)), completed: None, fired: 0, before: 0 };
    let mut all = Vec::new();
    while all.len() < count {
        let slot = table.next(at).unwrap();
        all.push(DateTime::from_timestamp_millis(slot).unwrap().with_timezone(&zone).to_rfc3339());
        at.last = Some(slot);
    }
    all
}

#[test]
fn a_fixed_time_in_the_gap_fires_right_after_it() {
    let fires = |zone, after, slot: &str| assert_eq!(slots("0 30 2 * * *", zone, after, 1), [slot], "{zone}");
    // 01:00 to 02:00 does not exist on 29 March 2026.
    let london = slots("0 30 1 * * *", Tz::Europe__London, "2026-03-28T12:00:00Z", 2);
    assert_eq!(london, ["2026-03-29T02:00:00+01:00", "2026-03-30T01:30:00+01:00"]);
    // 00:00 to 01:00 does not exist on 24 April 2026.
    let cairo = slots("0 0 0 * * *", Tz::Africa__Cairo, "2026-04-23T12:00:00Z", 2);
    assert_eq!(cairo, ["2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00"]);
    // 02:00 to 02:30 does not exist on 4 October 2026: half an hour.
    let howe = slots("0 15 2 * * *", Tz::Australia__Lord_Howe, "2026-10-03T12:00:00Z", 2);
    assert_eq!(howe, ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]);
    fires(Tz::Australia__Lord_Howe, "2026-10-03T12:00:00Z", "2026-10-04T02:30:00+11:00");
}

#[test]
fn a_fixed_time_that_happens_twice_fires_once_at_the_first() {
    let london = slots("0 30 1 * * *", Tz::Europe__London, "2026-10-24T12:00:00Z", 2);
    assert_eq!(london, ["2026-10-25T01:30:00+01:00", "2026-10-26T01:30:00+00:00"]);
    let cairo = slots("0 30 23 * * *", Tz::Africa__Cairo, "2026-10-28T22:00:00Z", 2);
    assert_eq!(cairo, ["2026-10-29T23:30:00+03:00", "2026-10-30T23:30:00+02:00"]);
    let howe = slots("0 45 1 * * *", Tz::Australia__Lord_Howe, "2026-04-04T00:00:00Z", 2);
    assert_eq!(howe, ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]);
}

#[test]
fn a_step_goes_on_through_gap_and_overlap() {
    let london = slots("0 */30 * * * *", Tz::Europe__London, "2026-03-29T00:20:00Z", 3);
    assert_eq!(
        london,
        ["2026-03-29T00:30:00+00:00", "2026-03-29T02:00:00+01:00", "2026-03-29T02:30:00+01:00"]
    );
    let twice = slots("0 */30 * * * *", Tz::Europe__London, "2026-10-25T00:20:00Z", 4);
    assert_eq!(
        twice,
        [
            "2026-10-25T01:30:00+01:00",
            "2026-10-25T01:00:00+00:00",
            "2026-10-25T01:30:00+00:00",
            "2026-10-25T02:00:00+00:00"
        ]
    );
}

#[test]
fn misfired_cron_slots_are_found_backwards() {
    let daily = Schedule::Cron("0 0 2 * * *".to_owned());
    let now = millis_of("2026-11-24T12:00:00Z");
    let at = Progress {
        anchor: 0,
        last: Some(millis_of("2026-11-01T02:00:00Z")),
        completed: None,
        fired: 0,
        before: 0,
    };
    let latest = millis_of("2026-11-24T02:00:00Z");
    let day = 24 * 3_600_000;
    assert_eq!(step(&daily, at, Misfire::Skip, now), Step::Wait(latest + day));
    assert_eq!(claimed(&daily, at, Misfire::FireOnce, now), [latest]);
    assert_eq!(claimed(&daily, at, Misfire::FireAll { limit: 2 }, now), [latest - day, latest]);
    assert_eq!(claimed(&daily, at, Misfire::FireAll { limit: 1000 }, now).len(), 23);
}

#[test]
fn years_of_missed_seconds_cost_no_time() {
    let each = Schedule::Cron("* * * * * *".to_owned());
    let (last, now) = (millis_of("2006-01-01T00:00:00Z"), millis_of("2026-11-24T12:00:00Z"));
    let at = Progress { anchor: 0, last: Some(last), completed: None, fired: 0, before: 0 };
    assert_eq!(step(&each, at, Misfire::FireOnce, now), Step::Claim(now - 11_000));
    assert_eq!(table(&each).latest(at, now + 999), Some(now));
}

#[test]
fn start_end_and_count_bound_the_slots() {
    let at = |text: &str| Some(DateTime::parse_from_rfc3339(text).unwrap().to_utc());
    let hourly = Schedule::Cron("0 0 * * * *".to_owned());
    let bounded = with(&hourly, |config| {
        config.start = at("2026-11-24T10:30:00Z");
        config.end = at("2026-11-24T12:00:00Z");
    });
    let mut progress = Progress { anchor: 0, last: None, completed: None, fired: 0, before: 0 };
    let mut all = Vec::new();
    while let Some(slot) = bounded.next(progress) {
        all.push(slot);
        progress.last = Some(slot);
    }
    assert_eq!(all, [millis_of("2026-11-24T11:00:00Z"), millis_of("2026-11-24T12:00:00Z")]);
    let late = millis_of("2027-01-01T00:00:00Z");
    let begun = Progress { last: None, ..progress };
    assert_eq!(
        bounded.step(begun, Misfire::FireOnce, THRESHOLD, late),
        Step::Claim(all[1]),
        "the last there was"
    );
    assert_eq!(bounded.step(begun, Misfire::Skip, THRESHOLD, late), Step::Over);
    let rated = with(&rate(), |config| config.end = at("1970-01-01T00:00:02Z"));
    let first = Progress { anchor: 500, ..begun };
    assert_eq!(rated.step(first, Misfire::FireOnce, THRESHOLD, late), Step::Claim(1500));
    let thrice = with(&rate(), |config| config.count = Some(3));
    let fired =
        |fired| thrice.step(Progress { fired, last: Some(500), ..first }, Misfire::Skip, THRESHOLD, 1500);
    assert_eq!((fired(2), fired(3)), (Step::Claim(1500), Step::Over));
}

#[test]
fn once_is_once() {
    let once = Schedule::Once(DateTime::from_timestamp_millis(100_000).unwrap());
    let at = |last| Progress { anchor: 0, last, completed: None, fired: 0, before: 0 };
    assert_eq!(step(&once, at(None), Misfire::FireOnce, 99_999), Step::Wait(100_000));
    assert_eq!(step(&once, at(None), Misfire::Skip, 100_001), Step::Claim(100_000));
    assert_eq!(step(&once, at(None), Misfire::Skip, 200_000), Step::Over, "misfired");
    assert_eq!(step(&once, at(None), Misfire::FireOnce, 200_000), Step::Claim(100_000));
    assert_eq!(step(&once, at(Some(100_000)), Misfire::FireOnce, 200_000), Step::Over);
}

#[test]
fn jitter_puts_each_slot_off_by_the_same_amount_every_time() {
    let jittery = with(&rate(), |config| config.jitter = Duration::from_millis(900));
    let mut offsets = std::collections::BTreeSet::new();
    for n in 0..50 {
        let at = progress(Some(500 + n * 1000), None);
        let slot = 1500 + n * 1000;
        let Step::Wait(due) = jittery.step(at, Misfire::FireOnce, THRESHOLD, slot - 1) else { panic!() };
        assert!((slot..slot + 900).contains(&due));
        assert_eq!(jittery.step(at, Misfire::FireOnce, THRESHOLD, due), Step::Claim(slot));
        offsets.insert(due - slot);
    }
    assert!(offsets.len() > 25, "{offsets:?}");
}

#[test]
fn what_never_fires_or_cannot_be_read_is_refused() {
    let refused = |text: &str| {
        let name = ArtifactName::new("nightly").unwrap();
        let config = TaskConfig::new(name, Schedule::Cron(text.to_owned()));
        config.validate().unwrap_err().to_string()
    };
    assert!(refused("0 0 0 30 2 *").starts_with("artifact \"nightly\": cron \"0 0 0 30 2 *\" never fires"));
    for text in ["", "30 2 * * *", "0 61 * * * *", "0 0 0 1 1 * 2027", "@daily?", "0 0 0 * * MOO"] {
        let error = refused(text);
        assert!(error.contains("cannot be read") && error.contains("02:30 every day"), "{text}: {error}");
    }
}

#[test]
fn each_of_several_fixed_times_fires_once_where_the_clock_changes() {
    let slots = |expression: &str, zone: &str, day: &str| {
        let cron = Cron::parse(expression, zone.parse().unwrap()).unwrap();
        let (mut at, mut slots) = (millis_of(&format!("{day}T00:00:00Z")) - 12 * 3_600_000, Vec::new());
        let end = at + 36 * 3_600_000;
        let mut back = Vec::new();
        let mut until = end;
        while let Some(slot) = cron.next(at, false).filter(|slot| *slot < end) {
            slots.push(DateTime::from_timestamp_millis(slot).unwrap().format("%dT%H:%M").to_string());
            at = slot;
        }
        let begin = end - 36 * 3_600_000;
        while let Some(slot) = cron.previous(until, false).filter(|slot| *slot > begin) {
            back.insert(0, DateTime::from_timestamp_millis(slot).unwrap().format("%dT%H:%M").to_string());
            until = slot;
        }
        assert_eq!(back, slots, "{expression} in {zone}, backwards");
        slots
    };
    // London: the gap is 01:00 to 02:00 of 29 March, and 01:00 to 02:00 of 25 October is there twice.
    assert_eq!(slots("0 30 1,13 * * *", "Europe/London", "2026-03-29"), ["28T13:30", "29T01:00", "29T12:30"]);
    assert_eq!(slots("0 30 1,13 * * *", "Europe/London", "2026-10-25"), ["24T12:30", "25T00:30", "25T13:30"]);
    assert_eq!(slots("0 0,30 1 * * *", "Europe/London", "2026-10-25"), ["25T00:00", "25T00:30"]);
    // Cairo: the gap is 00:00 to 01:00 of 24 April, and 23:00 to 24:00 of 29 October is there twice.
    assert_eq!(slots("0 30 0,12 * * *", "Africa/Cairo", "2026-04-24"), ["23T22:00", "24T09:30", "24T21:30"]);
    assert_eq!(slots("0 30 11,23 * * *", "Africa/Cairo", "2026-10-30"), ["29T20:30", "30T09:30", "30T21:30"]);
    // Lord Howe: the gap is 02:00 to 02:30 of 4 October, and 01:30 to 02:00 of 5 April is there twice.
    assert_eq!(
        slots("0 15 2,14 * * *", "Australia/Lord_Howe", "2026-10-04"),
        ["03T15:30", "04T03:15", "04T15:15"]
    );
    assert_eq!(
        slots("0 45 1-2 * * *", "Australia/Lord_Howe", "2026-04-05"),
        ["04T14:45", "04T16:15", "05T15:15", "05T16:15"]
    );
    // A step is a rhythm: it follows the hours that there are.
    assert_eq!(slots("0 */30 1 * * *", "Europe/London", "2026-10-25").len(), 4);
}
