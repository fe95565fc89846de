//! An HTTP endpoint as it is written in a file.

use std::collections::BTreeMap;
use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::duration;
use leasehold_core::name::ArtifactName;
use leasehold_core::protocol::placement::Placement;
use leasehold_core::secret::Secret;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::config::Polling;

/// The largest answer unless set.
pub const DEFAULT_MAX_BYTES: usize = 16 * 1024 * 1024;
/// A server that is there takes a connection within this.
const CONNECT: Duration = Duration::from_secs(10);
/// One that works sends something within this.
const READ: Duration = Duration::from_secs(30);
/// And is done within this.
const TOTAL: Duration = Duration::from_secs(60);
/// Longer ones are a mistake in the unit.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
const MAX_BYTES: usize = 1024 * 1024 * 1024;

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Auth {
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A header of another name.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret,
    },
}

/// How an answer tells where the next items are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Pages {
    /// There is one page.
    #[default]
    One,
    /// The header `Link` with `rel="next"`. After the last page the next poll begins with the first.
    Link,
    /// A value of the answer is sent back as a parameter of the query. It is kept, so that the next poll goes on there, too.
    Cursor {
        /// The parameter.
        parameter: String,
        /// Where the value is in the answer: a JSON pointer. Missing, null or unchanged: there is no more at present.
        pointer: String,
    },
}

/// An HTTP endpoint as it is written in a file; the twin of [`Http`](super::Http).
///
/// ```toml
/// name = "orders-feed"
/// url = "https://shop.example/orders?status=new"
/// auth = { bearer = { env = "SHOP_TOKEN" } }      # or { basic = { user = "..", password = .. } }, { header = { name = "..", value = .. } }
/// headers = { accept = "application/json" }
/// items = "/orders"                               # a JSON pointer to an array; unless set the body is one message
/// id = "/id"                                      # within an item
/// key = "/customer"
/// pages = "link"                                  # or "one", { cursor = { parameter = "after", pointer = "/next" } }
/// max-bytes = 16777216
/// # charset = "iso-8859-1"                        # of servers that do not tell, or lie
/// connect-timeout = "10s"
/// read-timeout = "30s"
/// timeout = "60s"
/// polling = { schedule = { every = "30s" } }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct HttpConfig {
    /// The artifact's name, unique in the cluster.
    pub name: ArtifactName,
    /// What is polled.
    pub url: String,
    /// How to log in; not unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Sent along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Where the array of items is: a JSON pointer, `""` for the whole. Unless set the body is one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
    /// Where an item has its id. Unless set an item is known by its page and its place there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where an item has what its order goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where the next items are.
    #[serde(default)]
    pub pages: Pages,
    /// The largest answer; [`DEFAULT_MAX_BYTES`] unless set.
    #[serde(default = "max_bytes")]
    pub max_bytes: usize,
    /// How the body's text is encoded, whatever the answer says. Unless set: as it says, JSON otherwise UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// For a connection; 10 s unless set.
    #[serde(default = "connect", with = "duration::serde")]
    pub connect_timeout: Duration,
    /// Between two parts of an answer; 30 s unless set.
    #[serde(default = "read", with = "duration::serde")]
    pub read_timeout: Duration,
    /// For all; 60 s unless set.
    #[serde(default = "total", with = "duration::serde")]
    pub timeout: Duration,
    /// How it polls, and brings what it finds to its handler.
    #[serde(default)]
    pub polling: Polling,
    /// How it is placed; as the node's other artifacts unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

fn max_bytes() -> usize {
    DEFAULT_MAX_BYTES
}

fn connect() -> Duration {
    CONNECT
}

fn read() -> Duration {
    READ
}

fn total() -> Duration {
    TOTAL
}

impl HttpConfig {
    /// An endpoint with the defaults.
    pub fn new(name: ArtifactName, url: impl Into<String>) -> Self {
        Self {
            name,
            url: url.into(),
            auth: None,
            headers: BTreeMap::new(),
            items: None,
            id: None,
            key: None,
            pages: Pages::default(),
            max_bytes: max_bytes(),
            charset: None,
            connect_timeout: connect(),
            read_timeout: read(),
            timeout: total(),
            polling: Polling::default(),
            placement: None,
        }
    }

    /// Checks that the values can work. Connects to nothing and reads no secret.
    ///
    /// # Errors
    /// [`Error::Artifact`] naming the endpoint, the field, its value and the remedy.
    pub fn validate(&self) -> Result<(), Error> {
        self.problem().map_err(|problem| Error::artifact(self.name.as_str(), problem))
    }

