//! One reason: what it is, and what to do about it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::duration::about;
use crate::name::NodeId;
use crate::protocol::waiting::Waiting;
use crate::store::Locked;
use crate::store::audit::StoredEvent;

/// Who asked for something, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Their name; empty if they gave none.
    pub by: String,
    /// Why; empty if they did not say.
    pub reason: String,
    /// When, by the database's wall clock, milliseconds since 1970.
    pub at_ms: i64,
}

impl Who {
    pub(super) fn of(event: &StoredEvent) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Detail {
            by: String,
            reason: String,
        }
        let detail: Detail = serde_json::from_str(&event.event.detail).unwrap_or_default();
        Self { by: detail.by, reason: detail.reason, at_ms: event.at_ms }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.by.is_empty() { "somebody who gave no name" } else { &self.by };
        write!(f, "by {by} at {}", time(self.at_ms))?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason) }
    }
}

/// A reason why an artifact does not run, or runs where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The database is in another life than the cluster has adopted: nobody is granted anything.
    NewIncarnation {
        /// How long the wait for sessions of the last life takes still; none if no node that takes part has told when it began.
        left: Option<Duration>,
        /// How long it takes.
        max_ttl: Duration,
    },
    /// No node lives.
    NoNode,
    /// There are sessions, and none has been renewed for longer than its ttl: nobody seems to live who would expire them.
    AllSilent {
        /// For so long.
        since: Duration,
    },
    /// No node leads at present.
    NoLeader,
    /// The session of its holder has not been renewed for longer than its ttl.
    Silent {
        /// The holder.
        node: NodeId,
        /// For so long.
        since: Duration,
        /// Nobody lives who would expire it.
        alone: bool,
    },
    /// It is paused.
    Paused {
        /// By whom, if the audit trail knows.
        by: Option<Who>,
        /// Who has not ended its run yet.
        holder: Option<NodeId>,
    },
    /// A transaction of a user's keeps the lease from moving on.
    Locked(Locked),
    /// What the planner waits for.
    Waiting(Waiting),
    /// A node that has deployed it drains.
    Draining {
        /// The node.
        node: NodeId,
        /// Who asked for it; none if the node itself does, as one that leaves.
        by: Option<Who>,
    },
    /// A node that has deployed it may not renew, and waits to expire.
    Evicted {
        /// The node.
        node: NodeId,
        /// Its session's ttl.
        ttl: Duration,
        /// It holds the lease.
        holds: bool,
    },
    /// A node that has deployed it has not renewed its session yet.
    Joining {
        /// The node.
        node: NodeId,
        /// When it should have.
        within: Duration,
    },
    /// A node holds it.
    Held {
        /// The node.
        node: NodeId,
        /// Since when, if the audit trail knows, milliseconds since 1970.
        since_ms: Option<i64>,
    },
    /// Its holder is to hand it over, and has not ended its run yet.
    Moving {
        /// The holder.
        from: NodeId,
        /// Who gets it.
        to: NodeId,
    },
    /// Its holder drains and no other node may take it.
    NowhereElse {
        /// The holder.
        node: NodeId,
    },
    /// An operator moved it to a node that cannot take it at present.
    Preferred {
        /// The node.
        node: NodeId,
        /// Why it cannot.
        why: &'static str,
    },
    /// Its last run failed.
    Failed {
        /// On this node.
        node: Option<NodeId>,
        /// When, milliseconds since 1970.
        at_ms: i64,
        /// With this.
        error: String,
    },
    /// A node is passed over because runs failed there; where all are, the one with the fewest failures runs it.
    KeptOut {
        /// The node.
        node: NodeId,
        /// How often.
        failures: u32,
        /// For so many of its renewals.
        beats: i64,
        /// Which take about so long.
        left: Duration,
        /// The last error.
        error: String,
    },
    /// Commands wait for the holder.
    Commands {
        /// How many.
        waiting: usize,
        /// The oldest one's verb.
        verb: String,
        /// Since when, milliseconds since 1970.
        since_ms: i64,
    },
}

