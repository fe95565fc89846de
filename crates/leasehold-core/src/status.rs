//! What a node shows of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::{ArtifactName, ClusterName, NodeId};
use crate::protocol::action::{Outcome, Refusal};
use crate::protocol::{SessionId, Token};

/// Where a node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has no session, and is trying to get one.
    #[default]
    Joining,
    /// It has a session that was renewed at least once.
    Joined,
    /// It has left; nothing follows.
    Left,
}

/// What an artifact says of what it works with, such as a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// It works; the text says with what.
    Working(Arc<str>),
    /// It cannot work at present, and tries to heal that: the last error.
    Impaired(Arc<str>),
}

impl Condition {
    /// Whether it works.
    pub fn is_working(&self) -> bool {
        matches!(self, Self::Working(_))
    }
}

/// An artifact that runs on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The token of its lease.
    pub token: Token,
    /// It was asked to end.
    pub revoked: bool,
    /// What it last said of what it works with, if it says anything.
    pub condition: Option<Condition>,
}

/// What a node shows of itself. A snapshot; the watch channel of [`Node::status`](crate::node::Node::status) brings
/// the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster.
    pub cluster: ClusterName,
    /// The node.
    pub node: NodeId,
    /// Where it stands.
    pub state: State,
    /// Its session, while it has one.
    pub session: Option<SessionId>,
    /// It plans for the cluster.
    pub leads: bool,
    /// The artifacts that run here.
    pub running: Arc<BTreeMap<ArtifactName, Running>>,
    /// The last error of artifacts that failed here and have not succeeded since.
    pub errors: Arc<BTreeMap<ArtifactName, Arc<str>>>,
    /// Why the cluster does not take this node, if so.
    pub refusal: Option<Refusal>,
    /// What the database said to the last call, if that was an error.
    pub database_error: Option<Arc<str>>,
    /// The user's runtime does not run tasks.
    pub runtime_stalled: bool,
}

impl Status {
    pub(crate) fn new(cluster: ClusterName, node: NodeId) -> Self {
        Self {
            cluster,
            node,
            state: State::Joining,
            session: None,
            leads: false,
            running: Arc::default(),
            errors: Arc::default(),
            refusal: None,
            database_error: None,
            runtime_stalled: false,
        }
    }

    /// Whether this node runs the artifact.
    pub fn runs(&self, artifact: &str) -> bool {
        self.running.keys().any(|name| name.as_str() == artifact)
    }

    pub(crate) fn joined(&mut self, session: SessionId) {
        self.session = Some(session);
        self.refusal = None;
    }

    pub(crate) fn trusted(&mut self) {
        self.state = State::Joined;
    }

    pub(crate) fn over(&mut self) {
        self.state = State::Joining;
        self.session = None;
        self.running = Arc::default();
    }

    pub(crate) fn left(&mut self) {
        self.over();
        self.state = State::Left;
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    pub(crate) fn start(&mut self, artifact: &ArtifactName, token: Token) {
        Arc::make_mut(&mut self.running)
            .insert(artifact.clone(), Running { token, revoked: false, condition: None });
    }

    pub(crate) fn report(&mut self, artifact: &ArtifactName, token: Token, condition: Condition) {
        if self.running.get(artifact).is_some_and(|run| run.token == token)
            && let Some(run) = Arc::make_mut(&mut self.running).get_mut(artifact)
        {
            run.condition = Some(condition);
        }
    }

    pub(crate) fn revoke(&mut self, artifact: &ArtifactName, token: Token) {
        let condition = self.running.get(artifact).and_then(|run| run.condition.clone());
        Arc::make_mut(&mut self.running)
            .insert(artifact.clone(), Running { token, revoked: true, condition });
    }

    pub(crate) fn stop(&mut self, artifact: &ArtifactName, token: Token) {
        if self.running.get(artifact).is_some_and(|run| run.token == token) {
            Arc::make_mut(&mut self.running).remove(artifact);
        }
    }

    pub(crate) fn note_end(&mut self, artifact: &ArtifactName, token: Token, outcome: &Outcome) {
        self.stop(artifact, token);
        match outcome {
            Outcome::Failed(error) => {
                _ = Arc::make_mut(&mut self.errors).insert(artifact.clone(), Arc::clone(error))
            }
            Outcome::Returned if self.errors.contains_key(artifact) => {
                Arc::make_mut(&mut self.errors).remove(artifact);
            }
            Outcome::Returned => {}
        }
    }
}
