//! Why an artifact runs where it does, or does not run: read from the database alone, for people.

mod reason;

use std::time::Duration;

pub use reason::{Reason, Who};

use super::overview::{ArtifactState, Snapshot};
use crate::error::Error;
use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::protocol::action::RecordKind;
use crate::protocol::planning::able;
use crate::protocol::request::{Desired, LeaseRow, NodeRow};
use crate::protocol::rules::Rules;
use crate::protocol::waiting::Waiting;
use crate::store::audit::{self, Query, StoredEvent};
use crate::store::{ErrorKind, Exclusion, Link, Locked, StoreError, dialect, people};

/// Who asks more often for the same cannot be told from who asked first.
const ASKED: u64 = 50;
/// Among so many events it is looked for when nodes have found the database in a new life: a large cluster tells a lot then.
const LATEST: u64 = 2_000;

/// Why an artifact runs where it does, or does not run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The artifact.
    pub state: ArtifactState,
    /// The reasons, those first that stop it.
    pub reasons: Vec<Reason>,
}

pub(super) async fn explain(
    link: &Link,
    cluster: &ClusterName,
    artifact: &ArtifactName,
) -> Result<Explanation, Error> {
    let snapshot = Snapshot::read(link, cluster).await?;
    let overview = snapshot.overview(link, cluster).await?;
    let nobody = overview.silent();
    let mut found = snapshot.reading.leases.iter().zip(overview.artifacts);
    let (row, state) =
        found.find(|(row, _)| row.artifact == *artifact).ok_or_else(|| super::unknown(artifact))?;
    let case = Case { link, cluster, snapshot: &snapshot, row, state: &state, nobody };
    let reasons = case.reasons().await?;
    Ok(Explanation { state, reasons })
}

/// One artifact, and what was read.
struct Case<'a> {
    link: &'a Link,
    cluster: &'a ClusterName,
    snapshot: &'a Snapshot,
    row: &'a LeaseRow,
    state: &'a ArtifactState,
    /// For how long no node has shown a sign of life, if none does.
    nobody: Option<Duration>,
}

