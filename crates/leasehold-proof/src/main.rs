//! The proof: a cluster of real processes on a real database is hurt at random, from a seed, and judged by what an outside recorder
//! saw.
//!
//! ```text
//! leasehold-proof run --database URL --seed 1 --rounds 5      exits 0 with "0 violations", or 1 with the first one,
//!                                                             what led to it and the command that repeats it
//! leasehold-proof mutations --database URL --seed 1           exits 0 only if each mechanism that is switched off is missed
//!
//! With --rabbitmq URL and --kafka HOST:PORT replicas consume from brokers as well, which are hurt likewise.
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod brokers;
mod check;
mod clock;
mod cluster;
mod database;
mod deliver;
mod failpoint;
mod mutation;
mod node;
mod plan;
mod record;
mod recorder;
mod report;
mod round;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hurts a cluster, and judges it.
    Run(Run),
    /// Switches safety mechanisms off, one at a time: each must be missed.
    Mutations(Mutations),
    /// A replica; started by the others.
    #[command(hide = true)]
    Node { options: String },
    /// The recorder; started by the others.
    #[command(hide = true)]
    Recorder { log: PathBuf },
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    database: database::Where,
    #[command(flatten)]
    brokers: brokers::Where,
    /// What the faults are drawn from. Drawn itself unless given, and told.
    #[arg(long)]
    seed: Option<u64>,
    /// So many clusters are hurt, one after the other.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// So many replicas.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How long a session lives without a renewal, in milliseconds.
    #[arg(long, default_value_t = 1500)]
    ttl_ms: u64,
    /// How much longer than the protocol a machine that does other things as well may take until everything runs again, in
    /// milliseconds.
    #[arg(long, default_value_t = 1500)]
    slack_ms: u64,
    /// Where the report is written to, besides the terminal.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Args)]
struct Mutations {
    #[command(flatten)]
    database: database::Where,
    #[command(flatten)]
    brokers: brokers::Where,
    /// What the faults are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// After so many seeds without a conviction a mutation has survived.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => run_rounds(run).await,
        Command::Mutations(asked) => {
            let place = mutation::Place { database: asked.database, brokers: asked.brokers };
            mutation::all(&place, asked.seed, asked.seeds, &asked.only).await
        }
        Command::Node { options } => node::run(&options).await.map(|()| true),
        Command::Recorder { log } => recorder::run(&log).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("leasehold-proof: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was violated.
async fn run_rounds(run: Run) -> Result<bool> {
    let seed = run.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut report = report::Report::new(&run.database, &run.brokers, seed);
    for number in 0..run.rounds {
        let of_round = seed.wrapping_add(number);
        let setting =
            round::Setting { slack_ms: run.slack_ms, ..round::Setting::healthy(run.nodes, run.ttl_ms) };
        let database = database::Database::create(&run.database).await?;
        let brokers = brokers::Brokers::create(&run.brokers, run.nodes, plan::Way::of_seed(of_round)).await?;
        let plan = plan::random(of_round, &setting, database.abilities());
        let plan = plan.with_brokers(of_round, &setting, &brokers.kinds());
        let plan = plan.with_failpoint(of_round, &setting, database.abilities());
        let plan = plan.with_wall_clock(of_round, &setting);
        let outcome = round::run(&database, &brokers, &setting, &plan, of_round).await?;
        let way = plan.way.map(|way| format!(", topic by {way}")).unwrap_or_default();
        println!("round {} of {} (seed {of_round}{way}): {}", number + 1, run.rounds, outcome.summary());
        let convicted = !outcome.violations.is_empty();
        report.add(&outcome, plan.way);
        if convicted {
            outcome.explain(&plan);
            println!("again: {}", report.command(of_round));
            break;
        }
    }
    let text = report.text();
    println!("{text}");
    if let Some(path) = &run.report {
        std::fs::write(path, &text)?;
    }
    Ok(report.violations() == 0)
}
