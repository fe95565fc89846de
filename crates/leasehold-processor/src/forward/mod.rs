//! Forwarding to an HTTP endpoint.

mod answer;
mod client;
mod config;
mod template;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::handler::{Handler, HandlerError};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::secret::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

pub use answer::{Answer, Class, Classes};
pub use config::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_MAX_ANSWER, DEFAULT_MAX_RETRY_AFTER, DEFAULT_READ_TIMEOUT,
    DEFAULT_TIMEOUT, ForwardConfig,
};
pub use template::TemplateError;

use answer::Outcome;
use template::Template;

/// The header with the message's id, the same at every delivery, unless another name is given.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header with the fencing token of the lease, unless another name is given.
pub const FENCING_TOKEN: &str = "leasehold-token";
/// The header with the number of the attempt, from 1.
pub const ATTEMPT: &str = "leasehold-attempt";
/// So much of an answer goes into the reason of a failure, in characters.
const SHOWN: usize = 2000;

/// Why there can be no forwarding: the field, its value and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("forward {0}")]
pub struct ForwardError(String);

type OnReply = Arc<dyn Fn(Message, Answer, Lease) -> Replied + Send + Sync>;
type Replied = std::pin::Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

/// Sends each message to an HTTP endpoint: a handler.
///
/// The body is the message's; its content type goes along. Besides the headers that are configured it sends the message's
/// id as `Idempotency-Key` and the token of the lease as `Leasehold-Token`, by which the endpoint can tell a repetition and
/// an outdated sender. Redirects are not followed. What an answer means is up to its status: see [`Classes`].
#[derive(Clone)]
pub struct Forward {
    config: ForwardConfig,
    ready: Arc<Ready>,
    on_reply: Option<OnReply>,
}

/// What follows from a configuration.
struct Ready {
    client: reqwest::Client,
    method: reqwest::Method,
    url: Template,
    /// The same, if no message has a say in it.
    fixed_url: Option<reqwest::Url>,
    /// Those for the message's id, the token and the attempt.
    own: [Option<HeaderName>; 3],
    headers: Vec<(HeaderName, Template)>,
    secrets: HeaderMap,
    classes: answer::Ranges,
}

impl Forward {
    /// Posts to this URL, in which `{id}`, `{key}` and `{header.NAME}` stand for what a message has, percent-encoded.
    ///
    /// # Errors
    /// [`ForwardError`] for a URL that cannot be read, or is not of HTTP.
    pub fn post(url: impl Into<String>) -> Result<Self, ForwardError> {
        Self::from_config(ForwardConfig::new(url))
    }

    /// The same with another method.
    ///
    /// # Errors
    /// [`ForwardError`] for a method or a URL that cannot be.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Result<Self, ForwardError> {
        Self::from_config(ForwardConfig { method: method.into(), ..ForwardConfig::new(url) })
    }

    /// As it was read from a file.
    ///
    /// # Errors
    /// [`ForwardError`] naming the field, its value and the remedy; files of certificates are read here.
    pub fn from_config(config: ForwardConfig) -> Result<Self, ForwardError> {
        let ready = Ready::new(&config).map_err(ForwardError)?;
        Ok(Self { config, ready: Arc::new(ready), on_reply: None })
    }

    /// The same as it is written in a file.
    pub fn config(&self) -> &ForwardConfig {
        &self.config
    }

    /// One more header, in whose value `{id}`, `{key}` and `{header.NAME}` stand for what a message has.
    ///
    /// # Errors
    /// [`ForwardError`] for a name or a template that cannot be.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Result<Self, ForwardError> {
        let mut config = self.config;
        config.headers.insert(name.into(), value.into());
        Ok(Self { on_reply: self.on_reply, ..Self::from_config(config)? })
    }

    /// One more header, whose value is shown nowhere: `authorization`, for example.
    ///
    /// # Errors
    /// [`ForwardError`] for a name that cannot be, and a secret that is not there.
    pub fn secret_header(self, name: impl Into<String>, value: Secret) -> Result<Self, ForwardError> {
        let mut config = self.config;
        config.secret_headers.insert(name.into(), value);
        Ok(Self { on_reply: self.on_reply, ..Self::from_config(config)? })
    }

    /// The longest time for a connection, between two parts of an answer, and for all of it; 5 s, 30 s and 60 s unless set.
    ///
    /// # Errors
    /// [`ForwardError`] for times that do not fit.
    pub fn timeouts(self, connect: Duration, read: Duration, total: Duration) -> Result<Self, ForwardError> {
        let config =
            ForwardConfig { connect_timeout: connect, read_timeout: read, timeout: total, ..self.config };
        Ok(Self { on_reply: self.on_reply, ..Self::from_config(config)? })
    }

    /// What answers mean.
    ///
    /// # Errors
    /// [`ForwardError`] for statuses that cannot be.
    pub fn classes(self, classes: Classes) -> Result<Self, ForwardError> {
        let config = ForwardConfig { classes, ..self.config };
        Ok(Self { on_reply: self.on_reply, ..Self::from_config(config)? })
    }

    /// Gets each answer of success, before the message is acknowledged. If it fails, the message is not delivered: it is
    /// sent again as the policy says.
    #[must_use]
    pub fn on_reply<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Message, Answer, Lease) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.on_reply =
            Some(Arc::new(move |message, answer, lease| Box::pin(handler(message, answer, lease))));
        self
    }

    /// What is sent, or why this message cannot be.
    fn request(&self, message: &Message, lease: &Lease) -> Result<reqwest::Request, HandlerError> {
        let reject = |error: String| HandlerError::reject(error);
        let Ready { method, url, fixed_url, own, headers, secrets, .. } = &*self.ready;
        let url = match fixed_url {
            Some(url) => url.clone(),
            None => {
                let url = url.fill_url(message).map_err(|error| reject(error.to_string()))?;
                reqwest::Url::parse(&url)
                    .map_err(|error| reject(format!("the URL of this message cannot be read: {error}")))?
            }
        };
        let mut all = secrets.clone();
        for (name, template) in headers {
            let value = template.fill(message).map_err(|error| reject(error.to_string()))?;
            all.insert(name.clone(), header_value(name.as_str(), &value).map_err(reject)?);
        }
        let [id, token, attempt] = own;
        if let Some(id) = id {
            all.insert(id, header_value("id", &message.id()).map_err(reject)?);
        }
        let numbers = [(token, lease.token().0), (attempt, i64::from(message.attempt()))];
        // Instead of one of the same name: a message must not choose the token.
        for (name, number) in numbers {
            if let Some(name) = name {
                all.insert(name, number.into());
            }
        }
        if let Some(media_type) = message.content_type() {
            all.entry(reqwest::header::CONTENT_TYPE)
                .or_insert(header_value("content type", media_type).map_err(reject)?);
        }
        let mut request = reqwest::Request::new(method.clone(), url);
        *request.headers_mut() = all;
        *request.body_mut() = Some(message.body().cloned().unwrap_or_default().into());
        Ok(request)
    }
}