impl Reason {
    /// A word for programs. Never changes.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NewIncarnation { .. } => "new-incarnation",
            Self::NoNode => "no-node",
            Self::AllSilent { .. } => "all-silent",
            Self::NoLeader => "no-leader",
            Self::Silent { .. } => "silent",
            Self::Paused { .. } => "paused",
            Self::Locked(_) => "locked",
            Self::Waiting(waiting) => match waiting {
                Waiting::NotDeployed => "not-deployed",
                Waiting::NoPinnedNode(_) => "no-pinned-node",
                Waiting::NoLabelledNode => "no-labelled-node",
                Waiting::TooFewNodes { .. } => "too-few-nodes",
                Waiting::Resolver { .. } => "resolver",
                Waiting::NextPass => "next-pass",
                Waiting::Paused => "paused",
            },
            Self::Draining { .. } => "draining",
            Self::Evicted { .. } => "evicted",
            Self::Joining { .. } => "joining",
            Self::Held { .. } => "held",
            Self::Moving { .. } => "moving",
            Self::NowhereElse { .. } => "nowhere-else",
            Self::Preferred { .. } => "preferred",
            Self::Failed { .. } => "failed",
            Self::KeptOut { .. } => "kept-out",
            Self::Commands { .. } => "commands",
        }
    }

    /// What to do about it, if anything.
    pub fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::NewIncarnation { .. } => {
                "wait: until then a session of the database's last life may trust itself. If it lasts longer, no node reaches the \
                 database: see `leasehold nodes`"
            }
            Self::NoNode => "start a node of this cluster",
            Self::AllSilent { .. } | Self::Silent { alone: true, .. } => {
                "start a node: it frees what dead ones hold, a ttl after it has joined. If their processes run, see in their logs why \
                 they do not reach the database"
            }
            Self::Silent { alone: false, .. } => "wait a moment: the nodes that live free what it holds",
            Self::NoLeader => "wait a moment: a node stands for election. If it lasts, see `leasehold nodes`",
            Self::Paused { .. } => "`leasehold resume` lets it run again",
            // Of several it may be any: nobody is told to end an innocent one.
            Self::Locked(Locked::By(transactions)) if transactions.len() == 1 => {
                let first = transactions.first().map_or(0, |transaction| transaction.backend);
                return Some(format!(
                    "let that transaction end, or end it: select pg_terminate_backend({first}) on PostgreSQL, KILL {first} on MariaDB \
                     and MySQL"
                ));
            }
            Self::Locked(_) => "let that transaction end",
            Self::Waiting(waiting) => return remedy(waiting).map(str::to_owned),
            Self::Draining { by: Some(_), node } => {
                return Some(format!("`leasehold undrain {node}` lets it take part again"));
            }
            Self::Draining { .. } => "start another node that deploys it, or wait until this one is back",
            Self::Evicted { .. } => "wait out its ttl; `leasehold undrain` lets its next session take part",
            Self::Joining { .. } => "wait for its first renewal",
            Self::Moving { .. } => "wait: it may finish its work for the drain time",
            Self::NowhereElse { .. } => {
                "start another node that deploys it; when the node has gone, its leases are free"
            }
            Self::Preferred { .. } => "start that node or mend it, or `leasehold unmove`",
            Self::Failed { .. } => "see that node's log; it is tried again after a pause",
            Self::KeptOut { .. } => "mend what fails there; a restart of that node forgets it",
            Self::Held { .. } | Self::Commands { .. } => return None,
        };
        Some(text.to_owned())
    }
}

