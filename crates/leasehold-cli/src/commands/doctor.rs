//! Whether a database can carry leases, and what to mend.

use std::process::ExitCode;
use std::time::Duration;

use leasehold_core::control::{Control, Overview};
use leasehold_core::duration;
use leasehold_core::name::ClusterName;
use leasehold_core::store::{self, ErrorKind, Link, Target, examine};
use leasehold_core::timing::DEFAULT_TTL;
use serde::Serialize;

use crate::arguments::Place;
use crate::cluster::{target, url};
use crate::failure::Failure;
use crate::output::{Color, Report, Style, one_line};

/// Enough for a 99th percentile that says something, and done within a second.
const WRITES: usize = 100;
/// A notification takes a millisecond where it arrives at all.
const HEARD: Duration = Duration::from_secs(1);
/// Schedules follow the database's clock; above this nodes warn.
const SKEW: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Fine,
    Warning,
    Error,
}

#[derive(Serialize)]
struct Finding {
    level: Level,
    /// What was looked at; a word for programs.
    check: &'static str,
    text: String,
    remedy: Option<String>,
}

#[derive(Default, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    fn fine(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(Level::Fine, check, text, "");
    }

    fn failed<const N: usize>(&mut self, looks: [(&'static str, Option<Failure>); N]) {
        for (check, error) in looks {
            if let Some(error) = error {
                self.add(Level::Error, check, error.to_string(), "");
            }
        }
    }

    fn add(&mut self, level: Level, check: &'static str, text: impl Into<String>, remedy: &str) {
        let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
        // Versions, errors and migrations are what somebody has stored.
        let text = one_line(&text.into());
        self.findings.push(Finding { level, check, text, remedy });
    }
}

/// Exits with 1 if something is an error.
pub(super) async fn doctor(place: &Place) -> Result<ExitCode, Failure> {
    let (target, cluster) = (target(place)?, ClusterName::new(&place.cluster)?);
    let mut findings = Findings::default();
    if server(&target, &mut findings).await && schema(&target, &mut findings).await {
        match Link::open(&target).await {
            Ok(link) => {
                // What one look cannot find out is a finding, and no reason to leave out the others.
                let failed = [
                    ("isolation", isolation(&link, &mut findings).await.err()),
                    ("replication", replication(&link, &mut findings).await.err()),
                    ("rights", rights(&link, &mut findings).await.err()),
                ];
                findings.failed(failed);
                let members = members(place, &mut findings).await;
                let (overview, error) =
                    members.map_or_else(|error| (None, Some(error)), |found| (found, None));
                let failed = [
                    ("cluster", error),
                    ("pooler", pooler(&target, &link, &cluster, &mut findings).await.err()),
                    ("latency", writes(&link, &cluster, overview.as_ref(), &mut findings).await.err()),
                ];
                findings.failed(failed);
                link.close().await;
            }
            Err(error) => findings.failed([("connection", Some(error.into()))]),
        }
    }
    let style = Style::of_stdout();
    Report::new(text(&findings, style), &findings)?.print(place.json)?;
    let bad = findings.findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if bad { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Reached, of a version that can, takes writes, loses no commits.
async fn server(target: &Target, findings: &mut Findings) -> bool {
    match store::inspect(target).await {
        Ok(found) => {
            let durable =
                if found.doubts.is_empty() { "commits are durable" } else { "commits outlive the server" };
            findings.fine("server", format!("{} at {target}: takes writes, {durable}", found.server));
            for doubt in found.doubts {
                findings.add(Level::Warning, "durability", doubt.text, doubt.remedy);
            }
            true
        }
        Err(error) => {
            let check = match error.kind() {
                ErrorKind::NotDurable => "durability",
                ErrorKind::ReadOnly => "read-only",
                ErrorKind::Unreachable => "reachable",
                _ => "server",
            };
            let remedy = if check == "reachable" {
                "check the URL, the network, and whether the server runs"
            } else {
                ""
            };
            findings.add(Level::Error, check, error.to_string(), remedy);
            false
        }
    }
}

/// What a connection of leasehold's own says of itself: it sets its level, and a pooler in front may undo that.
async fn isolation(link: &Link, findings: &mut Findings) -> Result<(), Failure> {
    match examine::isolation(link).await? {
        None => findings.fine("isolation", "writers follow one another, by the lock of the file"),
        Some(level) if level.replace(['-', '_'], " ").eq_ignore_ascii_case("read committed") => {
            findings.fine("isolation", "leasehold's connections read what is committed");
        }
        Some(level) => findings.add(
            Level::Error,
            "isolation",
            format!("leasehold's connections run at {level}, and not at READ COMMITTED, which they ask for"),
            "a pooler or proxy in front drops the setting: connect past it, or let it keep settings of a session",
        ),
    }
    Ok(())
}

async fn replication(link: &Link, findings: &mut Findings) -> Result<(), Failure> {
    if let Some(lag) = examine::lag(link).await? {
        findings.add(
            Level::Error,
            "replication",
            format!(
                "this server takes writes, and applies those of another one as well, {} behind",
                duration::format(lag)
            ),
            "leases that are written to both contradict each other: name the one server that all nodes use",
        );
    }
    Ok(())
}

/// Whether the schema is complete.
async fn schema(target: &Target, findings: &mut Findings) -> bool {
    let state = match store::schema_state(target).await {
        Ok(state) => state,
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::Denied => {
                    "grant select, insert, update and delete on the tables leasehold_* to this user"
                }
                _ => "",
            };
            findings.add(Level::Error, "schema", error.to_string(), remedy);
            return false;
        }
    };
    if !state.is_complete() {
        let remedy = "`leasehold migrate up`, or its owner applies `leasehold migrate sql`";
        findings.add(
            Level::Error,
            "schema",
            format!("the schema lacks {}", state.pending.join(", ")),
            remedy,
        );
        return false;
    }
    if state.unknown.is_empty() {
        findings.fine("schema", "the schema is complete");
    } else {
        let text = format!("a newer program has applied {}", state.unknown.join(", "));
        findings.add(Level::Warning, "schema", text, "that stops nobody; update this program when it suits");
    }
    true
}

async fn rights(link: &Link, findings: &mut Findings) -> Result<(), Failure> {
    let lacking = examine::lacking_rights(link).await?;
    if lacking.is_empty() {
        findings.fine("rights", "this user may read and write all tables of leasehold");
    } else {
        let text = format!("this user may not: {}", lacking.join(", "));
        findings.add(Level::Error, "rights", text, "grant select, insert, update and delete on these tables");
    }
    Ok(())
}

/// The nodes, if the cluster is there.
async fn members(place: &Place, findings: &mut Findings) -> Result<Option<Overview>, Failure> {
    let control = Control::open(&url(place)?, &place.cluster).await?;
    let reader = control.reader().await?;
    if !reader.clusters().await?.contains(&place.cluster) {
        let text = format!("there is no cluster {:?} yet", place.cluster);
        findings.add(
            Level::Warning,
            "cluster",
            text,
            "a node makes it when it first starts; or see --cluster",
        );
        return Ok(None);
    }
    let overview = reader.overview().await?;
    #[allow(clippy::disallowed_methods, reason = "it is what people are told of")]
    let skew = chrono::Utc::now().timestamp_millis() - overview.wall_ms;
    reader.close().await;
    if overview.live == overview.cluster.adopted {
        findings.fine("incarnation", "the cluster has adopted the database's present life");
    } else {
        let text = "the database is in another life than the cluster has adopted: nothing is granted";
        let remedy = "wait for max_ttl; `leasehold explain` says how long";
        findings.add(Level::Warning, "incarnation", text, remedy);
    }
    if skew.abs() > SKEW {
        let text = format!("this machine's clock differs from the database's by {skew} ms");
        findings.add(
            Level::Warning,
            "clock",
            text,
            "leases do not mind; schedules follow the database's clock: set it",
        );
    }
    let silent: Vec<_> = overview.nodes.iter().filter(|node| node.silent.is_some()).collect();
    if let Some(longest) = silent.iter().filter_map(|node| node.silent).max() {
        let ids: Vec<_> = silent.iter().map(|node| node.node.as_str()).collect();
        let text = format!(
            "of {} nodes, these have not renewed their session for longer than their ttl, up to {}: {}",
            overview.nodes.len(),
            duration::about(longest),
            ids.join(", ")
        );
        let remedy = "dead ones are forgotten a ttl after any node has joined; if their processes run, see in their logs why they do \
                      not reach the database";
        findings.add(Level::Warning, "silent", text, remedy);
    }
    let mut versions: Vec<_> = overview.nodes.iter().map(|node| node.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    match versions.as_slice() {
        [] => findings.add(Level::Warning, "versions", "no node of the cluster lives", "start one"),
        [version] => {
            findings.fine("versions", format!("{} nodes of version {version}", overview.nodes.len()))
        }
        several => findings.add(
            Level::Warning,
            "versions",
            format!("nodes of different versions: {}", several.join(", ")),
            "fine during a rolling update; otherwise update those that were left behind: `leasehold nodes`",
        ),
    }
    Ok(Some(overview))
}

async fn pooler(
    target: &Target,
    link: &Link,
    cluster: &ClusterName,
    findings: &mut Findings,
) -> Result<(), Failure> {
    match examine::notifies(target, link, cluster, HEARD).await? {
        None => {}
        Some(true) => findings.fine("pooler", "notifications arrive: no pooler in transaction mode is in front"),
        Some(false) => findings.add(
            Level::Warning,
            "pooler",
            "notifications do not arrive: a pooler in transaction mode seems to be in front",
            "leasehold works without, and hands over within two watches; connect past the pooler, or use its session mode",
        ),
    }
    Ok(())
}

async fn writes(
    link: &Link,
    cluster: &ClusterName,
    overview: Option<&Overview>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let mut taken = examine::latency(link, cluster, WRITES).await?;
    taken.sort_unstable();
    let at =
        |share: usize| taken.get(taken.len() * share / 100).or(taken.last()).copied().unwrap_or_default();
    let (p50, p99) = (at(50), at(99));
    let shortest = overview.and_then(|overview| overview.nodes.iter().map(|node| node.ttl).min());
    let (ttl, whose) = shortest.map_or((DEFAULT_TTL, "the default"), |ttl| (ttl, "the shortest in use"));
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let text = format!(
        "a durable write takes {:.1} ms (p50), {:.1} ms (p99); a renewal may take {:.0} ms at a ttl of {:.1} s ({whose})",
        ms(p50),
        ms(p99),
        ms(ttl / 4),
        ttl.as_secs_f64()
    );
    if p99 > ttl / 4 {
        findings.add(
            Level::Error,
            "latency",
            text,
            "sessions will be lost: raise the ttl, or give the database faster disks",
        );
    } else if p99 > ttl / 20 {
        findings.add(Level::Warning, "latency", text, "little is left for a bad moment: raise the ttl");
    } else {
        findings.fine("latency", text);
    }
    Ok(())
}

fn text(findings: &Findings, style: Style) -> String {
    let mut text = String::new();
    for Finding { level, text: what, remedy, .. } in &findings.findings {
        let mark = match level {
            Level::Fine => style.paint(Color::Good, "ok     "),
            Level::Warning => style.paint(Color::Attention, "warning"),
            Level::Error => style.paint(Color::Bad, "ERROR  "),
        };
        text.push_str(&format!("{mark}  {what}\n"));
        if let Some(remedy) = remedy {
            text.push_str(&format!("         {remedy}\n"));
        }
    }
    text
}
