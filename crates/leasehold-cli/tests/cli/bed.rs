//! A cluster, and the program that is asked about it.

use std::process::{Output, Stdio};
use std::time::Duration;

use leasehold_core::artifact::Artifact;
use leasehold_core::lead::Lead;
use leasehold_core::lease::Lease;
use leasehold_testkit::cluster::Cluster;
use serde_json::Value;
use tokio::process::Command;

/// Far more than anything here takes, so that a machine under load fails no test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the program did.
#[derive(Debug)]
pub(crate) struct Did {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Did {
    /// It was done; what it said.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// It was not, and said so in one line.
    #[track_caller]
    pub(crate) fn badly(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "one line: {self:?}");
        self.err
    }
}

impl From<Output> for Did {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// The program, with nothing of this process's environment that it would heed.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    for variable in ["LEASEHOLD_DATABASE_URL", "LEASEHOLD_CLUSTER", "LEASEHOLD_SUPERVISOR", "USER"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// On each database of this build.
pub(crate) async fn on_each<F: Future<Output = ()>>(test: impl Fn(Bed) -> F) {
    test(Bed(Cluster::sqlite().await)).await;
    #[cfg(feature = "test-postgres")]
    test(Bed(Cluster::on("LEASEHOLD_TEST_POSTGRES").await)).await;
    #[cfg(feature = "test-mariadb")]
    test(Bed(Cluster::on("LEASEHOLD_TEST_MARIADB").await)).await;
    #[cfg(feature = "test-mysql")]
    test(Bed(Cluster::on("LEASEHOLD_TEST_MYSQL").await)).await;
}

pub(crate) struct Bed(pub(crate) Cluster);

impl Bed {
    /// Runs the program on this cluster.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Did {
        let place = ["--database", &self.0.url, "--cluster", &self.0.name];
        let asked = program().args(place).args(arguments).output();
        tokio::time::timeout(PATIENCE, asked).await.expect("in time").unwrap().into()
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.ask(&[arguments, &["--json"]].concat()).await.well();
        serde_json::from_str(&said).unwrap()
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let asked = async {
            loop {
                last = self.json(arguments).await;
                if wanted(&last) {
                    return last.clone();
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, asked).await;
        found.unwrap_or_else(|_| panic!("{arguments:?} never was as wanted"))
    }

    /// The reasons of `explain`, by their codes.
    pub(crate) async fn until_explained(&self, artifact: &str, code: &str) -> Value {
        let with = |answer: &Value| reason(answer, code).is_some();
        let answer = self.until(&["explain", artifact], with).await;
        reason(&answer, code).unwrap().clone()
    }

    pub(crate) async fn until_held(&self, artifact: &str, by: &str) {
        let held = |answer: &Value| answer["artifact"]["holder"] == by;
        self.until(&["explain", artifact], held).await;
    }
}

pub(crate) fn reason<'a>(answer: &'a Value, code: &str) -> Option<&'a Value> {
    answer["reasons"].as_array().unwrap().iter().find(|reason| reason["code"] == code)
}

/// Runs until it is asked to end.
pub(crate) fn job(name: &str) -> impl Artifact + use<> {
    Lead::new(name, |lease: Lease| async move {
        lease.revoked().await;
        Ok(())
    })
    .unwrap()
}
