//! Connections to RabbitMQ, and what its errors mean.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::tcp::{AsyncTcpStream, OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use leasehold_core::backoff::Backoff;

use super::address::Address;
use super::attempt::Attempt;
use super::config::{RECONNECT_FIRST, RECONNECT_LONGEST};
use crate::error::{Error, ErrorKind};
use crate::tls::{self, Tls};

/// AMQP's code for an orderly end.
const GOODBYE: u16 = 200;

/// A connection. Dropped, it ends without a farewell.
pub(crate) struct Link {
    connection: Connection,
    _socket: Attempt,
}

impl std::ops::Deref for Link {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// How to reach a broker.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Who asks, for messages.
    pub(crate) artifact: String,
    pub(crate) address: Address,
    pub(crate) tls: Option<Tls>,
    pub(crate) heartbeat: Duration,
    pub(crate) timeout: Duration,
}

impl Route {
    /// Connects. `name` is shown on the broker's management page.
    pub(crate) async fn connect(&self, name: &str) -> Result<Link, Error> {
        const OPERATION: &str = "connect";
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let tls = self.tls().map_err(|error| Error::new(ErrorKind::Config, OPERATION, error.to_string()))?;
        let uri = self.address.uri(self.heartbeat, self.timeout);
        let runtime = lapin::runtime::default_runtime().map_err(|error| self.explain(OPERATION, error))?;
        let attempt = Attempt::new();
        let (socket, reactor, patience) = (attempt.socket(), runtime.clone(), self.timeout);
        let open = async move |uri: AMQPUri, _| {
            let opening = async {
                let host = &uri.authority.host;
                let known: Vec<_> =
                    tokio::net::lookup_host((host.as_str(), uri.authority.port)).await?.collect();
                let stream = AsyncTcpStream::connect(&reactor, known).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    socket.opened(plain.get_ref().as_fd())?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => stream.into_tls(host, tls.as_ref()).await,
                }
            };
            let opened = tokio::time::timeout(patience, opening).await;
            Ok(opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
        };
        let connecting = Connection::connector(uri, runtime, open, properties);
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(Ok(connection)) => Ok(Link { connection, _socket: attempt }),
            Ok(Err(error)) => Err(match error.kind() {
                // Some brokers end the connection without a word instead.
                lapin::ErrorKind::ProtocolError(_) => Error::new(
                    ErrorKind::Refused,
                    OPERATION,
                    format!(
                        "{} refuses user {:?} or its virtual host: check user, password and vhost",
                        self.address,
                        self.address.user()
                    ),
                )
                .caused_by(error),
                _ => self.explain(OPERATION, error),
            }),
            Err(_) => Err(self.late(OPERATION)),
        }
    }

    fn tls(&self) -> Result<OwnedTLSConfig, leasehold_core::Error> {
        let Some(tls) = self.tls.as_ref().filter(|_| self.address.is_tls()) else {
            return Ok(OwnedTLSConfig::default());
        };
        let read = |field, file: &std::path::Path| tls::read(&self.artifact, field, file);
        let cert_chain = match &tls.ca {
            Some(ca) => Some(String::from_utf8_lossy(&read("ca", ca)?).into_owned()),
            None => None,
        };
        let identity = match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => {
                Some(OwnedIdentity::PKCS8 { pem: read("certificate", certificate)?, key: read("key", key)? })
            }
            _ => None,
        };
        Ok(OwnedTLSConfig { identity, cert_chain })
    }

    /// Waits for an answer of the broker, and not for ever.
    pub(crate) async fn ask<T>(
        &self,
        operation: &'static str,
        asking: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, asking).await {
            Ok(answer) => answer.map_err(|error| self.explain(operation, error)),
            Err(_) => Err(self.late(operation)),
        }
    }

    fn late(&self, operation: &'static str) -> Error {
        Error::new(
            ErrorKind::Timeout,
            operation,
            format!(
                "{} did not answer within {:?}: is it RabbitMQ, and not overloaded?",
                self.address, self.timeout
            ),
        )
    }

    /// What an error of the client means for a person.
    pub(crate) fn explain(&self, operation: &'static str, error: lapin::Error) -> Error {
        let (kind, remedy) = match error.kind() {
            lapin::ErrorKind::ProtocolError(said) => match said.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
                    (ErrorKind::Missing, "make it, or set declare to active")
                }
                AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
                    (ErrorKind::Mismatch, "declare it as it is, or delete it first")
                }
                AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => {
                    (ErrorKind::InUse, "end the other consumer")
                }
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
                    if said.get_message().as_str().contains("exclusive use") =>
                {
                    (ErrorKind::InUse, "end the other consumer, or give it another queue")
                }
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                    (ErrorKind::Refused, "give the user that right on the virtual host")
                }
                _ => (ErrorKind::Unreachable, "it is tried again"),
            },
            _ => (ErrorKind::Unreachable, "it is tried again"),
        };
        Error::new(kind, operation, format!("{}: {error}; {remedy}", self.address)).caused_by(error)
    }

    /// The pauses between attempts to connect.
    pub(crate) fn backoff() -> Backoff {
        Backoff::new(RECONNECT_FIRST, RECONNECT_LONGEST, Backoff::seed())
    }
}