fn remedy(waiting: &Waiting) -> Option<&'static str> {
    match waiting {
        Waiting::NotDeployed => {
            Some("start a node that deploys it; if it is gone for good, `leasehold forget`")
        }
        Waiting::Paused => None,
        Waiting::NoPinnedNode(_) => Some(
            "start one of these nodes, or `leasehold undrain` it; or change the placement's nodes or elsewhere",
        ),
        Waiting::NoLabelledNode => Some("start a node with these labels, or change the placement"),
        Waiting::TooFewNodes { .. } => Some("start more nodes, or lower min_nodes of the placement"),
        Waiting::Resolver { .. } => {
            Some("give every node that resolver (NodeBuilder::add_resolver), or change the placement")
        }
        Waiting::NextPass => {
            Some("wait a moment; if it lasts, the leader cannot plan: see its log, or evict it")
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewIncarnation { left, max_ttl } => {
                f.write_str("the database was restarted or failed over, and nothing is granted until all sessions from before are over")?;
                match left {
                    Some(left) => write!(f, ": in about {:.1} s", left.as_secs_f64()),
                    None => write!(f, ": in {:.1} s at most", max_ttl.as_secs_f64()),
                }
            }
            Self::NoNode => f.write_str("no node of the cluster lives"),
            Self::AllSilent { since } => {
                write!(
                    f,
                    "no node of the cluster has renewed its session for {}: they are dead, or do not reach the database",
                    about(*since)
                )
            }
            Self::Silent { node, since, .. } => write!(
                f,
                "{node}, which holds it, has not renewed its session for {}: it is dead, or does not reach the database",
                about(*since)
            ),
            Self::NoLeader => f.write_str("no node leads at present, so nobody plans"),
            Self::Paused { by, holder } => {
                f.write_str("paused")?;
                if let Some(by) = by {
                    write!(f, " {by}")?;
                }
                holder.as_ref().map_or(Ok(()), |node| write!(f, "; {node} has not ended its run yet"))
            }
            Self::Locked(Locked::By(transactions)) => {
                let (one, list) = (transactions.len() == 1, transactions.iter().map(ToString::to_string));
                let list: Vec<_> = list.collect();
                let who = if one { "a transaction holds" } else { "one of these transactions holds" };
                write!(f, "{who} the lease's row, so that it cannot be granted: {}", list.join("; "))
            }
            Self::Locked(Locked::Unknown(why)) => {
                write!(
                    f,
                    "a transaction holds the lease's row, so that it cannot be granted; which one cannot be told: {why}"
                )
            }
            Self::Locked(Locked::Free) => f.write_str("no transaction holds the lease's row"),
            Self::Waiting(waiting) => waiting.fmt(f),
            Self::Draining { node, by: Some(by) } => {
                write!(f, "{node}, which has deployed it, was drained {by}")
            }
            Self::Draining { node, by: None } => {
                write!(f, "{node}, which has deployed it, drains by itself, as a node that leaves")
            }
            Self::Evicted { node, ttl, holds } => {
                let what = if *holds { "holds it" } else { "has deployed it" };
                write!(
                    f,
                    "{node}, which {what}, is evicted: its leases are free {:.1} s after its last renewal",
                    ttl.as_secs_f64()
                )
            }
            Self::Joining { node, .. } => {
                write!(f, "{node}, which has deployed it, has not renewed its session yet")
            }
            Self::Held { node, since_ms: Some(since) } => write!(f, "{node} holds it since {}", time(*since)),
            Self::Held { node, since_ms: None } => write!(f, "{node} holds it"),
            Self::Moving { from, to } => write!(f, "it moves to {to}; {from} has not ended its run yet"),
            Self::NowhereElse { node } => {
                write!(f, "{node}, which holds it, drains, and no other node may take it")
            }
            Self::Preferred { node, why } => write!(f, "an operator moved it to {node}, but {why}"),
            Self::Failed { node, at_ms, error } => {
                let on = node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
                write!(f, "its last run failed{on} at {}: {error}", time(*at_ms))
            }
            Self::KeptOut { node, failures, beats, left, error } => write!(
                f,
                "{node} is passed over after {failures} failed runs, for {beats} more of its renewals, about {:.0} s: {error}",
                left.as_secs_f64()
            ),
            Self::Commands { waiting, verb, since_ms } => {
                write!(
                    f,
                    "{waiting} commands wait for its holder, the oldest ({verb}) since {}",
                    time(*since_ms)
                )
            }
        }
    }
}

/// The database's wall clock, for people.
fn time(ms: i64) -> String {
    let at: DateTime<Utc> = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}
