//! TLS, as it is configured.

use std::path::{Path, PathBuf};

use leasehold_core::Error;
use serde::{Deserialize, Serialize};

/// How a broker is recognized and this client proves itself, as PEM files. In a file:
/// `{ ca = "ca.pem", certificate = "client.pem", key = "client.key" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tls {
    /// The certificates of authorities that are trusted; the platform's unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The client's certificate, with those in between; needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The client's private key, in PKCS #8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Tls {
    /// Trusts the authorities of this file.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// Proves who this client is.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.certificate, self.key) = (Some(certificate.into()), Some(key.into()));
        self
    }

    pub(crate) fn validate(&self, artifact: &str) -> Result<(), Error> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => {
                Err(Error::artifact(artifact, "tls certificate is given without key: give both, or neither"))
            }
            (None, Some(_)) => {
                Err(Error::artifact(artifact, "tls key is given without certificate: give both, or neither"))
            }
            _ => Ok(()),
        }
    }
}

/// Reads a file, at every connection: certificates are renewed while programs run.
#[cfg_attr(not(feature = "rabbitmq"), expect(dead_code, reason = "librdkafka reads the files itself"))]
pub(crate) fn read(artifact: &str, field: &str, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| {
        Error::artifact(
            artifact,
            format!(
                "tls {field}: the file {} cannot be read ({error}); make it readable for this process",
                file.display()
            ),
        )
    })
}
