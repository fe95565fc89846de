//! Runs a service as its parent.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use leasehold_core::Error;
use leasehold_core::supervise::{Ended, Parent};

use crate::failure::Failure;
use crate::output::{Style, one_line};

/// What shells exit with when a program cannot be run, and when there is none.
const NOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// What they add to the number of a signal.
const SIGNALLED: i32 = 128;

pub(super) async fn run(program: Vec<OsString>) -> Result<ExitCode, Failure> {
    let Some((name, arguments)) = program.split_first() else {
        return Err(Failure::invalid("no program is named: leasehold run -- my-service --port 80"));
    };
    // What the node says of its database, and what went wrong, goes where the service's own log goes.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(Style::of(&std::io::stderr()).is_colored())
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let mut command = std::process::Command::new(name);
    command.args(arguments);
    let shown = name.to_string_lossy();
    let parent = match Parent::start_as_init(command) {
        Ok(parent) => parent,
        Err(Error::System { operation: "start the program", source }) => {
            let (code, remedy) = match source.kind() {
                ErrorKind::NotFound => (NOT_FOUND, "check its name, and PATH"),
                _ => (NOT_RUN, "check that it may be executed"),
            };
            eprintln!("leasehold: {shown} cannot be run: {source}; {remedy}");
            return Ok(ExitCode::from(code));
        }
        Err(error) => return Err(error.into()),
    };
    let pid = parent.id();
    let Ended { status, freed, .. } = parent.wait().await?;
    let freed: Vec<_> = freed.iter().map(ToString::to_string).collect();
    let freed = if freed.is_empty() { "it had announced no node".to_owned() } else { freed.join("; ") };
    let said = one_line(&format!("{shown} (process {pid}) {}; {freed}", described(status)));
    eprintln!("leasehold: {said}");
    Ok(code(status))
}

fn described(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => {
            "was killed by signal 9 (if nobody sent it, the machine ran out of memory)".to_owned()
        }
        (Some(signal), _) if status.core_dumped() => format!("crashed by signal {signal}, core dumped"),
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("exited with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| SIGNALLED + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}
