//! The nodes that take part, and those that operators keep out.

use std::collections::BTreeMap;
use std::time::Duration;

use leasehold_core::control::NodeState;
use leasehold_core::duration;
use serde::Serialize;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::{Cell, Color, Report, Style, Table, age};

#[derive(Serialize)]
struct Fields<'a> {
    nodes: Vec<Node<'a>>,
    excluded: Vec<Excluded>,
}

#[derive(Serialize)]
struct Node<'a> {
    node: &'a str,
    session: String,
    /// `joining`, `active`, `draining`, `evicted` or `silent`.
    state: &'static str,
    leads: bool,
    holds: usize,
    deployed: usize,
    ttl_ms: u128,
    beat: i64,
    version: &'a str,
    joined_ms: i64,
    renewed_ms: Option<i64>,
    labels: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Excluded {
    node: String,
    by: String,
    reason: String,
    at_ms: i64,
    present: bool,
}

pub(super) async fn report(cluster: &Cluster) -> Result<Report, Failure> {
    let style = Style::of_stdout();
    let overview = cluster.reader.overview().await?;
    let exclusions = cluster.reader.exclusions().await?;
    let excluded = exclusions
        .into_iter()
        .map(|exclusion| Excluded {
            present: overview.nodes.iter().any(|node| node.node == exclusion.node),
            node: exclusion.node.to_string(),
            by: exclusion.by,
            reason: exclusion.reason,
            at_ms: exclusion.at_ms,
        })
        .collect();
    let fields = Fields { nodes: overview.nodes.iter().map(node).collect(), excluded };
    let mut text = text(&fields, overview.wall_ms, style);
    if let Some(silence) = overview.silent() {
        text.push('\n');
        text.push_str(&style.line(Color::Bad, &all_silent(silence)));
    }
    Report::new(text, &fields)
}

/// What is said of a cluster whose nodes have sessions, and none of which lives.
pub(super) fn all_silent(silence: Duration) -> String {
    format!(
        "no node has renewed its session for {}: nothing runs; start one, or see why they do not reach the database",
        duration::about(silence)
    )
}

fn node(node: &NodeState) -> Node<'_> {
    let state = match node {
        NodeState { evicted: true, .. } => "evicted",
        NodeState { silent: Some(_), .. } => "silent",
        NodeState { draining: true, .. } => "draining",
        NodeState { beat: 0, .. } => "joining",
        _ => "active",
    };
    Node {
        node: node.node.as_str(),
        session: node.session.to_string(),
        state,
        leads: node.leads,
        holds: node.holds,
        deployed: node.deployed,
        ttl_ms: node.ttl.as_millis(),
        beat: node.beat,
        version: &node.version,
        joined_ms: node.joined_ms,
        renewed_ms: node.renewed_ms,
        labels: &node.labels,
    }
}

fn text(fields: &Fields<'_>, now: i64, style: Style) -> String {
    let mut table =
        Table::new(&["NODE", "STATE", "HOLDS", "DEPLOYED", "TTL", "UP", "RENEWED", "VERSION", "LABELS"]);
    for node in &fields.nodes {
        let color = match node.state {
            "active" => Color::Good,
            "evicted" | "silent" => Color::Bad,
            _ => Color::Attention,
        };
        let state = if node.leads { format!("{}, leads", node.state) } else { node.state.to_owned() };
        let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.row([
            node.node.into(),
            Cell::colored(state, color),
            node.holds.to_string().into(),
            node.deployed.to_string().into(),
            format!("{:.1}s", node.ttl_ms as f64 / 1000.0).into(),
            age(now - node.joined_ms).into(),
            node.renewed_ms.map_or_else(String::new, |at| format!("{} ago", age(now - at))).into(),
            node.version.into(),
            labels.join(" ").into(),
        ]);
    }
    let mut text = match table.is_empty() {
        true => style.line(Color::Bad, "no node of this cluster lives; start one"),
        false => table.render(style),
    };
    let absent: Vec<_> = fields.excluded.iter().filter(|excluded| !excluded.present).collect();
    if !absent.is_empty() {
        let list: Vec<_> = absent.iter().map(|excluded| excluded.node.as_str()).collect();
        text.push_str(&format!(
            "\nnot here, and drained when they join again: {} (`leasehold undrain` ends that)\n",
            list.join(", ")
        ));
    }
    text
}