/// Says goodbye; a broker that does not answer is left as it is.
pub(crate) async fn close(connection: &Connection, patience: Duration) {
    let closing = connection.close(GOODBYE, "done".into());
    // Whatever came of it, the connection is of no use any more.
    let _ = tokio::time::timeout(patience, closing).await;
}

#[cfg(test)]
mod tests {
    use leasehold_core::secret::Secret;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Threads of the client.
    fn threads() -> usize {
        let name = |task: io::Result<std::fs::DirEntry>| std::fs::read_to_string(task?.path().join("comm"));
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter(|task| task.as_ref().is_ok())
            .filter_map(|task| name(task).ok())
            .filter(|name| name.starts_with("lapin"))
            .count()
    }

    /// Both tests count the process's threads.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    fn route(url: String) -> Route {
        Route {
            artifact: "orders-in".to_owned(),
            address: Address::read("orders-in", &Secret::literal(url)).unwrap(),
            tls: None,
            heartbeat: Duration::from_secs(60),
            timeout: Duration::from_millis(50),
        }
    }

    async fn until_no_thread_is_left() {
        // They tell nobody that they end.
        let ended = async {
            while threads() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("all threads ended");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_accepts_and_says_nothing_costs_neither_thread_nor_socket() {
        let _alone = ALONE.lock().await;
        for scheme in ["amqp", "amqps"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let route = route(format!("{scheme}://{}/%2f", listener.local_addr().unwrap()));
            for _ in 0..5 {
                let error = route.connect("test").await.map(drop).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                let (mut stream, _) = listener.accept().await.unwrap();
                // Until its end.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
        until_no_thread_is_left().await;
    }

    #[cfg(feature = "test-rabbitmq")]
    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_falls_silent_later_costs_none_either() {
        use leasehold_testkit::proxy::{Fault, FaultProxy};
        let _alone = ALONE.lock().await;
        let url =
            std::env::var("LEASEHOLD_TEST_RABBITMQ").expect("LEASEHOLD_TEST_RABBITMQ: see CONTRIBUTING.md");
        let place = url.rsplit('@').next().unwrap().split('/').next().unwrap();
        let proxy = FaultProxy::start(place.parse().unwrap()).await.unwrap();
        let mut route = route(url.replace(place, &proxy.address().to_string()));
        route.timeout = Duration::from_secs(10);
        for farewell in [false, true] {
            let link = route.connect("test").await.unwrap();
            proxy.set(Fault::BlackHole);
            if farewell {
                close(&link, Duration::from_millis(50)).await;
            }
            drop(link);
            until_no_thread_is_left().await;
            proxy.set(Fault::None);
        }
    }
}
