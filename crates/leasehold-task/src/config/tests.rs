use super::*;

fn read(text: &str) -> Result<TaskConfig, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

fn base() -> TaskConfig {
    read("name = 'reminders'\nschedule = { fixed-rate = '1m' }").unwrap()
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let name = ArtifactName::new("reminders").unwrap();
    assert_eq!(base(), TaskConfig::new(name, Schedule::FixedRate(Duration::from_secs(60))));
    base().validate().unwrap();
}

#[test]
fn everything_can_be_written_and_is_read_again() {
    let text = "name = 'reminders'\nschedule = { fixed-delay = '90s' }\nmisfire = { fire-all = { limit = 10 } }\n\
                threshold = '1m'\ninitial-delay = '500ms'\ntimeout = '30s'\nkeep = '1d'\nplacement = { resolver = 'round-robin', min-nodes = 2 }";
    let config = read(text).unwrap();
    assert_eq!(config.schedule, Schedule::FixedDelay(Duration::from_secs(90)));
    assert_eq!(config.misfire, Misfire::FireAll { limit: 10 });
    assert_eq!(config.timeout, Some(Duration::from_secs(30)));
    assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
    assert_eq!(read(&toml::to_string(&base()).unwrap()).unwrap(), base());
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    for (text, named) in [
        ("name = 'a'\nschedule = { fixed-rate = '1m' }\ntreshold = '1s'", "treshold"),
        ("name = 'a'\nschedule = { every = '1m' }", "every"),
        ("name = 'a'\nschedule = { fixed-rate = 60 }", "60"),
        ("name = 'a'\nschedule = { fixed-rate = '1 fortnight' }", "1 fortnight"),
        ("name = 'A b'\nschedule = { fixed-rate = '1m' }", "a-b"),
        ("name = 'a'\nschedule = { fixed-rate = '1m' }\nmisfire = 'twice'", "twice"),
        (
            "name = 'a'\nschedule = { fixed-rate = '1m' }\nmisfire = { fire-all = { limit = 1, most = 2 } }",
            "most",
        ),
        ("name = 'a'\nschedule = { fixed-rate = '1m' }\ninterruption = { rerun = { times = 1 } }", "times"),
        ("schedule = { fixed-rate = '1m' }", "name"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_artifact_field_value_and_remedy() {
    let error = |change: fn(&mut TaskConfig)| {
        let mut config = base();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    assert_eq!(
        error(|c| c.schedule = Schedule::FixedRate(Duration::ZERO)),
        "artifact \"reminders\": fixed-rate 0ns is out of range: give 10ms to 3650 days"
    );
    assert!(error(|c| c.schedule = Schedule::FixedDelay(MAX_DURATION * 2)).contains("3650 days"));
    assert!(error(|c| c.schedule = Schedule::FixedRate(Duration::from_micros(10_500))).contains("give 10ms"));
    assert!(error(|c| c.threshold = Duration::ZERO).contains("threshold 0ns"));
    assert!(error(|c| c.timeout = Some(Duration::ZERO)).contains("timeout 0ns"));
    assert!(error(|c| c.keep = Duration::ZERO).contains("keep 0ns"));
    assert!(error(|c| c.initial_delay = MAX_DURATION * 2).contains("initial-delay"));
    assert!(error(|c| c.misfire = Misfire::FireAll { limit: 0 }).contains("use skip"));
    assert!(error(|c| c.misfire = Misfire::FireAll { limit: 10_001 }).contains("1 to 10000"));
}

#[test]
fn an_unknown_zone_is_refused_with_an_example() {
    let text = "name = \"nightly\"\nschedule = { cron = \"0 30 2 * * *\" }\nzone = \"Europe/Lodnon\"\n";
    let error = toml::from_str::<TaskConfig>(text).unwrap_err().to_string();
    assert!(
        error.contains("zone \"Europe/Lodnon\" is unknown") && error.contains("Europe/London"),
        "{error}"
    );
    let known = toml::from_str::<TaskConfig>(&text.replace("Lodnon", "London")).unwrap();
    assert_eq!(known.zone, Some(chrono_tz::Europe::London));
    let never = TaskConfig { start: Some("2027-01-01T12:00:00Z".parse().unwrap()), ..base() };
    let never = TaskConfig { schedule: Schedule::Once("2027-01-01T10:00:00Z".parse().unwrap()), ..never };
    let never = TaskConfig { initial_delay: Duration::ZERO, zone: None, ..never };
    assert!(never.validate().unwrap_err().to_string().contains("is not between start and end"));
}

#[test]
fn a_fingerprint_tells_configurations_apart() {
    let mut other = base();
    assert_eq!(base().fingerprint(), other.fingerprint());
    other.timeout = Some(Duration::from_secs(1));
    assert_ne!(base().fingerprint(), other.fingerprint());
}
