//! The database under measurement, and chance.

use std::time::Duration;

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::line::now;

/// Where the replicas meet.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    kind: &'static str,
    /// Deleted with this.
    _folder: Option<TempDir>,
}

impl Server {
    /// The database of this URL, or a SQLite file of our own.
    pub(crate) fn new(url: Option<&str>) -> Result<Self> {
        let Some(url) = url else {
            let folder = TempDir::with_prefix("leasehold-bench-")?;
            let url = format!("sqlite://{}/shared.db?mode=rwc", folder.path().display());
            return Ok(Self { url, kind: "SQLite", _folder: Some(folder) });
        };
        let kind = match url.split_once(':') {
            Some(("sqlite", _)) => "SQLite",
            Some(("postgres" | "postgresql", _)) => "PostgreSQL",
            Some(("mysql" | "mariadb", _)) => "MariaDB or MySQL",
            _ => bail!("--database takes sqlite://.., postgres://.., mysql://.. or mariadb://.."),
        };
        Ok(Self { url: url.to_owned(), kind, _folder: None })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.kind == "SQLite"
    }

    /// The name of a cluster that was never there, so that suites do not meet each other's remains.
    pub(crate) fn cluster(&self, of: &str) -> String {
        format!("bench-{of}-{}-{}", std::process::id(), now())
    }

    /// By what the next holder learns of a polite release: notifications, or its own reads.
    pub(crate) fn polite_bound(&self, watch: Duration) -> Duration {
        let base = Duration::from_millis(50);
        if self.kind == "PostgreSQL" { base } else { base + watch * 2 }
    }
}

/// A random duration below `most`. Timers of nodes would lock together if everything came at equal distances.
pub(crate) fn random(most: Duration) -> Duration {
    // SplitMix64's finalizer over nanoseconds that nobody chose.
    let mut z = now() ^ u64::from(std::process::id()).rotate_left(40);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    most.mul_f64((z ^ (z >> 31)) as f64 / u64::MAX as f64)
}
