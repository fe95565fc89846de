//! One file per subject.

mod artifacts;
mod completions;
mod doctor;
mod events;
mod explain;
mod history;
mod migrate;
mod nodes;
mod run;
mod show;
mod status;
mod steer;
mod store;
mod timeline;

use std::process::ExitCode;

use crate::arguments::{Arguments, Command};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::view;

/// Does what was asked for; the exit code.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { place, command } = arguments;
    let json = place.json;
    match command {
        // These need no cluster.
        Command::Run { program } => return run::run(program).await,
        Command::Completions { shell } => completions::print(shell)?,
        Command::Migrate(migrate) => migrate::migrate(&place, migrate).await?,
        Command::Doctor => return doctor::doctor(&place).await,
        Command::Store(store) => {
            tell_warnings();
            store::store(&place, store).await?;
        }
        Command::Status(viewed) => {
            let cluster = Cluster::open(&place).await?;
            view(viewed.watch, json, async || status::report(&cluster).await).await?;
        }
        Command::Nodes(viewed) => {
            let cluster = Cluster::open(&place).await?;
            view(viewed.watch, json, async || nodes::report(&cluster).await).await?;
        }
        Command::Artifacts(viewed) => {
            let cluster = Cluster::open(&place).await?;
            view(viewed.watch, json, async || artifacts::report(&cluster).await).await?;
        }
        Command::Show { name, viewed } => {
            let cluster = Cluster::open(&place).await?;
            view(viewed.watch, json, async || show::report(&cluster, &name).await).await?;
        }
        Command::Explain { name, viewed } => {
            let cluster = Cluster::open(&place).await?;
            view(viewed.watch, json, async || explain::report(&cluster, &name).await).await?;
        }
        Command::Events(asked) => events::events(&Cluster::open(&place).await?, &asked, json).await?,
        Command::History { task, limit } => {
            history::report(&Cluster::open(&place).await?, &task, limit).await?.print(json)?;
        }
        Command::Timeline { since, svg, artifacts } => {
            timeline::timeline(&Cluster::open(&place).await?, since, &svg, &artifacts).await?;
        }
        other => {
            tell_warnings();
            steer::steer(&Cluster::open(&place).await?, other, json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the core warns of, on the standard error: that a change is not in the audit trail, for example.
fn tell_warnings() {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    use tracing_subscriber::{Layer, fmt};

    let ours = Targets::new().with_target("leasehold_core", LevelFilter::WARN);
    let plain = fmt::layer().with_writer(std::io::stderr).with_ansi(false).without_time().with_target(false);
    tracing_subscriber::registry().with(plain.with_filter(ours)).init();
}
