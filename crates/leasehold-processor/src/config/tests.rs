use super::*;

fn read(text: &str) -> Result<ProcessorConfig, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

const LEAST: &str = "name = 'crm-push'\nstore = { sql = 'outbox' }\n";

fn base() -> ProcessorConfig {
    read(LEAST).unwrap()
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let name = ArtifactName::new("crm-push").unwrap();
    assert_eq!(base(), ProcessorConfig::new(name, StoreConfig::Sql("outbox".to_owned())));
    base().validate().unwrap();
}

#[test]
fn everything_can_be_written_and_is_read_again() {
    let text = format!(
        "{LEAST}order = {{ per-key = 32 }}\nretry = {{ attempts = 3, backoff = '2s', max-backoff = '1m', then = 'park' }}\n\
         acknowledge = 'each'\nbreaker = 'off'\nthrottle = {{ messages = 100, per = '1s', burst = 10 }}\n\
         windows = [{{ opens = '0 0 22 * * *', lasts = '8h', zone = 'Europe/London' }}]\n\
         sampling = {{ messages = 10, every = '1m' }}\nread-ahead = 500\npoll = '1s'\nplacement = {{ resolver = 'round-robin' }}\n"
    );
    let config = read(&text).unwrap();
    config.validate().unwrap();
    assert_eq!((config.order, config.retry.then), (Order::PerKey(32), Exhausted::Park));
    assert_eq!((config.acknowledge, config.breaker), (Acknowledge::Each, Switch::Off(Off::Off)));
    assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
    assert_eq!(read(&toml::to_string(&base()).unwrap()).unwrap(), base());
}

#[test]
#[cfg(feature = "http")]
fn the_page_for_users_can_be_read() {
    let text = "name = \"crm-push\"\nstore = { sql = \"outbox\" }\n\
                forward = { method = \"POST\", url = \"https://crm.example/orders/{header.region}\" }\n\
                order = { per-key = 32 }\nretry = { attempts = 8, then = \"park\" }\n";
    let config = read(text).unwrap();
    config.validate().unwrap();
    assert_eq!(config.forward.unwrap().url, "https://crm.example/orders/{header.region}");
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    for (text, named) in [
        ("ordre = 'ordered'", "ordre"),
        ("order = 'random'", "random"),
        ("retry = { attempt = 1 }", "attempt"),
        ("retry = { then = 'forget' }", "forget"),
        ("throttle = { messages = 1 }", "per"),
        ("poll = 5", "5"),
        ("windows = [{ opens = '0 0 22 * * *', lasts = '8h', zone = 'Europe/Londn' }]", "Europe/Londn"),
    ] {
        let error = read(&format!("{LEAST}{text}\n")).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_the_numbers() {
    for (text, named) in [
        ("order = { per-key = 0 }", "order of 0"),
        ("retry = { attempts = 0 }", "attempts 0"),
        ("retry = { backoff = '10s', max-backoff = '1s' }", "max-backoff 1s"),
        ("read-ahead = 8\norder = { unordered = 16 }", "read-ahead 8"),
        ("poll = '1ms'", "poll 1ms"),
        ("acknowledge = { within = '1h' }", "acknowledge within"),
        ("breaker = { failures = 0 }", "failures 0"),
        ("windows = [{ opens = '0 0 0 30 2 *', lasts = '8h' }]", "never fires"),
    ] {
        let error = read(&format!("{LEAST}{text}\n")).unwrap().validate().unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("crm-push"), "{named}: {error}");
    }
}