    pub(crate) fn problem(&self) -> Result<(), String> {
        self.parsed_url()?;
        self.static_headers()?;
        let pointers = [("items", &self.items), ("id", &self.id), ("key", &self.key)];
        for (field, pointer) in pointers {
            if let Some(pointer) = pointer {
                is_pointer(field, pointer)?;
            }
        }
        if self.items.is_none() && (self.id.is_some() || self.key.is_some()) {
            return Err(
                "id and key are within an item, and items is not given: say where the array is".to_owned()
            );
        }
        if let Pages::Cursor { parameter, pointer } = &self.pages {
            is_pointer("pages cursor pointer", pointer)?;
            if parameter.is_empty() {
                return Err(
                    "pages cursor parameter is empty: give the name of the query's parameter".to_owned()
                );
            }
        }
        if let Some(charset) = &self.charset
            && encoding_rs::Encoding::for_label(charset.as_bytes()).is_none()
        {
            return Err(format!(
                "charset {charset:?} is not known: give for example \"iso-8859-1\" or \"utf-8\""
            ));
        }
        if !(1..=MAX_BYTES).contains(&self.max_bytes) {
            return Err(format!("max-bytes {} is out of range: give 1 to {MAX_BYTES}", self.max_bytes));
        }
        let timeouts = [
            ("connect-timeout", self.connect_timeout),
            ("read-timeout", self.read_timeout),
            ("timeout", self.timeout),
        ];
        for (field, value) in timeouts {
            if value.is_zero() || value > MAX_TIMEOUT {
                return Err(format!(
                    "{field} {value:?} is out of range: give more than nothing, and at most {MAX_TIMEOUT:?}"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn parsed_url(&self) -> Result<Url, String> {
        // The URL is not shown: it may hold a password.
        let example = "give for example https://shop.example/orders";
        let url =
            Url::parse(&self.url).map_err(|error| format!("url cannot be read ({error}): {example}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(format!("url is not one of http or https: {example}"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("url has a user or a password: give them by auth".to_owned());
        }
        Ok(url)
    }

    fn static_headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let known = HeaderName::from_bytes(name.as_bytes());
            let known = known.map_err(|_| format!("headers: {name:?} is no name of a header"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("headers: the value of {name:?} is none"))?;
            headers.insert(known, value);
        }
        Ok(headers)
    }

    /// With the secret, read anew.
    pub(crate) fn all_headers(&self) -> Result<HeaderMap, String> {
        let mut headers = self.static_headers()?;
        let (name, value) = match &self.auth {
            None => return Ok(headers),
            Some(Auth::Bearer(secret)) => {
                (reqwest::header::AUTHORIZATION, format!("Bearer {}", secret.text()?))
            }
            Some(Auth::Basic { user, password }) => (
                reqwest::header::AUTHORIZATION,
                format!("Basic {}", base64(format!("{user}:{}", password.text()?).as_bytes())),
            ),
            Some(Auth::Header { name, value }) => {
                let known = HeaderName::from_bytes(name.as_bytes());
                (known.map_err(|_| format!("auth header {name:?} is no name of a header"))?, value.text()?)
            }
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| "auth: the secret is no value of a header".to_owned())?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(headers)
    }
}

fn is_pointer(field: &str, pointer: &str) -> Result<(), String> {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err(format!("{field} {pointer:?} is no JSON pointer: begin it with \"/\", for example \"/orders\""))
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl Fn(&mut HttpConfig)) -> String {
        let mut config = HttpConfig::new("feed".try_into().unwrap(), "https://shop.example/orders");
        config.validate().unwrap();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_remedy_and_shows_no_secret() {
        assert!(problem(|c| c.url = "shop.example".to_owned()).contains("url"));
        let shown = problem(|c| c.url = "https://ada:hunter2@shop.example/".to_owned());
        assert!(shown.contains("by auth") && !shown.contains("hunter2"), "{shown}");
        assert!(problem(|c| c.items = Some("orders".to_owned())).contains("begin it with \"/\""));
        assert!(problem(|c| c.id = Some("/id".to_owned())).contains("say where the array is"));
        assert!(problem(|c| c.charset = Some("klingon".to_owned())).contains("not known"));
        assert!(problem(|c| c.timeout = Duration::ZERO).contains("timeout"));
        assert!(problem(|c| c.headers = [("a b".to_owned(), String::new())].into()).contains("\"a b\""));
    }

    #[test]
    fn it_is_read_from_a_file() {
        let read: HttpConfig = toml::from_str(
            r#"
            name = "orders-feed"
            url = "https://shop.example/orders"
            auth = { basic = { user = "ada", password = { env = "SHOP_PASSWORD" } } }
            items = ""
            pages = { cursor = { parameter = "after", pointer = "/next" } }
            "#,
        )
        .unwrap();
        read.validate().unwrap();
        assert_eq!(toml::from_str::<HttpConfig>(&toml::to_string(&read).unwrap()).unwrap(), read);
        assert!(toml::from_str::<HttpConfig>("name = \"a\"\nurl = \"http://a\"\nmethod = \"POST\"").is_err());
    }

    #[test]
    fn a_secret_becomes_a_header_and_is_not_shown() {
        let mut config = HttpConfig::new("feed".try_into().unwrap(), "https://shop.example/");
        config.auth = Some(Auth::Basic { user: "Aladdin".to_owned(), password: "open sesame".into() });
        let headers = config.all_headers().unwrap();
        // The example of RFC 7617.
        assert_eq!(headers["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{headers:?} {config:?}").contains("sesame"));
        assert_eq!([base64(b""), base64(b"f"), base64(b"fo"), base64(b"foo")], ["", "Zg==", "Zm8=", "Zm9v"]);
    }
}
