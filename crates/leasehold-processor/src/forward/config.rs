//! Forwarding as it is written in a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use leasehold_core::duration;
use leasehold_core::secret::Secret;
use serde::{Deserialize, Serialize};

use super::answer::Classes;

/// Unless set: a server that is there accepts within a round trip or two.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Unless set: what says nothing for so long does not work.
pub const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Unless set: an answer that trickles in is given up.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longer timeouts are a mistake in the unit.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Of an answer so much is read unless set: an error message, not a download.
pub const DEFAULT_MAX_ANSWER: usize = 64 * 1024;
/// The longest `Retry-After` that is honoured unless set.
pub const DEFAULT_MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Forwarding as it is written in a file; the twin of [`Forward`](crate::Forward).
///
/// ```toml
/// method = "POST"
/// url = "https://crm.example/orders/{header.region}"    # {id}, {key} and {header.NAME}, percent-encoded
/// headers = { x-customer = "{key}" }
/// secret-headers = { authorization = { env = "CRM_TOKEN" } }
/// idempotency-header = "idempotency-key"
/// token-header = "leasehold-token"
/// connect-timeout = "5s"
/// read-timeout = "30s"
/// timeout = "60s"
/// classes = { success = ["200-299"], unavailable = ["502-504"], retry = ["408", "425", "429", "500-599"] }
/// max-answer = 65536
/// max-retry-after = "5m"
/// # proxy = "http://proxy.example:3128"                 # a secret: it may hold a password
/// # ca = "/etc/ssl/crm-ca.pem"                          # only these authorities; the system's unless set
/// # identity = "/run/secrets/crm-client.pem"            # certificate and key
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ForwardConfig {
    /// The method; POST unless set.
    #[serde(default = "method")]
    pub method: String,
    /// Where to.
    pub url: String,
    /// Headers, whose values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are shown nowhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, Secret>,
    /// The header that gets the message's id.
    #[serde(default = "idempotency_header", skip_serializing_if = "Option::is_none")]
    pub idempotency_header: Option<String>,
    /// The header that gets the fencing token.
    #[serde(default = "token_header", skip_serializing_if = "Option::is_none")]
    pub token_header: Option<String>,
    /// The longest time until a connection is made.
    #[serde(default = "connect_timeout", with = "duration::serde")]
    pub connect_timeout: Duration,
    /// The longest time between two parts of an answer.
    #[serde(default = "read_timeout", with = "duration::serde")]
    pub read_timeout: Duration,
    /// The longest time for all of it.
    #[serde(default = "timeout", with = "duration::serde")]
    pub timeout: Duration,
    /// What answers mean.
    #[serde(default)]
    pub classes: Classes,
    /// How much of an answer is read, in bytes.
    #[serde(default = "max_answer")]
    pub max_answer: usize,
    /// The longest `Retry-After` that is honoured.
    #[serde(default = "max_retry_after", with = "duration::serde")]
    pub max_retry_after: Duration,
    /// The proxy; none unless set, whatever the environment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret>,
    /// The authorities that are trusted, in PEM; those of the system unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The client's certificate and key, in PEM, in one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
}

fn method() -> String {
    "POST".to_owned()
}

#[allow(clippy::unnecessary_wraps, reason = "serde's signature")]
fn idempotency_header() -> Option<String> {
    Some(super::IDEMPOTENCY_KEY.to_owned())
}

#[allow(clippy::unnecessary_wraps, reason = "serde's signature")]
fn token_header() -> Option<String> {
    Some(super::FENCING_TOKEN.to_owned())
}

fn connect_timeout() -> Duration {
    DEFAULT_CONNECT_TIMEOUT
}

fn read_timeout() -> Duration {
    DEFAULT_READ_TIMEOUT
}

fn timeout() -> Duration {
    DEFAULT_TIMEOUT
}

fn max_answer() -> usize {
    DEFAULT_MAX_ANSWER
}

fn max_retry_after() -> Duration {
    DEFAULT_MAX_RETRY_AFTER
}

impl ForwardConfig {
    /// With the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            method: method(),
            url: url.into(),
            headers: BTreeMap::new(),
            secret_headers: BTreeMap::new(),
            idempotency_header: idempotency_header(),
            token_header: token_header(),
            connect_timeout: connect_timeout(),
            read_timeout: read_timeout(),
            timeout: timeout(),
            classes: Classes::default(),
            max_answer: max_answer(),
            max_retry_after: max_retry_after(),
            proxy: None,
            ca: None,
            identity: None,
        }
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Result<(), String> {
        super::template::Template::parse_url(&self.url)
            .map_err(|problem| format!("url {:?}: {problem}", self.url))?;
        self.classes.parse()?;
        for (name, time) in [
            ("connect-timeout", self.connect_timeout),
            ("read-timeout", self.read_timeout),
            ("timeout", self.timeout),
        ] {
            if time.is_zero() || time > MAX_TIMEOUT {
                return Err(format!(
                    "{name} {time:?} is out of range: give more than nothing, and at most {MAX_TIMEOUT:?}"
                ));
            }
        }
        if self.timeout < self.connect_timeout {
            return Err(format!(
                "timeout {:?} is shorter than connect-timeout {:?}: raise it, or lower the other",
                self.timeout, self.connect_timeout
            ));
        }
        let own = [&self.idempotency_header, &self.token_header];
        for name in own.into_iter().flatten() {
            reqwest::header::HeaderName::try_from(name.as_str())
                .map_err(|_| format!("header {name:?} is no name of a header of HTTP"))?;
        }
        Ok(())
    }
}
