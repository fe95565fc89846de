//! The settings of librdkafka, and what its errors mean.

use std::collections::BTreeMap;
use std::time::Duration;

use leasehold_core::Error as CoreError;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::config::{KafkaConfig, Mechanism, Protocol, Sasl};
use crate::error::{Error, ErrorKind};
use crate::tls::Tls;

/// What leasehold depends on.
const OWNED: [&str; 14] = [
    "bootstrap.servers",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "partition.assignment.strategy",
    "enable.auto.commit",
    "auto.commit.interval.ms",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "session.timeout.ms",
    "sasl.password",
    "allow.auto.create.topics",
];
/// What is fetched ahead at most, in KiB: memory that a slow handler cannot fill up further.
const AHEAD: u32 = 16 * 1024;
/// How long the client waits, in milliseconds, before it fetches again when that is full. Its default of a second would make
/// a consumer that is a little slower than the broker wait for it after each such portion.
const FULL: u32 = 10;
/// Topics that a consumer does not see.
const HIDDEN: &str = "topic.blacklist";
/// The pauses before connecting again, between which librdkafka doubles, with jitter.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A topic that was missing, or has more partitions, is noticed within this.
const METADATA: Duration = Duration::from_secs(10);

pub(super) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// How a client reaches its brokers.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) artifact: String,
    pub(super) brokers: String,
    pub(super) timeout: Duration,
    pub(super) sasl: Option<Sasl>,
    pub(super) tls: Option<Tls>,
    /// Further settings of librdkafka.
    pub(super) properties: BTreeMap<String, String>,
}

impl Access {
    /// What all clients have in common.
    pub(super) fn settings(&self) -> Result<ClientConfig, CoreError> {
        let mut settings = ClientConfig::new();
        // Ours come after them, but for those that a default stands for.
        settings
            .set("topic.metadata.refresh.interval.ms", millis(METADATA))
            .set("socket.timeout.ms", millis(self.timeout.max(Duration::from_secs(1))))
            .set("socket.connection.setup.timeout.ms", millis(self.timeout.max(Duration::from_secs(1))))
            .set("reconnect.backoff.ms", millis(RECONNECT.0))
            .set("reconnect.backoff.max.ms", millis(RECONNECT.1))
            .set("socket.keepalive.enable", "true");
        for (name, value) in &self.properties {
            settings.set(name, value);
        }
        settings.set("bootstrap.servers", &self.brokers);
        let protocol = match (&self.sasl, &self.tls) {
            (None, None) => "plaintext",
            (None, Some(_)) => "ssl",
            (Some(_), None) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        settings.set("security.protocol", protocol);
        if let Some(Tls { ca, certificate, key }) = &self.tls {
            let files = [
                ("ssl.ca.location", ca),
                ("ssl.certificate.location", certificate),
                ("ssl.key.location", key),
            ];
            for (name, file) in files {
                if let Some(file) = file {
                    settings.set(name, file.to_string_lossy());
                }
            }
        }
        if let Some(Sasl { mechanism, user, password }) = &self.sasl {
            let mechanism = match mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            settings
                .set("sasl.mechanism", mechanism)
                .set("sasl.username", user)
                .set("sasl.password", password.reveal(&self.artifact, "sasl password")?);
        }
        Ok(settings)
    }

    /// What an error of the client means for a person. `told` is what librdkafka said besides.
    pub(super) fn explain(&self, operation: &'static str, error: &KafkaError, told: &str) -> Error {
        let (kind, remedy) = match error.rdkafka_error_code() {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                (ErrorKind::Missing, "make the topic; it is looked for every 10 s")
            }
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
                (ErrorKind::Refused, "check user, password and mechanism")
            }
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed,
            ) => (ErrorKind::Refused, "give the user that right"),
            Some(Code::FencedInstanceId | Code::UnreleasedInstanceId) => (
                ErrorKind::Fenced,
                "another consumer of this group has the artifact's name: if it is no later holder of it, give one of them another group",
            ),
            Some(Code::OperationTimedOut | Code::RequestTimedOut | Code::MessageTimedOut) => {
                (ErrorKind::Timeout, "it is tried again")
            }
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve) => {
                (ErrorKind::Unreachable, "it is tried again")
            }
            _ => (ErrorKind::Other, "it is tried again"),
        };
        let told = if told.is_empty() { String::new() } else { format!(" ({told})") };
        Error::new(kind, operation, format!("{}: {error}{told}; {remedy}", self.brokers))
            .caused_by(error.clone())
    }
}

