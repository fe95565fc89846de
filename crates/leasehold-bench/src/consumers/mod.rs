//! Consumers of a broker: throughput beside a bare loop, kills, polite stops, a frozen holder, memory.

mod broker;
mod fleet;
mod ledger;
pub(crate) mod member;
mod memory;
mod takeover;
mod throughput;

use std::time::Duration;

use anyhow::{Context, Result};

pub(crate) use broker::Broker;

use crate::Options;
use crate::figures::Report;
use crate::servers::Server;

/// Enough for anything that works at all.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(server: &Server, options: &Options, report: &mut Report) -> Result<()> {
    let broker = options.broker.as_deref().context(
        "this suite needs --broker: amqp://user:password@host:port/vhost for rabbitmq, host:port for kafka",
    )?;
    let broker = Broker::new(broker)?;
    throughput::measure(server, &broker, report).await?;
    if options.kills == 0 {
        report.note("--kills 0: throughput only");
        return Ok(());
    }
    takeover::kills(server, &broker, options.kills, report).await?;
    takeover::polite(server, &broker, options.kills, report).await?;
    takeover::frozen(server, &broker, report).await?;
    memory::measure(server, &broker, report).await
}