/// Without the value in the error, which may be anybody's secret.
fn header_value(what: &str, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| {
        format!("the {what} of this message cannot be in a header of HTTP: it has control characters")
    })
}

#[async_trait]
impl Handler for Forward {
    async fn handle(&self, message: Message, lease: Lease) -> Result<(), HandlerError> {
        let request = self.request(&message, &lease)?;
        // Right before the effect.
        lease.check()?;
        let outcome = client::send(&self.ready.client, request, self.config.max_answer).await;
        let to = || format!("{} {}", self.ready.method, self.ready.url);
        match outcome {
            Outcome::Unreachable(error) => {
                Err(HandlerError::unavailable(Duration::ZERO, format!("{} was not reached: {error}", to())))
            }
            Outcome::Broken(error) => Err(HandlerError::retry(format!("{} gave no answer: {error}", to()))),
            Outcome::Answered(answer) => match self.ready.classes.of(answer.status) {
                Class::Success => match &self.on_reply {
                    Some(told) => {
                        lease.check()?;
                        told(message, answer, lease).await
                    }
                    None => Ok(()),
                },
                class => Err(self.failed(&to(), class, &answer)),
            },
        }
    }
}

impl Forward {
    fn failed(&self, to: &str, class: Class, answer: &Answer) -> HandlerError {
        let shown: String = answer.text().chars().take(SHOWN).collect();
        // What follows the first line is kept as the answer.
        let line = if shown.trim().is_empty() { String::new() } else { format!("\n{shown}") };
        let error = format!("{to} answered {}{line}", answer.status);
        match (class, answer.retry_after(self.config.max_retry_after)) {
            (Class::Unavailable, after) => HandlerError::unavailable(after.unwrap_or_default(), error),
            (Class::Retry, Some(after)) => HandlerError::retry_after(after, error),
            (Class::Retry, None) => HandlerError::retry(error),
            _ => HandlerError::reject(error),
        }
    }
}

impl Ready {
    fn new(config: &ForwardConfig) -> Result<Self, String> {
        config.problem()?;
        let headers = config.headers.iter().map(|(name, value)| {
            let header = HeaderName::try_from(name.as_str())
                .map_err(|_| format!("header {name:?} is no name of a header of HTTP"))?;
            Ok((header, Template::parse(value).map_err(|error| format!("header {name:?}: {error}"))?))
        });
        let mut secrets = HeaderMap::new();
        for (name, secret) in &config.secret_headers {
            let header = HeaderName::try_from(name.as_str())
                .map_err(|_| format!("secret header {name:?} is no name of a header of HTTP"))?;
            let text = secret.text().map_err(|problem| format!("secret header {name:?}: {problem}"))?;
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                format!("secret header {name:?} has control characters: HTTP has none in a header")
            })?;
            value.set_sensitive(true);
            secrets.insert(header, value);
        }
        let url =
            Template::parse_url(&config.url).map_err(|error| format!("url {:?}: {error}", config.url))?;
        let fixed_url = url.fixed().map(reqwest::Url::parse).transpose();
        // Which are names is checked with the configuration.
        let own = [config.idempotency_header.as_deref(), config.token_header.as_deref(), Some(ATTEMPT)];
        let own = own.map(|name| name.and_then(|name| HeaderName::try_from(name).ok()));
        Ok(Self {
            client: client::new(config)?,
            method: reqwest::Method::from_bytes(config.method.as_bytes()).map_err(|_| {
                format!("method {:?} is none of HTTP's: give POST, PUT or another", config.method)
            })?,
            fixed_url: fixed_url.map_err(|error| format!("url {:?}: {error}", config.url))?,
            url,
            own,
            headers: headers.collect::<Result<_, String>>()?,
            secrets,
            classes: config.classes.parse()?,
        })
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
