//! Measures what leasehold promises, and says which promise holds here.
//!
//! `cargo run --release -p leasehold-bench -- SUITE [--database URL] [--json FILE]`. Without a database it makes a
//! SQLite file in a temporary folder. The exit code tells whether it could measure, not what it found: a figure that
//! misses its bound is printed as such.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

#[cfg(feature = "brokers")]
mod consumers;
mod counters;
mod failover;
mod fences;
mod figures;
mod idle;
mod line;
mod mass_move;
mod polite;
mod polling;
mod replica;
mod replicas;
mod servers;
mod sink;
mod starved;
mod store;
mod supervised;
mod tasks;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use figures::Report;
use servers::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// SIGKILL and SIGTERM of replicas: how long until the next holder runs.
    Failover,
    /// SIGKILL of replicas whose parent knows; and what `leasehold status` costs.
    Supervised,
    /// Statements and memory of nodes that have nothing to do.
    Idle,
    /// A node that holds 10,000 artifacts is killed.
    MassMove,
    /// Busy threads and a blocked runtime: no session is lost.
    Starved,
    /// Fenced transactions against unfenced ones.
    Fences,
    /// 1,000 tasks that fire each second on one node.
    Tasks,
    /// Messages appended to a store, and forwarded from it, against bare loops.
    Store,
    /// Files, lines and rows that are polled, against bare loops; the holder is killed.
    Polling,
    /// Consumers of the RabbitMQ at `--broker`; needs the feature `brokers`.
    Rabbitmq,
    /// Consumers of the Kafka at `--broker`; needs the feature `brokers`.
    Kafka,
    /// One after the other, but those of brokers.
    All,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Supervised => "supervised",
            Self::Idle => "idle",
            Self::MassMove => "mass-move",
            Self::Starved => "starved",
            Self::Fences => "fences",
            Self::Tasks => "tasks",
            Self::Store => "store",
            Self::Polling => "polling",
            Self::Rabbitmq => "rabbitmq",
            Self::Kafka => "kafka",
            Self::All => "all",
        }
    }
}

/// Measures what leasehold promises.
#[derive(Debug, Parser)]
struct Options {
    #[arg(value_enum)]
    suite: Suite,
    /// A SQLite file in a temporary folder unless given.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The broker of `rabbitmq`, as amqp://user:password@host:port/vhost, or of `kafka`, as host:port.
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Where to write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Kills per scenario; 0 leaves the scenarios of the brokers' suites out.
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// The sessions' ttl in seconds; may be given several times.
    #[arg(long = "ttl", value_name = "SECONDS", default_values_t = [2.0, 5.0])]
    ttls: Vec<f64>,
    /// How many messages `store` brings through.
    #[arg(long, default_value_t = 100_000)]
    messages: u32,
    /// How many files `polling` takes.
    #[arg(long, default_value_t = 100_000)]
    files: u32,
    /// How many rows.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// The size of the file that `polling` reads by lines, in MiB.
    #[arg(long, default_value_t = 2048)]
    mebibytes: u64,
    /// How long `starved` goes on.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
}

impl Options {
    fn ttls(&self) -> Result<Vec<Duration>> {
        let ttls = self.ttls.iter().map(|&seconds| Duration::try_from_secs_f64(seconds));
        ttls.collect::<Result<_, _>>().context("--ttl takes seconds")
    }
}

fn main() -> Result<()> {
    // The program starts itself in this role; what the replica is to do comes by its standard input, because a URL
    // with a password has no place in an argument list.
    if std::env::args().nth(1).as_deref() == Some("replica") {
        return replica::main();
    }
    if std::env::args().nth(1).as_deref() == Some("replica-of-a-parent") {
        return supervised::parent();
    }
    if std::env::args().nth(1).as_deref() == Some("forwarder") {
        return store::forwarder();
    }
    if std::env::args().nth(1).as_deref() == Some("poller") {
        return polling::poller();
    }
    #[cfg(feature = "brokers")]
    if std::env::args().nth(1).as_deref() == Some("consumer") {
        return consumers::member::main();
    }
    let options = Options::parse();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    let server = Server::new(options.database.as_deref())?;
    let all = [
        Suite::Failover,
        Suite::Supervised,
        Suite::Idle,
        Suite::MassMove,
        Suite::Starved,
        Suite::Fences,
        Suite::Tasks,
        Suite::Store,
        Suite::Polling,
    ];
    let suites = if options.suite == Suite::All { all.to_vec() } else { vec![options.suite] };
    let mut reports = Vec::new();
    for suite in suites {
        let mut report = Report::new(suite.name(), server.kind());
        let measured = match suite {
            Suite::Failover => failover::measure(&server, options, &mut report).await,
            Suite::Supervised => supervised::measure(&server, options, &mut report).await,
            Suite::Idle => idle::measure(&server, &mut report).await,
            Suite::MassMove => mass_move::measure(&server, options, &mut report).await,
            Suite::Starved => starved::measure(&server, options.seconds, &mut report).await,
            Suite::Tasks => tasks::measure(&server, &mut report).await,
            Suite::Store => store::measure(&server, options, &mut report).await,
            Suite::Polling => polling::measure(&server, options, &mut report).await,
            #[cfg(feature = "brokers")]
            Suite::Rabbitmq | Suite::Kafka => consumers::measure(&server, options, &mut report).await,
            #[cfg(not(feature = "brokers"))]
            Suite::Rabbitmq | Suite::Kafka => Err(anyhow::anyhow!(
                "built without brokers: add --features brokers (broker {:?})",
                options.broker
            )),
            Suite::Fences | Suite::All => fences::measure(&server, &mut report).await,
        };
        // What was measured before something failed, too.
        report.print();
        measured.with_context(|| format!("suite {}", suite.name()))?;
        reports.push(report);
        // After every suite: a later one that fails must not cost what was measured.
        if let Some(file) = &options.json {
            figures::write(file, &reports)?;
        }
    }
    Ok(())
}
