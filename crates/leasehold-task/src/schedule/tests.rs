use super::*;

const THRESHOLD: Duration = Duration::from_millis(10_000);

fn rate() -> Schedule {
    Schedule::FixedRate(Duration::from_millis(1000))
}

fn delay() -> Schedule {
    Schedule::FixedDelay(Duration::from_millis(1000))
}

fn progress(last: Option<i64>, completed: Option<i64>) -> Progress {
    Progress { anchor: 500, last, completed }
}

fn step(schedule: &Schedule, progress: Progress, misfire: Misfire, now: i64) -> Step {
    schedule.step(progress, misfire, THRESHOLD, now)
}

/// Claims what is due, as if firing took no time, until there is nothing left.
fn claimed(schedule: &Schedule, mut progress: Progress, misfire: Misfire, now: i64) -> Vec<i64> {
    let mut all = Vec::new();
    while let Step::Claim(slot) = step(schedule, progress, misfire, now) {
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
    let with = |misfired: &[i64]| [misfired, &late].concat();
    let at = progress(Some(500), Some(501));
    assert_eq!(claimed(&rate(), at, Misfire::Skip, now), late);
    assert_eq!(claimed(&rate(), at, Misfire::FireOnce, now), with(&[20_500]));
    assert_eq!(claimed(&rate(), at, Misfire::FireAll { limit: 3 }, now), with(&[18_500, 19_500, 20_500]));
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
    let at = Progress { anchor: 0, last: None, completed: None };
    let step = fast.step(at, Misfire::FireOnce, THRESHOLD, now);
    assert_eq!(step, Step::Claim(now - 10_010));
}
