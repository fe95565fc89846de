//! Why an artifact does not run, or runs where it does.

use leasehold_core::control::Reason;
use leasehold_core::name::{ArtifactName, ClusterName};
use leasehold_task::outlook::{Next, Outlook, outlook};
use sea_orm::DatabaseConnection;
use serde::Serialize;

use super::artifacts;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::{Color, Report, Style, one_line, precise};

#[derive(Serialize)]
struct Fields<'a> {
    artifact: artifacts::Fields<'a>,
    /// Those first that stop it.
    reasons: Vec<ReasonFields>,
    schedule: Option<ScheduleFields>,
}

#[derive(Serialize)]
struct ReasonFields {
    /// A word for programs.
    code: &'static str,
    text: String,
    remedy: Option<String>,
}

/// A task's schedule, for people and programs.
#[derive(Serialize)]
pub(super) struct ScheduleFields {
    schedule: String,
    last_ms: Option<i64>,
    /// None when there is no further slot.
    next_ms: Option<i64>,
    /// The next slot is due, and waits for its holder.
    due: bool,
}

impl ScheduleFields {
    /// None for what is no task, and for a task that nobody has run yet.
    pub(super) async fn read(
        db: &DatabaseConnection,
        cluster: &ClusterName,
        artifact: &ArtifactName,
        now_ms: i64,
    ) -> Result<Option<Self>, Failure> {
        let now = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        let Some(Outlook { schedule, last, next, .. }) = outlook(db, cluster, artifact, now).await? else {
            return Ok(None);
        };
        let (next, due) = match next {
            Next::Due(at) => (Some(at), true),
            Next::At(at) => (Some(at), false),
            _ => (None, false),
        };
        Ok(Some(Self {
            schedule,
            last_ms: last.map(|last| last.timestamp_millis()),
            next_ms: next.map(|next| next.timestamp_millis()),
            due,
        }))
    }

    pub(super) fn text(&self) -> String {
        let last = self.last_ms.map_or_else(|| "none yet".to_owned(), precise);
        let next = match (self.next_ms, self.due) {
            (Some(next), true) => format!("{} is due now", precise(next)),
            (Some(next), false) => format!("fires at {}", precise(next)),
            (None, _) => "there is no further slot: its schedule is over".to_owned(),
        };
        format!("schedule {}; last slot {last}; the next {next}", self.schedule)
    }
}

pub(super) async fn report(cluster: &Cluster, name: &str) -> Result<Report, Failure> {
    let style = Style::of_stdout();
    let (artifact, overview) = cluster.artifact(name).await?;
    let explanation = cluster.reader.explain(&artifact).await?;
    let db = cluster.reader.connection();
    let schedule = ScheduleFields::read(db, &cluster.name, &artifact, overview.wall_ms).await?;
    let fields = Fields {
        artifact: (&explanation.state).into(),
        reasons: explanation.reasons.iter().map(reason).collect(),
        schedule,
    };
    let (state, color) = fields.artifact.state();
    let held = explanation.state.holder.is_some();
    let head = if held { state } else { "nobody runs it".to_owned() };
    let mut text = format!("{name}: {}\n", style.paint(color, &one_line(&head)));
    for (at, reason) in fields.reasons.iter().enumerate() {
        text.push_str(&format!("  {}. {}\n", at + 1, one_line(&reason.text)));
        if let Some(remedy) = &reason.remedy {
            text.push_str(&format!("     {}\n", style.paint(Color::Quiet, &one_line(remedy))));
        }
    }
    if let Some(schedule) = &fields.schedule {
        text.push_str(&format!("  {}\n", schedule.text()));
    }
    Report::new(text, &fields)
}

fn reason(reason: &Reason) -> ReasonFields {
    ReasonFields { code: reason.code(), text: reason.to_string(), remedy: reason.remedy() }
}
