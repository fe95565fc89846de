//! The cluster at a glance.

use std::time::Duration;

use leasehold_core::protocol::request::Desired;
use serde::Serialize;

use super::nodes::all_silent;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::{Color, Report, Style, Table};

/// More are told as a number: a cluster that stands still has thousands.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct Fields<'a> {
    cluster: &'a str,
    database: String,
    leader: Option<&'a str>,
    /// The database's life is the one that the cluster has adopted.
    adopted: bool,
    max_ttl_ms: u128,
    nodes: usize,
    draining: usize,
    evicted: usize,
    silent: usize,
    artifacts: usize,
    held: usize,
    paused: usize,
    waiting: usize,
    not_held: Vec<NotHeld<'a>>,
}

#[derive(Serialize)]
struct NotHeld<'a> {
    artifact: &'a str,
    why: String,
}

pub(super) async fn report(cluster: &Cluster) -> Result<Report, Failure> {
    let style = Style::of_stdout();
    let overview = cluster.reader.overview().await?;
    let held = overview.artifacts.iter().filter(|artifact| artifact.holder.is_some()).count();
    let paused = overview.artifacts.iter().filter(|artifact| artifact.desired == Desired::Paused).count();
    let waiting: Vec<_> = overview
        .artifacts
        .iter()
        .filter(|artifact| artifact.desired == Desired::Active)
        .filter_map(|artifact| Some((&artifact.artifact, artifact.waiting.as_ref()?)))
        .collect();
    let fields = Fields {
        cluster: cluster.name.as_str(),
        database: cluster.target.to_string(),
        leader: overview
            .nodes
            .iter()
            .find(|node| node.leads && node.silent.is_none())
            .map(|node| node.node.as_str()),
        adopted: overview.live == overview.cluster.adopted,
        max_ttl_ms: overview.cluster.max_ttl.as_millis(),
        nodes: overview.nodes.len(),
        draining: overview.nodes.iter().filter(|node| node.draining && !node.evicted).count(),
        evicted: overview.nodes.iter().filter(|node| node.evicted).count(),
        silent: overview.nodes.iter().filter(|node| node.silent.is_some()).count(),
        artifacts: overview.artifacts.len(),
        held,
        paused,
        waiting: waiting.len(),
        not_held: waiting
            .iter()
            .map(|(artifact, why)| NotHeld { artifact: artifact.as_str(), why: why.to_string() })
            .collect(),
    };
    Report::new(text(&fields, overview.silent(), style), &fields)
}

fn text(fields: &Fields<'_>, silence: Option<Duration>, style: Style) -> String {
    let count = |count: usize, what: &str, color| match count {
        0 => String::new(),
        count => format!(", {}", style.paint(color, &format!("{count} {what}"))),
    };
    let leader = match fields.leader {
        Some(leader) => format!("{leader} leads"),
        None => style.paint(Color::Bad, "nobody leads"),
    };
    let mut text = format!(
        "cluster {} at {}\n{} nodes{}{}{}, {leader}\n{} artifacts, {} held{}{}\n",
        fields.cluster,
        fields.database,
        fields.nodes,
        count(fields.draining, "draining", Color::Attention),
        count(fields.evicted, "evicted", Color::Bad),
        count(fields.silent, "silent", Color::Bad),
        fields.artifacts,
        fields.held,
        count(fields.paused, "paused", Color::Attention),
        count(fields.waiting, "waiting", Color::Bad),
    );
    if fields.nodes == 0 {
        text.push_str(&style.line(Color::Bad, "no node of this cluster lives: nothing runs; start one"));
    }
    if let Some(silence) = silence {
        text.push_str(&style.line(Color::Bad, &all_silent(silence)));
    }
    if !fields.adopted {
        let why = "the database is in another life than the cluster has adopted: nothing is granted for up to max_ttl";
        text.push_str(&style.line(Color::Bad, why));
    }
    if !fields.not_held.is_empty() {
        let mut table = Table::new(&["WAITING", "WHY"]);
        for NotHeld { artifact, why } in fields.not_held.iter().take(SHOWN) {
            table.row([(*artifact).into(), why.as_str().into()]);
        }
        text.push('\n');
        text.push_str(&table.render(style));
        if fields.not_held.len() > SHOWN {
            text.push_str(&format!("and {} more: `leasehold artifacts`\n", fields.not_held.len() - SHOWN));
        }
        text.push_str("\n`leasehold explain NAME` says more, and what to do.\n");
    }
    text
}
