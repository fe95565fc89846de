//! What a task has fired.

use leasehold_task::history::{Fired, latest};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::{Cell, Color, Report, Style, Table, precise};

/// One firing.
#[derive(Serialize)]
pub(super) struct Fields {
    slot_ms: i64,
    /// 0 if the schedule asked for it.
    command: i64,
    attempts: i64,
    node: String,
    /// None while it is under way, or is to be tried again.
    outcome: Option<String>,
    begun_ms: i64,
    duration_ms: Option<i64>,
    error: Option<String>,
}

impl From<Fired> for Fields {
    fn from(fired: Fired) -> Self {
        Self {
            slot_ms: fired.slot.timestamp_millis(),
            command: fired.command,
            attempts: fired.attempts,
            duration_ms: fired.duration().map(|time| time.num_milliseconds()),
            begun_ms: fired.begun.timestamp_millis(),
            node: fired.node,
            outcome: fired.outcome,
            error: fired.error,
        }
    }
}

pub(super) fn table(firings: &[Fields]) -> Table {
    let mut table = Table::new(&["SLOT", "OUTCOME", "ATTEMPTS", "NODE", "TOOK", "BY", "ERROR"]);
    for fired in firings {
        let (outcome, color) = match fired.outcome.as_deref() {
            None => ("under way", Color::Attention),
            Some("succeeded") => ("succeeded", Color::Good),
            Some("skipped") => ("skipped", Color::Quiet),
            Some(other) => (other, Color::Bad),
        };
        table.row([
            precise(fired.slot_ms).into(),
            Cell::colored(outcome, color),
            fired.attempts.to_string().into(),
            fired.node.as_str().into(),
            fired.duration_ms.map(|ms| format!("{:.3}s", ms as f64 / 1000.0)).unwrap_or_default().into(),
            if fired.command == 0 { "schedule" } else { "command" }.into(),
            fired.error.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

pub(super) async fn report(cluster: &Cluster, task: &str, limit: u32) -> Result<Report, Failure> {
    #[derive(Serialize)]
    struct All {
        firings: Vec<Fields>,
    }
    let (artifact, _) = cluster.artifact(task).await?;
    let fired = latest(cluster.reader.connection(), &cluster.name, &artifact, limit).await?;
    let all = All { firings: fired.into_iter().map(Fields::from).collect() };
    let table = table(&all.firings);
    let text = match table.is_empty() {
        true => {
            let (kind, _) = cluster.reader.registered(&artifact).await?;
            format!("{task} has fired nothing that is remembered; its kind is {kind}\n")
        }
        false => table.render(Style::of_stdout()),
    };
    Report::new(text, &all)
}
