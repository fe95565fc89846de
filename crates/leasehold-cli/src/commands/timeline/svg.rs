//! The picture.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::spans::{Ended, Night, Span};
use crate::output::clock;

const WIDTH: i64 = 1200;
/// Where lanes begin: node names stand before.
const LEFT: i64 = 140;
const RIGHT: i64 = 20;
const TOP: i64 = 56;
const ROW: i64 = 16;
const GAP: i64 = 12;
/// More rows in a lane than this show nothing.
const MOST_ROWS: usize = 40;
const TICKS: i64 = 8;
/// Told apart in black and white by their names, and by most who see colours differently.
const COLORS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999933", "#6a3d9a"];

/// The rows of one lane: an artifact each.
struct Lane<'a> {
    node: &'a str,
    rows: Vec<&'a str>,
    hidden: usize,
    top: i64,
}

pub(super) fn draw(night: &Night, cluster: &str) -> String {
    let lanes = lanes(night);
    let bottom = lanes.last().map_or(TOP, |lane| lane.top + height(lane));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">cluster {cluster}: who held what</text>\n",
        bottom + 40
    );
    ticks(&mut svg, night, bottom);
    for lane in &lanes {
        rect(&mut svg, LEFT, lane.top - 2, WIDTH - LEFT - RIGHT, height(lane) + 2, "#f4f4f4", "");
        let _ =
            writeln!(svg, "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{}</text>", lane.top + 11, lane.node);
        if lane.hidden > 0 {
            let _ = writeln!(svg, "<text x=\"10\" y=\"{}\">and {} more</text>", lane.top + 25, lane.hidden);
        }
    }
    let colors: BTreeMap<&str, &str> = {
        let names: std::collections::BTreeSet<_> =
            night.spans.iter().map(|span| span.artifact.as_str()).collect();
        names.into_iter().zip(COLORS.iter().copied().cycle()).collect()
    };
    for span in &night.spans {
        let Some(top) = place(&lanes, span) else { continue };
        let (from, until) = (x(night, span.from), x(night, span.until));
        let color = colors.get(span.artifact.as_str()).copied().unwrap_or(COLORS[0]);
        let title = format!(
            "{} on {}, token {}: {} to {}{}",
            span.artifact,
            span.node,
            span.token,
            clock(span.from),
            clock(span.until),
            if span.ended == Ended::Abruptly { ", cut off" } else { "" }
        );
        rect(&mut svg, from, top, (until - from).max(2), ROW - 3, color, &title);
        if until - from > 60 {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" fill=\"white\">{}</text>",
                from + 4,
                top + 10,
                span.artifact
            );
        }
    }
    for (before, after) in night.failovers() {
        let (Some(above), Some(below)) = (place(&lanes, before), place(&lanes, after)) else { continue };
        let (end, begin) = (x(night, before.until), x(night, after.from));
        let took = after.from - before.until;
        let _ = writeln!(
            svg,
            "<g stroke=\"#c00\" fill=\"none\"><title>failover of {} from {} to {} at {}: {took} ms after its end was known</title>\
             <line x1=\"{end}\" y1=\"{}\" x2=\"{begin}\" y2=\"{}\" stroke-width=\"1.5\"/>\
             <circle cx=\"{begin}\" cy=\"{}\" r=\"4\" fill=\"#c00\"/></g>",
            after.artifact,
            before.node,
            after.node,
            clock(after.from),
            above + ROW / 2,
            below + ROW / 2,
            below + ROW / 2 - 1,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" fill=\"#555\">red: a failover, from where it was cut off to where it went on; times are the \
         database's, UTC</text>\n</svg>",
        bottom + 30
    );
    svg
}

fn lanes(night: &Night) -> Vec<Lane<'_>> {
    let mut top = TOP;
    let mut lanes = Vec::new();
    for node in night.nodes() {
        let of_node = night.spans.iter().filter(|span| span.node == node);
        let all: std::collections::BTreeSet<_> = of_node.map(|span| span.artifact.as_str()).collect();
        let rows: Vec<_> = all.iter().copied().take(MOST_ROWS).collect();
        let lane = Lane { node, hidden: all.len() - rows.len(), rows, top };
        top += height(&lane) + GAP;
        lanes.push(lane);
    }
    lanes
}

fn height(lane: &Lane<'_>) -> i64 {
    i64::try_from(lane.rows.len()).unwrap_or(0) * ROW
}

fn place(lanes: &[Lane<'_>], span: &Span) -> Option<i64> {
    let lane = lanes.iter().find(|lane| lane.node == span.node)?;
    let row = lane.rows.iter().position(|artifact| *artifact == span.artifact)?;
    Some(lane.top + i64::try_from(row).ok()? * ROW)
}

fn x(night: &Night, at: i64) -> i64 {
    let all = (night.until - night.from).max(1);
    LEFT + (at - night.from).clamp(0, all) * (WIDTH - LEFT - RIGHT) / all
}

fn ticks(svg: &mut String, night: &Night, bottom: i64) {
    for tick in 0..=TICKS {
        let at = night.from + (night.until - night.from) * tick / TICKS;
        let (x, text) = (x(night, at), clock(at));
        // The day stands in the title of each lease.
        let time = text.get(11..19).unwrap_or(&text);
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{time}</text>",
            TOP - 8,
            TOP - 14
        );
    }
}

/// Names obey a rule that needs no escape.
fn rect(svg: &mut String, x: i64, y: i64, width: i64, height: i64, fill: &str, title: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"><title>{title}</title></rect>"
    );
}
