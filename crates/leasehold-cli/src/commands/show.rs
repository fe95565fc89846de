//! Everything about one artifact.

use leasehold_core::control::Position;
use leasehold_core::protocol::request::Placement;
use leasehold_core::store::audit::Query;
use leasehold_task::history::latest;
use serde::Serialize;

use super::explain::ScheduleFields;
use super::{artifacts, events, history};
use crate::cluster::{Cluster, find};
use crate::failure::Failure;
use crate::output::{Report, Style, clock, one_line};

/// So many of its events and firings.
const RECENT: u32 = 10;
/// Of a position that is longer the beginning is shown to people.
const WIDEST: usize = 120;

#[derive(Serialize)]
struct Fields<'a> {
    artifact: artifacts::Fields<'a>,
    kind: String,
    placement: &'a Placement,
    /// When its lease was granted, as far as the audit trail knows.
    since_ms: Option<i64>,
    changed_ms: i64,
    last_error: Option<&'a str>,
    last_error_ms: Option<i64>,
    commands_waiting: usize,
    schedule: Option<ScheduleFields>,
    positions: Vec<PositionFields>,
    firings: Vec<history::Fields>,
    events: Vec<events::Fields<'a>>,
}

/// How far it is, as it has written down itself.
#[derive(Serialize)]
struct PositionFields {
    name: String,
    token: i64,
    value: String,
    at_ms: i64,
}

impl From<Position> for PositionFields {
    fn from(position: Position) -> Self {
        let Position { name, token, value, at_ms, .. } = position;
        Self { name, token, value, at_ms }
    }
}

pub(super) async fn report(cluster: &Cluster, name: &str) -> Result<Report, Failure> {
    let style = Style::of_stdout();
    let (artifact, overview) = cluster.artifact(name).await?;
    let state = find(&overview, &artifact).ok_or_else(|| Failure::failed("it was forgotten meanwhile"))?;
    let (db, reader) = (cluster.reader.connection(), &cluster.reader);
    let (kind, changed_ms) = reader.registered(&artifact).await?;
    let of_this = Query { artifact: Some(&artifact), ..Query::default() };
    let recent = reader.events(&of_this, u64::from(RECENT)).await?;
    let started = reader.events(&Query { kinds: &["started"], ..of_this.clone() }, 1).await?;
    let failed = reader.events(&Query { kinds: &["failed"], ..of_this.clone() }, 1).await?;
    let firings = latest(db, &cluster.name, &artifact, RECENT).await?;
    let fields = Fields {
        artifact: state.into(),
        kind: kind.to_string(),
        placement: &state.placement,
        since_ms: started
            .first()
            .filter(|event| state.holder.is_some() && event.event.token == Some(state.token))
            .map(|event| event.at_ms),
        changed_ms,
        last_error: failed.first().map(|event| event.event.detail.as_str()),
        last_error_ms: failed.first().map(|event| event.at_ms),
        commands_waiting: reader.commands(&artifact).await?.len(),
        schedule: ScheduleFields::read(db, &cluster.name, &artifact, overview.wall_ms).await?,
        positions: reader.positions(&artifact).await?.into_iter().map(PositionFields::from).collect(),
        firings: firings.into_iter().map(history::Fields::from).collect(),
        events: recent.iter().map(events::Fields::from).collect(),
    };
    Report::new(text(&fields, state.token.0, style), &fields)
}

fn text(fields: &Fields<'_>, token: i64, style: Style) -> String {
    let (state, color) = fields.artifact.state();
    let mut lines = vec![format!("state      {}", style.paint(color, &one_line(&state)))];
    let mut say = |what: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{what:<10} {}", one_line(&value))));
    };
    let placement = serde_json::to_string(fields.placement).unwrap_or_default();
    say("kind", Some(fields.kind.clone()));
    say("holder", fields.artifact.holder().map(str::to_owned));
    say("since", fields.since_ms.map(clock));
    say("token", Some(token.to_string()));
    say("target", fields.artifact.target().map(str::to_owned));
    say("moved to", fields.artifact.preferred().map(str::to_owned));
    say("placement", Some(placement));
    say("changed", Some(clock(fields.changed_ms)));
    say("schedule", fields.schedule.as_ref().map(ScheduleFields::text));
    for position in &fields.positions {
        let value: String = position.value.chars().take(WIDEST).collect();
        let more = if value.len() < position.value.len() { "…" } else { "" };
        let (name, at) = (&position.name, clock(position.at_ms));
        say("position", Some(format!("{name}: {value}{more} ({at}, token {})", position.token)));
    }
    let error = fields.last_error.zip(fields.last_error_ms);
    say("last error", error.map(|(error, at)| format!("{error} ({})", clock(at))));
    let waiting = fields.commands_waiting;
    say("commands", (waiting > 0).then(|| format!("{waiting} wait for the holder")));
    let mut text = lines.join("\n") + "\n";
    if !fields.firings.is_empty() {
        text.push_str(&format!("\n{}", history::table(&fields.firings).render(style)));
    }
    if !fields.events.is_empty() {
        text.push('\n');
        for event in &fields.events {
            text.push_str(&format!("{}\n", event.text(style)));
        }
    }
    text
}
