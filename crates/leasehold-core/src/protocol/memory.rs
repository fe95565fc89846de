//! What every request means, on plain maps: the reference that real databases are held against, and the database of
//! simulations and of the model.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::ids::{Incarnation, SessionId, Token};
use super::request::{
    Answer, ClusterRow, Deployment, DeploymentId, Desired, Grant, Handover, HeldRow, KeepOut, LeaseRow,
    NewNode, NodeRow, Placement, Request, Scope, View,
};
use super::rules::{Rule, Rules};
use crate::name::{ArtifactName, NodeId};

/// The database of one cluster, each request an atomic step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemoryDatabase {
    live: Incarnation,
    tenths_since_2020: i64,
    cluster: Option<ClusterRow>,
    nodes: BTreeMap<SessionId, NodeRow>,
    leases: BTreeMap<ArtifactName, Lease>,
    artifacts: BTreeMap<ArtifactName, Registered>,
    deployments: BTreeMap<DeploymentId, Deployment>,
    keep_outs: BTreeMap<(ArtifactName, SessionId), KeepOut>,
    excluded: BTreeSet<NodeId>,
    commands: BTreeMap<i64, ArtifactName>,
    commanded: i64,
    rules: Rules,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Lease {
    holder: Option<SessionId>,
    token: Token,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Registered {
    desired: Desired,
    placement: Placement,
    fingerprint: Uuid,
    preferred: Option<NodeId>,
    target: Option<SessionId>,
}

impl MemoryDatabase {
    /// An empty database whose server calls itself `live`.
    pub fn new(live: Incarnation, rules: Rules) -> Self {
        Self {
            live,
            tenths_since_2020: 1,
            cluster: None,
            nodes: BTreeMap::new(),
            leases: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            deployments: BTreeMap::new(),
            keep_outs: BTreeMap::new(),
            excluded: BTreeSet::new(),
            commands: BTreeMap::new(),
            commanded: 0,
            rules,
        }
    }

    /// The server restarts, or a copy of this state takes over: another incarnation answers from now on.
    pub fn restart(&mut self, live: Incarnation) {
        self.live = live;
    }

    /// The lease of an artifact: who holds it, and its token.
    pub fn lease(&self, artifact: &ArtifactName) -> Option<(Option<SessionId>, Token)> {
        self.leases.get(artifact).map(|lease| (lease.holder, lease.token))
    }

    /// What the cluster is asked to do with an artifact.
    pub fn desired(&self, artifact: &ArtifactName) -> Option<Desired> {
        self.artifacts.get(artifact).map(|row| row.desired)
    }

    /// The cluster's row, once a node has made it.
    pub fn cluster(&self) -> Option<&ClusterRow> {
        self.cluster.as_ref()
    }

    /// The incarnation that answers.
    pub fn live(&self) -> Incarnation {
        self.live.clone()
    }

    /// The sessions.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values()
    }

    /// Executes a request as one atomic step.
    pub fn apply(&mut self, request: &Request) -> Answer {
        match request {
            Request::Open { node, max_ttl } => self.open(node, *max_ttl),
            Request::Register { deployment } => self.register(deployment),
            Request::Join { node, incarnation } => self.join(node, incarnation),
            Request::Renew { session, beat, pass, incarnation, scope } => {
                let matched = self.renew(*session, *beat, *pass, incarnation);
                Answer::Renewed { matched, view: self.view(*scope, Some(*session)) }
            }
            Request::Watch { scope } => Answer::View(self.view(*scope, None)),
            Request::Held { session } => self.held(*session),
            Request::Leases { deployments } => self.read_leases(deployments),
            Request::Expire { session, beat, incarnation } => self.expire(*session, *beat, incarnation),
            Request::Elect { session, term, incarnation } => {
                let won = self.adopted_answers(incarnation) && self.row().term == *term;
                self.raise(won, |row| {
                    row.term += 1;
                    row.leader = Some(*session);
                })
            }
            Request::Adopt { old, live, highest_epoch } => self.adopt(old, live, *highest_epoch),
            Request::Grant { rows, incarnation, epoch, .. } => self.grant(rows, incarnation, *epoch),
            Request::Target { rows } => self.target(rows),
            Request::HandOver { session, rows, incarnation, epoch } => {
                self.hand_over(*session, rows, incarnation, *epoch)
            }
            Request::Rerun { session, rows, incarnation, epoch } => {
                self.rerun(*session, rows, incarnation, *epoch)
            }
            Request::KeepOut { rows } => {
                for row in rows {
                    self.keep_outs.insert((row.artifact.clone(), row.session), row.clone());
                }
                Answer::Matched(rows.len() as u64)
            }
            Request::Drain { session, draining } => {
                self.update_node(*session, |row| row.draining = *draining)
            }
            Request::Deploy { session, deployment } => {
                self.update_node(*session, |row| row.deployment = *deployment)
            }
            Request::Leave { sessions } => {
                let gone = sessions.iter().filter(|session| self.nodes.remove(session).is_some()).count();
                Answer::Matched(gone as u64)
            }
            Request::Desire { artifact, desired } => self.desire(artifact, *desired),
            Request::Prefer { artifact, node } => self.change(artifact, |row| {
                let changed = row.preferred != *node;
                row.preferred.clone_from(node);
                changed
            }),
            Request::Exclude { node, evict, .. } => {
                self.excluded.insert(node.clone());
                let rows = self.nodes.values_mut().filter(|row| row.node == *node);
                Answer::Matched(rows.map(|row| row.evicted |= *evict).count() as u64)
            }
            Request::Readmit { node } => Answer::Matched(u64::from(self.excluded.remove(node))),
            Request::Command { artifact, .. } => {
                if !self.artifacts.contains_key(artifact) {
                    return Answer::Commanded(None);
                }
                self.commanded += 1;
                self.commands.insert(self.commanded, artifact.clone());
                self.bump(1);
                Answer::Commanded(Some(self.commanded))
            }
            Request::Forget { artifact } => self.forget(artifact),
            Request::Form { formed, term } => {
                let leads = self.row().term == *term;
                self.raise(leads, |row| row.formed = *formed)
            }
        }
    }

    /// Requests follow an `Open`; a model that breaks this finds out here rather than later.
    fn row(&self) -> ClusterRow {
        self.cluster.clone().unwrap_or_else(|| self.new_cluster(Duration::ZERO))
    }

    fn new_cluster(&self, max_ttl: Duration) -> ClusterRow {
        ClusterRow {
            revision: 0,
            term: 0,
            leader: None,
            adopted: self.live.clone(),
            epoch: self.tenths_since_2020,
            max_ttl,
            min_program: 0,
            formed: 0,
        }
    }

    fn open(&mut self, node: &NodeId, max_ttl: Duration) -> Answer {
        if self.cluster.is_none() {
            self.cluster = Some(self.new_cluster(max_ttl));
        }
        let occupant = self.nodes.values().find(|row| row.node == *node).map(|row| self.shown(row));
        Answer::Opened { cluster: self.row(), live: self.live.clone(), occupant }
    }

    /// A session as it is read: an exclusion drains it.
    fn shown(&self, row: &NodeRow) -> NodeRow {
        NodeRow { draining: row.draining || self.excluded.contains(&row.node), ..row.clone() }
    }

    /// The heads, and whoever asks.
    fn view(&self, scope: Scope, asker: Option<SessionId>) -> View {
        let cluster = self.row();
        let mut nodes: Vec<_> = match scope {
            Scope::Everyone => self.nodes.values().map(|row| self.shown(row)).collect(),
            Scope::Heads => {
                let led = |row: &NodeRow| Some(row.session) == cluster.leader;
                let others = self.nodes.values().filter(|row| !led(row)).take(2).map(|row| row.session);
                let heads: BTreeSet<_> = others.chain(cluster.leader).chain(asker).collect();
                let rows = self.nodes.values().filter(|row| heads.contains(&row.session));
                rows.map(|row| self.shown(row)).collect()
            }
        };
        nodes.sort_by_key(|row| row.session);
        View { cluster, live: self.live.clone(), wall_ms: 0, scope, nodes }
    }

    fn adopted_answers(&self, incarnation: &Incarnation) -> bool {
        !self.rules.keep(Rule::ChangesCheckIncarnation)
            || (self.live == *incarnation && self.row().adopted == *incarnation)
    }

    fn raise(&mut self, changed: bool, change: impl FnOnce(&mut ClusterRow)) -> Answer {
        if let (true, Some(row)) = (changed, &mut self.cluster) {
            change(row);
        }
        Answer::Matched(u64::from(changed))
    }

    fn bump(&mut self, changed: u64) -> Answer {
        self.raise(changed > 0, |row| row.revision += 1);
        Answer::Matched(changed)
    }

    fn register(&mut self, deployment: &Deployment) -> Answer {
        let (mut made, mut changed) = (0, 0);
        for (name, deployed) in deployment.artifacts.iter() {
            let known = self.deployments.values().any(|set| {
                set.artifacts.get(name).is_some_and(|known| known.fingerprint == deployed.fingerprint)
            });
            let fresh = Registered {
                desired: Desired::Active,
                placement: deployed.placement.clone(),
                fingerprint: deployed.fingerprint,
                preferred: None,
                target: None,
            };
            match self.artifacts.entry(name.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(fresh);
                    made += 1;
                }
                Entry::Occupied(mut entry) if !known && entry.get().fingerprint != fresh.fingerprint => {
                    let row = entry.get_mut();
                    (row.placement, row.fingerprint) = (fresh.placement, fresh.fingerprint);
                    changed += 1;
                }
                Entry::Occupied(_) => {}
            }
            if !self.leases.contains_key(name) {
                self.leases.insert(name.clone(), Lease::default());
                changed += 1;
            }
        }
        self.deployments.insert(deployment.id, deployment.clone());
        self.raise(made + changed > 0, |row| row.revision += 1);
        Answer::Matched(made)
    }

    fn join(&mut self, new: &NewNode, incarnation: &Incarnation) -> Answer {
        if self.live != *incarnation || self.nodes.values().any(|row| row.node == new.node) {
            return Answer::Matched(0);
        }
        let row = NodeRow {
            session: new.session,
            node: new.node.clone(),
            beat: 0,
            pass: 0,
            ttl: new.ttl,
            draining: new.draining,
            evicted: false,
            deployment: new.deployment,
            labels: Arc::clone(&new.labels),
        };
        self.nodes.insert(new.session, row);
        Answer::Matched(1)
    }

    fn renew(&mut self, session: SessionId, beat: i64, pass: i64, incarnation: &Incarnation) -> bool {
        let same = self.live == *incarnation || !self.rules.keep(Rule::RenewalChecksIncarnation);
        match self.nodes.get_mut(&session) {
            Some(row) if same && row.beat < beat && !row.evicted => {
                row.beat = beat;
                row.pass = pass;
                true
            }
            _ => false,
        }
    }

    fn update_node(&mut self, session: SessionId, change: impl FnOnce(&mut NodeRow)) -> Answer {
        Answer::Matched(self.nodes.get_mut(&session).map(change).map_or(0, |()| 1))
    }

    fn held(&self, session: SessionId) -> Answer {
        let mine = self.leases.iter().filter(|(_, lease)| lease.holder == Some(session));
        let rows = mine.filter_map(|(artifact, lease)| {
            let registered = self.artifacts.get(artifact)?;
            Some(HeldRow {
                artifact: artifact.clone(),
                token: lease.token,
                desired: registered.desired,
                target: registered.target,
                command: self.last_command(artifact),
            })
        });
        Answer::Held { cluster: self.row(), rows: rows.collect() }
    }

    fn read_leases(&self, deployments: &[DeploymentId]) -> Answer {
        let rows = self.leases.iter().filter_map(|(artifact, lease)| {
            let registered = self.artifacts.get(artifact)?;
            Some(LeaseRow {
                artifact: artifact.clone(),
                holder: lease.holder,
                token: lease.token,
                desired: registered.desired,
                placement: registered.placement.clone(),
                fingerprint: registered.fingerprint,
                preferred: registered.preferred.clone(),
                target: registered.target,
            })
        });
        Answer::Leases {
            cluster: self.row(),
            rows: rows.collect(),
            deployments: deployments.iter().filter_map(|id| self.deployments.get(id).cloned()).collect(),
            keep_outs: self.keep_outs.values().cloned().collect(),
        }
    }

    fn expire(&mut self, session: SessionId, beat: i64, incarnation: &Incarnation) -> Answer {
        let still = self.nodes.get(&session).is_some_and(|row| row.beat == beat);
        let unmoved = still || !self.rules.keep(Rule::ExpiryChecksBeat);
        if !unmoved || !self.adopted_answers(incarnation) || self.nodes.remove(&session).is_none() {
            return Answer::Matched(0);
        }
        if !self.rules.keep(Rule::HolderWithoutRowIsFree) {
            for lease in self.leases.values_mut().filter(|lease| lease.holder == Some(session)) {
                lease.holder = None;
            }
        }
        Answer::Matched(1)
    }

    fn adopt(&mut self, old: &Incarnation, live: &Incarnation, highest_epoch: i64) -> Answer {
        let found = self.row().adopted == *old && self.live == *live;
        let tenths = self.tenths_since_2020;
        let raises = self.rules.keep(Rule::AdoptionRaisesEpoch);
        self.raise(found, |row| {
            row.adopted = live.clone();
            if raises {
                row.epoch = (row.epoch + 1).max(highest_epoch + 1).max(tenths);
            }
            row.term += 1;
            row.leader = None;
            row.revision += 1;
        })
    }

    fn grant(&mut self, rows: &[Grant], incarnation: &Incarnation, epoch: i64) -> Answer {
        if !self.adopted_answers(incarnation) {
            return Answer::Matched(0);
        }
        let compare = self.rules.keep(Rule::GrantChecksToken);
        let mut granted = 0;
        for row in rows {
            if let Some(lease) = self.leases.get_mut(&row.artifact)
                && (lease.token == row.seen || !compare)
            {
                *lease = Lease { holder: Some(row.to), token: lease.token.next(epoch) };
                granted += 1;
            }
        }
        self.bump(granted)
    }

    fn target(&mut self, rows: &[(ArtifactName, Option<SessionId>)]) -> Answer {
        let mut changed = 0;
        for (artifact, target) in rows {
            if let Some(row) = self.artifacts.get_mut(artifact)
                && row.target != *target
            {
                row.target = *target;
                changed += 1;
            }
        }
        self.bump(changed)
    }

    fn hand_over(
        &mut self,
        session: SessionId,
        rows: &[Handover],
        incarnation: &Incarnation,
        epoch: i64,
    ) -> Answer {
        let may_grant = self.adopted_answers(incarnation);
        let mut changed = 0;
        for row in rows {
            if let Some(lease) = self.leases.get_mut(&row.artifact)
                && lease.holder == Some(session)
                && lease.token == row.token
            {
                lease.holder = row.to.filter(|_| may_grant);
                if lease.holder.is_some() {
                    lease.token = lease.token.next(epoch);
                }
                changed += 1;
            }
        }
        self.bump(changed)
    }

    fn rerun(
        &mut self,
        session: SessionId,
        rows: &[(ArtifactName, Token)],
        incarnation: &Incarnation,
        epoch: i64,
    ) -> Answer {
        if !self.adopted_answers(incarnation) {
            return Answer::Matched(0);
        }
        let mut changed = 0;
        for (artifact, token) in rows {
            if let Some(lease) = self.leases.get_mut(artifact)
                && lease.holder == Some(session)
                && lease.token == *token
            {
                lease.token = lease.token.next(epoch);
                changed += 1;
            }
        }
        self.bump(changed)
    }

    fn desire(&mut self, artifact: &ArtifactName, desired: Desired) -> Answer {
        self.change(artifact, |row| std::mem::replace(&mut row.desired, desired) != desired)
    }

    /// Changes an artifact's row; matches it also where nothing changes, which raises no revision.
    fn change(&mut self, artifact: &ArtifactName, change: impl FnOnce(&mut Registered) -> bool) -> Answer {
        let Some(row) = self.artifacts.get_mut(artifact) else { return Answer::Matched(0) };
        let changed = change(row);
        self.raise(changed, |row| row.revision += 1);
        Answer::Matched(1)
    }

    fn last_command(&self, artifact: &ArtifactName) -> i64 {
        let of = self.commands.iter().rev().find(|(_, of)| *of == artifact);
        of.map_or(0, |(id, _)| *id)
    }

    /// The holder has carried a command out, or refused it.
    pub fn take_command(&mut self, command: i64) {
        self.commands.remove(&command);
    }

    fn forget(&mut self, artifact: &ArtifactName) -> Answer {
        let has = |row: &NodeRow| {
            let set = self.deployments.get(&row.deployment);
            set.is_some_and(|set| set.artifacts.contains_key(artifact))
        };
        if self.nodes.values().any(has) || self.artifacts.remove(artifact).is_none() {
            return Answer::Matched(0);
        }
        self.commands.retain(|_, of| of != artifact);
        self.bump(1)
    }
}
