//! Asks, and reads the answer within its bounds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use leasehold_core::bytes::{Bytes, BytesMut};
use leasehold_core::error::Chain;
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Response, StatusCode, Url};

use super::config::HttpConfig;
use crate::error::Error;

/// Nobody is left alone for longer, whatever it asks for.
const MAX_AFTER: Duration = Duration::from_secs(3600);

/// What was answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing has changed, or there is nothing.
    Nothing,
    Page(Page),
}

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
    /// The target of the link to the next page.
    pub(super) next: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) body: Bytes,
}

pub(super) fn client(config: &HttpConfig) -> Result<Client, String> {
    Client::builder()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.read_timeout)
        .timeout(config.timeout)
        .redirect(reqwest::redirect::Policy::none())
        // How often is asked is up to the schedule.
        .retry(reqwest::retry::never())
        .no_proxy()
        .user_agent(concat!("leasehold/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("the client cannot be made: {error}"))
}

/// `place` is the URL for people, without its query.
pub(super) async fn get(
    client: &Client,
    config: &HttpConfig,
    place: &str,
    url: Url,
    conditions: [(header::HeaderName, Option<&str>); 2],
    now: DateTime<Utc>,
) -> Result<Answer, Error> {
    let headers = config.all_headers().map_err(|problem| Error::refused(place, problem))?;
    let mut request = client.get(url).headers(headers);
    for (name, value) in conditions {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    // Errors of the client name the URL, which may hold a secret.
    let failed = |error: reqwest::Error| Error::unreachable(place, Chain(&error.without_url()).to_string());
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    if matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
        return Ok(Answer::Nothing);
    }
    if !status.is_success() {
        return Err(refusal(place, status, response.headers(), now));
    }
    let body = body(&mut response, config.max_bytes).await.map_err(failed)?;
    let Some(body) = body else {
        let problem = format!(
            "the answer has more than max-bytes {}: raise it, or ask for smaller pages",
            config.max_bytes
        );
        return Err(Error::refused(place, problem));
    };
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (content_type, body) = decoded(config, text(header::CONTENT_TYPE), body);
    let next = response
        .headers()
        .get_all(header::LINK)
        .iter()
        .filter_map(|link| link.to_str().ok())
        .find_map(next_link);
    Ok(Answer::Page(Page {
        etag: text(header::ETAG),
        modified: text(header::LAST_MODIFIED),
        next,
        content_type,
        body,
    }))
}

async fn body(response: &mut Response, most: usize) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > most - body.len() {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

fn refusal(place: &str, status: StatusCode, headers: &HeaderMap, now: DateTime<Utc>) -> Error {
    let again = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if again {
        let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|value| retry_after(value, now));
        return Error::Unreachable {
            place: place.to_owned(),
            problem: format!("it answered {status}"),
            after,
        };
    }
    let remedy = if status.is_redirection() {
        "redirects are not followed: poll the address that it names"
    } else if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        "look at auth, and at what it may see"
    } else {
        "look at url and headers"
    };
    Error::refused(place, format!("it answered {status}; {remedy}"))
}

/// Seconds, or a date.
fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let after = match value.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = DateTime::parse_from_rfc2822(value).ok()?;
            (at.with_timezone(&Utc) - now).to_std().unwrap_or_default()
        }
    };
    Some(after.min(MAX_AFTER))
}

/// The target of `rel="next"` (RFC 8288).
fn next_link(value: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        // Parameters end where the next link begins.
        let end = after.find(", <").or_else(|| after.find(",<")).unwrap_or(after.len());
        let mut parameters =
            after[..end].split(';').map(|parameter| parameter.trim_matches([' ', '\t', ',']));
        let is_next = parameters.any(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel")
                && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target.to_owned());
        }
        rest = &after[end..];
    }
    None
}

/// As UTF-8, if it is known what it is.
fn decoded(config: &HttpConfig, content_type: Option<String>, body: Bytes) -> (Option<String>, Bytes) {
    let (media, told) = match &content_type {
        Some(text) => (text.split(';').next().unwrap_or_default().trim(), charset(text)),
        None => ("", None),
    };
    let label = config.charset.as_deref().or(told.as_deref());
    let Some(encoding) = label.and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes())) else {
        return (content_type, body);
    };
    if encoding == encoding_rs::UTF_8 {
        return (content_type, body);
    }
    let (text, ..) = encoding.decode(&body);
    let named = if media.is_empty() { "text/plain" } else { media };
    let body = Bytes::from(text.into_owned());
    (Some(format!("{named}; charset=utf-8")), body)
}

fn charset(content_type: &str) -> Option<String> {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_target_of_its_relation() {
        let next = |text: &str| next_link(text);
        assert_eq!(
            next(r#"<https://a/?p=1>; rel="prev", <https://a/?p=3,4>; rel="next""#).as_deref(),
            Some("https://a/?p=3,4")
        );
        assert_eq!(next("</b>;REL=next").as_deref(), Some("/b"));
        assert_eq!(next(r#"<c>; title="x"; rel="last next""#).as_deref(), Some("c"));
        assert_eq!(next(r#"<https://a/?p=1>; rel="prev""#), None);
        assert_eq!(next("nonsense <"), None);
    }

    #[test]
    fn it_is_left_alone_for_as_long_as_it_asks_within_bounds() {
        let now = DateTime::from_timestamp(1_000_000_000, 0).unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 09 Sep 2001 01:47:40 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("99999999", now), Some(MAX_AFTER));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn text_becomes_utf_8_where_it_is_known_what_it_is() {
        let mut config = HttpConfig::new("a".try_into().unwrap(), "http://a");
        let latin = Bytes::from_static(b"gr\xfc\xdfe");
        let (kind, text) =
            decoded(&config, Some("text/csv; charset=\"ISO-8859-1\"".to_owned()), latin.clone());
        assert_eq!((kind.as_deref(), &text[..]), (Some("text/csv; charset=utf-8"), "grüße".as_bytes()));
        assert_eq!(decoded(&config, None, latin.clone()).1, latin, "nobody says what it is");
        config.charset = Some("latin1".to_owned());
        assert_eq!(decoded(&config, None, latin).1, "grüße".as_bytes());
    }
}