impl Case<'_> {
    async fn reasons(&self) -> Result<Vec<Reason>, Error> {
        let mut reasons = Vec::new();
        let held = self.row.holder.and_then(|holder| self.snapshot.node(holder));
        self.incarnation(&mut reasons).await?;
        self.leadership(&mut reasons);
        self.silence(held, &mut reasons);
        if self.row.desired == Desired::Paused {
            reasons.push(Reason::Paused { by: self.paused_by().await?, holder: self.state.holder.clone() });
        }
        match held {
            Some(holder) => self.held(holder, &mut reasons).await?,
            None => self.free(&mut reasons).await?,
        }
        self.preferred(held, &mut reasons);
        self.kept_out(&mut reasons);
        let commands = people::commands(self.link.connection(), self.cluster, &self.row.artifact).await?;
        reasons.extend(commands.first().map(|first| Reason::Commands {
            waiting: commands.len(),
            verb: first.verb.clone(),
            since_ms: first.at_ms,
        }));
        Ok(reasons)
    }

    /// While incarnations differ nobody is granted anything.
    async fn incarnation(&self, reasons: &mut Vec<Reason>) -> Result<(), StoreError> {
        let view = &self.snapshot.view;
        if view.live != view.cluster.adopted {
            let max_ttl = view.cluster.max_ttl;
            let waited = self.waited().await?;
            reasons.push(Reason::NewIncarnation {
                left: waited.map(|waited| max_ttl.saturating_sub(waited)),
                max_ttl,
            });
        }
        Ok(())
    }

    /// For how long the node that will be the first to adopt the database's new life has waited. Each waits from when it first
    /// saw it, and one that was started again since waits anew.
    async fn waited(&self) -> Result<Option<Duration>, StoreError> {
        let view = &self.snapshot.view;
        // No index knows kinds, and what is far back says nothing of the present life.
        let mut seen = audit::latest(self.link.connection(), self.cluster, LATEST).await?;
        seen.retain(|found| found.event.kind == RecordKind::Sighted.as_str());
        let of = |node: &NodeRow| {
            let ours = |found: &&StoredEvent| found.event.node.as_ref() == Some(&node.node);
            seen.iter().find(ours).filter(|last| last.event.detail == *view.live.0)
        };
        let lives = |node: &&NodeRow| !node.evicted && self.snapshot.silence(node).is_none();
        let first = view.nodes.iter().filter(lives).filter_map(of).map(|found| found.at_ms).min();
        Ok(first.map(|at_ms| Duration::from_millis(u64::try_from(view.wall_ms - at_ms).unwrap_or(0))))
    }

    fn leadership(&self, reasons: &mut Vec<Reason>) {
        let view = &self.snapshot.view;
        let is_silent = |leader: &NodeRow| self.snapshot.silence(leader).is_some();
        if view.nodes.is_empty() {
            reasons.push(Reason::NoNode);
        } else if let Some(since) = self.nobody {
            reasons.push(Reason::AllSilent { since });
        } else if view.cluster.leader.and_then(|leader| self.snapshot.node(leader)).is_none_or(is_silent) {
            reasons.push(Reason::NoLeader);
        }
    }

    /// A row says who holds it, and not that the holder lives.
    fn silence(&self, held: Option<&NodeRow>, reasons: &mut Vec<Reason>) {
        let Some(holder) = held else { return };
        if let Some(since) = self.snapshot.silence(holder) {
            reasons.push(Reason::Silent { node: holder.node.clone(), since, alone: self.nobody.is_some() });
        }
    }

    async fn held(&self, holder: &NodeRow, reasons: &mut Vec<Reason>) -> Result<(), Error> {
        let started = self.last(&["started"]).await?;
        let since_ms =
            started.filter(|event| event.event.token == Some(self.row.token)).map(|event| event.at_ms);
        if self.row.desired == Desired::Active {
            reasons.push(Reason::Held { node: holder.node.clone(), since_ms });
        }
        if holder.evicted {
            reasons.push(Reason::Evicted { node: holder.node.clone(), ttl: holder.ttl, holds: true });
        }
        if self.row.desired == Desired::Paused || self.state.target.is_some() || holder.draining {
            // A handover skips a lease that a user's transaction has locked, as a grant does.
            self.locked(reasons).await?;
        }
        if let Some(to) = &self.state.target {
            reasons.push(Reason::Moving { from: holder.node.clone(), to: to.clone() });
        } else if holder.draining && !holder.evicted {
            reasons.push(Reason::NowhereElse { node: holder.node.clone() });
        }
        self.failed(reasons).await
    }

    async fn free(&self, reasons: &mut Vec<Reason>) -> Result<(), Error> {
        let paused = self.row.desired == Desired::Paused;
        self.locked(reasons).await?;
        let waiting = self.state.waiting.clone().filter(|_| !paused && !self.snapshot.view.nodes.is_empty());
        let Some(waiting) = waiting else { return Ok(()) };
        let kept_from = self.kept_from(&waiting);
        if !kept_from.is_empty() {
            let exclusions = people::exclusions(self.link.connection(), self.cluster).await?;
            reasons.extend(kept_from.iter().map(|node| unable(node, &exclusions)));
        }
        // It is deployed, where another reason was found; and that the next pass grants it is none then.
        let told = match waiting {
            Waiting::NotDeployed => !kept_from.is_empty(),
            Waiting::NextPass => !reasons.is_empty(),
            _ => false,
        };
        if !told {
            reasons.push(Reason::Waiting(waiting));
        }
        self.failed(reasons).await
    }

    /// The nodes that could run it, did they take part.
    fn kept_from(&self, waiting: &Waiting) -> Vec<&NodeRow> {
        let admitted = |node: &NodeRow| match waiting {
            Waiting::NotDeployed | Waiting::TooFewNodes { .. } => true,
            Waiting::NoPinnedNode(nodes) => nodes.contains(&node.node),
            Waiting::NoLabelledNode => self.row.placement.lacking(&node.labels).is_none(),
            Waiting::Paused | Waiting::Resolver { .. } | Waiting::NextPass => false,
        };
        let deployers = self.snapshot.deployers(&self.row.artifact);
        // Of those that are silent nothing is known.
        let lives = |node: &NodeRow| self.snapshot.silence(node).is_none();
        deployers.filter(|node| admitted(node) && !able(node, Rules::default()) && lives(node)).collect()
    }

    async fn locked(&self, reasons: &mut Vec<Reason>) -> Result<(), StoreError> {
        let db = self.link.connection();
        let dialect = dialect::of(db.get_database_backend())?;
        match dialect.locked(db, self.cluster, &self.row.artifact).await {
            Ok(Locked::Free) => {}
            Ok(locked) => reasons.push(Reason::Locked(locked)),
            // Whoever may not write cannot find out whether a grant would have to wait.
            Err(error) if error.kind() == ErrorKind::Denied => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The last failure, unless a run has begun since.
    async fn failed(&self, reasons: &mut Vec<Reason>) -> Result<(), Error> {
        if let Some(event) = self.last(&["failed"]).await?
            && event.event.token >= Some(self.row.token)
        {
            let node = event.event.node.clone();
            reasons.push(Reason::Failed { node, at_ms: event.at_ms, error: event.event.detail });
        }
        Ok(())
    }

    /// An operator's move that cannot be honoured at present.
    fn preferred(&self, held: Option<&NodeRow>, reasons: &mut Vec<Reason>) {
        let Some(preferred) = &self.row.preferred else { return };
        if held.is_some_and(|holder| holder.node == *preferred)
            || self.state.target.as_ref() == Some(preferred)
        {
            return;
        }
        let view = &self.snapshot.view;
        let why = match view.nodes.iter().find(|node| node.node == *preferred) {
            None => "it does not take part",
            Some(node) if node.evicted => "it is evicted",
            Some(node) if self.snapshot.silence(node).is_some() => {
                "it has not renewed its session for longer than its ttl"
            }
            Some(node) if node.draining => "it drains",
            Some(node)
                if !self.snapshot.deployers(&self.row.artifact).any(|other| other.node == node.node) =>
            {
                "it has not deployed the artifact"
            }
            Some(_) => "the leader has not planned it yet, or that node failed to run it",
        };
        reasons.push(Reason::Preferred { node: preferred.clone(), why });
    }

    fn kept_out(&self, reasons: &mut Vec<Reason>) {
        let of_this = self.snapshot.reading.keep_outs.iter().filter(|row| row.artifact == self.row.artifact);
        for row in of_this {
            let Some(node) = self.snapshot.node(row.session) else { continue };
            let beats = row.until_beat - node.beat;
            if beats > 0 {
                // Renewals come every quarter of a ttl unless the node is told otherwise.
                let left = node.ttl / 4 * u32::try_from(beats).unwrap_or(u32::MAX);
                let (failures, error) = (row.failures, row.error.clone());
                reasons.push(Reason::KeptOut { node: node.node.clone(), failures, beats, left, error });
            }
        }
    }

    /// Who paused it, of all who have asked for it since it ran: the first.
    async fn paused_by(&self) -> Result<Option<Who>, StoreError> {
        let query =
            Query { artifact: Some(&self.row.artifact), kinds: &["paused", "resumed"], ..Query::default() };
        let events = audit::find(self.link.connection(), self.cluster, &query, ASKED).await?;
        Ok(events.iter().take_while(|event| event.event.kind == "paused").last().map(Who::of))
    }

    async fn last(&self, kinds: &[&str]) -> Result<Option<StoredEvent>, StoreError> {
        let query = Query { artifact: Some(&self.row.artifact), kinds, ..Query::default() };
        Ok(audit::find(self.link.connection(), self.cluster, &query, 1).await?.into_iter().next())
    }
}

/// Why a node that has deployed an artifact may not get it.
fn unable(node: &NodeRow, exclusions: &[Exclusion]) -> Reason {
    let id: NodeId = node.node.clone();
    if node.evicted {
        return Reason::Evicted { node: id, ttl: node.ttl, holds: false };
    }
    if node.draining {
        let by = exclusions.iter().find(|exclusion| exclusion.node == id).map(|exclusion| Who {
            by: exclusion.by.clone(),
            reason: exclusion.reason.clone(),
            at_ms: exclusion.at_ms,
        });
        return Reason::Draining { node: id, by };
    }
    // Before its first renewal.
    Reason::Joining { node: id, within: Duration::min(node.ttl / 4, node.ttl) }
}
