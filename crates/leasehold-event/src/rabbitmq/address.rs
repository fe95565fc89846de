//! Where a broker is, without what must not be shown.

use std::fmt;
use std::time::Duration;

use lapin::uri::{AMQPScheme, AMQPUri};
use leasehold_core::Error;
use leasehold_core::secret::Secret;

use super::config::RabbitMqConfig;

/// A broker and how to log in to it; shown without the password.
#[derive(Clone)]
pub(crate) struct Address {
    uri: AMQPUri,
}

impl Address {
    /// Of an endpoint.
    pub(crate) fn of(config: &RabbitMqConfig) -> Result<Self, Error> {
        let artifact = config.name.as_str();
        let mut address = Self::read(artifact, &config.url)?;
        let login = &mut address.uri.authority.userinfo;
        if let Some(user) = &config.user {
            login.username.clone_from(user);
        }
        if let Some(password) = &config.password {
            login.password = password.reveal(artifact, "password")?;
        }
        Ok(address)
    }

    pub(crate) fn read(artifact: &str, url: &Secret) -> Result<Self, Error> {
        let text = url.reveal(artifact, "url")?;
        if is_bracketed(&text) {
            // The parser would take it for localhost.
            return Err(Error::artifact(
                artifact,
                "url has an IPv6 address for a host, which the client does not understand: give a host name that resolves to it",
            ));
        }
        // What the parser says may repeat the password.
        let uri: AMQPUri = text.parse().map_err(|_| {
            Error::artifact(
                artifact,
                "url is no address of a broker: give amqp://user:password@host:port/vhost or amqps://…, with %2f for the vhost /",
            )
        })?;
        Ok(Self { uri })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    /// For connecting.
    pub(crate) fn uri(&self, heartbeat: Duration, timeout: Duration) -> AMQPUri {
        let mut uri = self.uri.clone();
        uri.query.heartbeat = u16::try_from(heartbeat.as_secs()).ok();
        uri.query.connection_timeout = u64::try_from(timeout.as_millis()).ok();
        uri
    }

    pub(crate) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }
}

/// Whether the host is written in brackets.
fn is_bracketed(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().starts_with('[')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, .. } = &self.uri;
        write!(f, "{scheme}://{}:{}/{}", authority.host, authority.port, vhost.replace('/', "%2f"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
