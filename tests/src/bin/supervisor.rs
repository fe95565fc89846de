//! The parent of a replica, as `leasehold run` is.

use std::process::{Command, ExitCode};

use leasehold::supervise::Parent;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let mut command = Command::new(arguments.next().ok_or("usage: supervisor PROGRAM [ARGUMENT]..")?);
    command.args(arguments);
    let ended = Parent::start_as_init(command)?.wait().await?;
    Ok(if ended.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