impl From<&KafkaConfig> for Access {
    fn from(config: &KafkaConfig) -> Self {
        Self {
            artifact: config.name.to_string(),
            brokers: config.brokers.clone(),
            timeout: config.timeout,
            sasl: config.sasl.clone(),
            tls: config.tls.clone(),
            properties: config.properties.clone(),
        }
    }
}

/// The settings of a consumer. `client` is shown on the broker's side.
pub(super) fn consumer(config: &KafkaConfig, client: &str) -> Result<ClientConfig, CoreError> {
    let mut settings = Access::from(config).settings()?;
    settings
        .set("client.id", client)
        .set("group.id", config.group())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        .set("allow.auto.create.topics", "false")
        // Where to begin is told with the assignment. This is for offsets that the broker has no more: from the latest on,
        // what is still there would be lost.
        .set("auto.offset.reset", "earliest");
    match config.protocol {
        Protocol::Classic => {
            settings
                .set("group.protocol", "classic")
                // Eager: the partitions of one holder are its own from one moment to another.
                .set("partition.assignment.strategy", "range")
                .set("group.instance.id", config.name.as_str())
                .set("session.timeout.ms", millis(config.session))
                .set("heartbeat.interval.ms", millis(config.session / 3));
        }
        // The broker gives the session's timeout.
        Protocol::Consumer => {
            settings.set("group.protocol", "consumer");
        }
    }
    if let Some(dead) = config.dead_letter.as_ref().filter(|_| config.has_pattern()) {
        // What could not be handled would come back for ever. Topics' names have no other character that means something.
        let ours = format!("^{}$", dead.replace('.', "\\."));
        let theirs = config.properties.get(HIDDEN).map(|theirs| format!("{theirs},")).unwrap_or_default();
        settings.set(HIDDEN, format!("{theirs}{ours}"));
    }
    for (name, value) in [("queued.max.messages.kbytes", AHEAD), ("fetch.queue.backoff.ms", FULL)] {
        if !config.properties.contains_key(name) {
            settings.set(name, value.to_string());
        }
    }
    Ok(settings)
}

/// Whether a setting of librdkafka holds what must not be shown: private keys and what opens them, and credentials.
fn is_secret(name: &str) -> bool {
    let parts = ["password", "passphrase", "secret", "key.pem"];
    name == "sasl.oauthbearer.config" || parts.iter().any(|part| name.contains(part))
}

/// Checks what librdkafka has a say in, without connecting.
pub(super) fn validate(config: &KafkaConfig) -> Result<(), CoreError> {
    if let Some(name) = config.properties.keys().find(|name| OWNED.contains(&name.as_str())) {
        return Err(config.problem(format!("properties {name}: leasehold sets it; leave it out")));
    }
    if let Some(name) = config.properties.keys().find(|name| is_secret(name)) {
        return Err(config.problem(format!(
            "properties {name}: it is a secret, and properties are shown; give it by sasl or tls, or in a file that librdkafka reads"
        )));
    }
    let settings = consumer(config, "check")?;
    settings.create_native_config().map(drop).map_err(|error| match error {
        // Not the value: it may be the password.
        KafkaError::ClientConfig(_, said, name, _) => {
            let remedy = if cfg!(feature = "kafka-ssl") {
                "mend it"
            } else {
                "mend it, or, for TLS and SCRAM, enable the feature kafka-ssl"
            };
            config.problem(format!("librdkafka refuses {name}: {said}; {remedy}"))
        }
        other => config.problem(format!("librdkafka refuses the settings: {other}")),
    })
}
