//! `leasehold`: see, explain and steer a cluster with nothing but a database URL, and run a service so that its death is
//! known at once. `docs/cli.md` has the exit codes and the fields of `--json`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod arguments;
mod cluster;
mod commands;
mod confirm;
mod failure;
mod output;
mod wait;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::Arguments;
use failure::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if asks_for_help(error.kind()) => error.exit(),
        Err(error) => return say(&Failure::arguments(&error.to_string())),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(&Failure::failed(format!("the system gives no runtime: {error}"))),
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(code) => code,
        Err(failure) => say(&failure),
    }
}

fn asks_for_help(kind: ErrorKind) -> bool {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    matches!(kind, DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand)
}

fn say(failure: &Failure) -> ExitCode {
    // Whoever listened may be gone.
    let _ = writeln!(std::io::stderr(), "leasehold: {failure}");
    failure.code()
}
