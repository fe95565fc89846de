use super::*;

fn message(id: &str, key: Option<&str>, headers: &[(&str, &str)]) -> Message {
    use leasehold_core::bytes::Bytes;
    use leasehold_core::message::{MessageId, Parts};
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let parts = Parts {
        id: MessageId::Text(id.into()),
        key: key.map(bytes),
        headers: headers.iter().map(|(name, value)| ((*name).into(), bytes(value))).collect(),
        content_type: None,
        body: None,
        source: "outbox".into(),
        progress: None,
        native: None,
    };
    Message::new(parts, 1)
}

#[test]
fn a_url_is_filled_and_a_value_cannot_break_out_of_its_place() {
    let template = Template::parse_url("https://crm.example/{header.region}/orders/{id}?key={key}").unwrap();
    let filled =
        |region: &str| template.fill_url(&message("17", Some("a&b"), &[("region", region)])).unwrap();
    assert_eq!(filled("eu"), "https://crm.example/eu/orders/17?key=a%26b");
    assert_eq!(filled("../admin?x#y"), "https://crm.example/..%2Fadmin%3Fx%23y/orders/17?key=a%26b");
    let url = |region: &str| reqwest::Url::parse(&filled(region)).unwrap();
    for dots in [".", ".."] {
        assert!(url(dots).path().ends_with("/orders/17"), "{}", url(dots));
        assert_eq!(url(dots).path_segments().unwrap().count(), 3, "{}", url(dots));
    }
    let error = template.fill_url(&message("17", Some("k"), &[])).unwrap_err();
    assert_eq!(error.to_string(), "the message has no header \"region\", which the template asks for");
    assert_eq!(template.to_string(), "https://crm.example/{header.region}/orders/{id}?key={key}");
}

#[test]
fn what_cannot_work_is_refused_with_the_remedy() {
    let refused = |url: &str| Forward::post(url).unwrap_err().to_string();
    assert!(refused("crm.example/orders").contains("not of http or https"));
    assert!(refused("https://{header.host}/orders").contains("host is not fixed"));
    assert!(refused("https://user:hunter2@crm.example/").contains("secret header"));
    assert!(refused("https://crm.example/{customer}").contains("{customer}"));
    assert!(refused("https://crm.example/{id").contains("brace"));
    assert!(refused("https://").contains("cannot be read"));
    let good = || Forward::post("https://crm.example/").unwrap();
    assert!(Forward::new("PO ST", "https://crm.example/").unwrap_err().to_string().contains("PO ST"));
    assert!(good().header("no name", "x").unwrap_err().to_string().contains("no name"));
    let classes = |success: &[&str]| Classes {
        success: success.iter().map(|s| (*s).to_owned()).collect(),
        ..Classes::default()
    };
    assert!(good().classes(classes(&["2xx"])).unwrap_err().to_string().contains("2xx"));
    assert!(good().classes(classes(&["299-200"])).unwrap_err().to_string().contains("299-200"));
    assert!(
        good().classes(classes(&[])).unwrap_err().to_string().contains("nothing would ever be delivered")
    );
    let second = Duration::from_secs(1);
    assert!(good().timeouts(second * 5, second, second).unwrap_err().to_string().contains("shorter than"));
    let mut config = ForwardConfig::new("https://crm.example/");
    config.ca = Some("/nowhere/ca.pem".into());
    assert!(Forward::from_config(config).unwrap_err().to_string().contains("/nowhere/ca.pem"));
    let secret = good().secret_header("authorization", Secret::env("LEASEHOLD_NO_SUCH_VARIABLE"));
    assert!(secret.unwrap_err().to_string().contains("LEASEHOLD_NO_SUCH_VARIABLE"));
}

#[test]
fn a_secret_is_shown_nowhere() {
    let forward = Forward::post("https://crm.example/").unwrap();
    let forward = forward.secret_header("authorization", Secret::literal("hunter2")).unwrap();
    let shown =
        format!("{forward:?}{:?}{}", forward.ready.secrets, toml::to_string(forward.config()).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn statuses_have_a_class_and_the_first_counts() {
    let ranges = Classes::default().parse().unwrap();
    for (status, class) in [
        (200, Class::Success),
        (204, Class::Success),
        (301, Class::Reject),
        (404, Class::Reject),
        (429, Class::Retry),
        (500, Class::Retry),
        (503, Class::Unavailable),
        (504, Class::Unavailable),
    ] {
        assert_eq!(ranges.of(status), class, "{status}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_by_the_endpoints_own_clock() {
    let answer = |headers: &[(&'static str, &str)]| Answer {
        status: 503,
        headers: headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect(),
        body: leasehold_core::bytes::Bytes::new(),
        is_cut: false,
    };
    let most = Duration::from_secs(100);
    let after = |headers: &[(&'static str, &str)]| answer(headers).retry_after(most);
    assert_eq!(after(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
    assert_eq!(after(&[("retry-after", "86400")]), Some(most));
    let dates = [("date", "Sun, 06 Nov 1994 08:49:00 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")];
    assert_eq!(after(&dates), Some(Duration::from_secs(37)));
    assert_eq!(after(&dates[1..]), None, "nobody's clock to compare with");
    assert_eq!(after(&[("retry-after", "soon")]), None);
}
