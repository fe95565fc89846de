//! The audit trail.

use std::collections::BTreeSet;
use std::time::Duration;

use leasehold_core::name::{ArtifactName, NodeId};
use leasehold_core::store::audit::{Query, StoredEvent};
use serde::{Deserialize, Serialize};

use crate::arguments;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::{Color, Style, json_line, line, one_line, precise, unless_interrupted};

/// How often `--follow` looks.
const EVERY: Duration = Duration::from_millis(500);
/// At most so many at a time.
const PAGE: u64 = 1_000;
/// So far below the last id somebody's events may still be uncommitted.
const LATE: i64 = 300;

/// One event; each is a line of its own.
#[derive(Serialize)]
pub(super) struct Fields<'a> {
    id: i64,
    at_ms: i64,
    kind: &'a str,
    node: Option<&'a str>,
    artifact: Option<&'a str>,
    token: Option<i64>,
    detail: &'a str,
}

impl<'a> From<&'a StoredEvent> for Fields<'a> {
    fn from(stored: &'a StoredEvent) -> Self {
        let event = &stored.event;
        Self {
            id: stored.id,
            at_ms: stored.at_ms,
            kind: &event.kind,
            node: event.node.as_ref().map(|node| node.as_str()),
            artifact: event.artifact.as_ref().map(|artifact| artifact.as_str()),
            token: event.token.map(|token| token.0),
            detail: &event.detail,
        }
    }
}

impl Fields<'_> {
    pub(super) fn text(&self, style: Style) -> String {
        let color = match self.kind {
            "started" | "joined" | "resumed" | "readmitted" => Color::Good,
            "failed" | "stopped" | "expired" | "died" | "over" | "evicted" => Color::Bad,
            _ => Color::Attention,
        };
        let mut text = format!("{}  {}", precise(self.at_ms), style.paint(color, &one_line(self.kind)));
        for (what, value) in [("", self.artifact), ("on ", self.node)] {
            if let Some(value) = value {
                text.push_str(&format!("  {what}{value}"));
            }
        }
        if let Some(token) = self.token {
            text.push_str(&format!("  token {token}"));
        }
        if !self.detail.is_empty() {
            text.push_str(&format!("  {}", detail(self.detail)));
        }
        text
    }
}

/// Of an operator's action who asked for it and why; else as it stands, on one line.
fn detail(detail: &str) -> String {
    #[derive(Deserialize)]
    struct Asked {
        by: String,
        reason: String,
        #[serde(default)]
        verb: String,
    }
    let Ok(Asked { by, reason, verb }) = serde_json::from_str(detail) else {
        return one_line(detail);
    };
    let by = if by.is_empty() { by } else { format!("by {by}") };
    let reason = if reason.is_empty() { reason } else { format!("({reason})") };
    let said: Vec<_> = [verb, by, reason].into_iter().filter(|part| !part.is_empty()).collect();
    one_line(&said.join(" "))
}

pub(super) async fn events(cluster: &Cluster, asked: &arguments::Events, json: bool) -> Result<(), Failure> {
    // Of artifacts that were forgotten and nodes that are gone, too: no name is unknown here.
    let artifact = asked.artifact.as_ref().map(ArtifactName::new).transpose()?;
    let node = asked.node.as_ref().map(NodeId::new).transpose()?;
    let kinds: Vec<&str> = asked.kinds.iter().map(String::as_str).collect();
    let query = Query { artifact: artifact.as_ref(), node: node.as_ref(), kinds: &kinds, ..Query::default() };
    let style = Style::of_stdout();
    let show = |event: &StoredEvent| {
        let fields = Fields::from(event);
        if json { json_line(&serde_json::json!(fields)) } else { line(&fields.text(style)) }
    };
    let mut found = cluster.reader.events(&query, asked.limit).await?;
    found.reverse();
    found.iter().try_for_each(show)?;
    if !asked.follow {
        return Ok(());
    }
    // With --limit 0 nothing of the past is shown, and what is new follows the latest.
    let latest = cluster.reader.events(&Query::default(), 1).await?;
    let begin = found.last().or(latest.first()).map_or(0, |event| event.id);
    let (mut after, mut shown) = (begin, BTreeSet::new());
    loop {
        let query = Query { after: Some(after), ..query.clone() };
        let next = async {
            tokio::time::sleep(EVERY).await;
            cluster.reader.events(&query, PAGE).await.map_err(Failure::from)
        };
        let Some(next) = unless_interrupted(next).await else { return Ok(()) };
        match next {
            Ok(events) => {
                for event in events.iter().filter(|event| shown.insert(event.id)) {
                    show(event)?;
                }
                // An id is given before its commit: one that commits late is below those that were shown.
                after = begin.max(events.last().map_or(after, |event| event.id - LATE));
                shown.retain(|id| *id > after);
            }
            // A database that fails over is what people follow.
            Err(failure) => eprintln!("leasehold: {failure}"),
        }
    }
}
