//! Getting into the cluster: each attempt with a session of its own.

use super::action::{Action, Refusal};
use super::calls::{Calls, Purpose};
use super::ids::{Incarnation, SessionId};
use super::machine::{Io, PROGRAM};
use super::request::{Answer, CallError, ClusterRow, DeploymentId, NewNode, NodeRow, Request, Scope};
use super::session::Session;
use crate::clock::Instant;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Start,
    /// The node id is free under this incarnation.
    Free(Incarnation),
    /// This deployment is being registered: the node may be told of another one at any time.
    Registering(Incarnation, DeploymentId),
    /// It is registered.
    Registered(Incarnation, DeploymentId),
    /// The insert is under way, which says whether the node drains.
    Inserting(SessionId, Incarnation, DeploymentId, bool),
}

/// A node without a session, on its way to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Joining {
    step: Step,
    not_before: Instant,
    /// The rows of this process's former sessions were deleted.
    cleaned: bool,
}

impl Joining {
    pub(super) fn advance(&mut self, io: &mut Io<'_>, former: &[SessionId]) {
        if self.not_before > io.now {
            return;
        }
        let timeout = io.patience();
        match &self.step {
            Step::Start => {
                // The process knows that its own former sessions run nothing any more.
                if !self.cleaned && !former.is_empty() {
                    io.ask(Purpose::Clean, Request::Leave { sessions: former.to_vec() }, timeout);
                } else {
                    let max_ttl = io.config.max_ttl.unwrap_or(io.config.timings.ttl);
                    let node = io.config.node.clone();
                    io.ask(Purpose::Open, Request::Open { node, max_ttl }, timeout);
                }
            }
            Step::Free(incarnation) => {
                let (incarnation, deployment) = (incarnation.clone(), io.deployment.clone());
                self.step = Step::Registering(incarnation, deployment.id);
                io.ask(Purpose::Register, Request::Register { deployment }, timeout);
            }
            Step::Registered(incarnation, deployment) => {
                let (session, incarnation, deployment) = (io.fresh, incarnation.clone(), *deployment);
                let draining = io.intent != super::machine::Intent::Stay;
                let node = NewNode {
                    session,
                    node: io.config.node.clone(),
                    ttl: io.config.timings.ttl,
                    labels: std::sync::Arc::clone(&io.config.labels),
                    deployment,
                    draining,
                };
                io.ask(Purpose::Join, Request::Join { node, incarnation: incarnation.clone() }, timeout);
                self.step = Step::Inserting(session, incarnation, deployment, draining);
            }
            Step::Registering(..) | Step::Inserting(..) => {}
        }
    }

    /// Takes in an answer; a session, once it is inserted.
    pub(super) fn answer(
        &mut self,
        io: &mut Io<'_>,
        former: &mut Vec<SessionId>,
        purpose: Purpose,
        result: Result<Answer, CallError>,
    ) -> Option<Session> {
        match (purpose, result) {
            (Purpose::Clean, Ok(_)) => self.cleaned = true,
            (Purpose::Open, Ok(Answer::Opened { cluster, live, occupant })) => {
                self.opened(io, former, &cluster, live, occupant);
            }
            (Purpose::Register, Ok(_)) => {
                if let Step::Registering(incarnation, deployment) = &self.step {
                    self.step = Step::Registered(incarnation.clone(), *deployment);
                }
            }
            (Purpose::Join, Ok(Answer::Matched(1))) => {
                if let Step::Inserting(session, incarnation, deployed, drained) =
                    std::mem::take(&mut self.step)
                {
                    return Some(Session::new(session, incarnation, deployed, drained, io.now));
                }
            }
            (Purpose::Expire(session), Ok(_)) => {
                io.observers.forget(session);
                self.not_before = self.not_before.min(io.now);
            }
            (Purpose::Adopt, _) => {}
            // Failed, timed out, or lost a race: from the start, with a session of its own.
            (purpose, _) => {
                if let (Purpose::Join, Step::Inserting(ghost, ..)) = (purpose, &self.step) {
                    former.push(*ghost);
                }
                *self = Self { not_before: io.now + io.config.timings.watch, ..Self::default() };
            }
        }
        None
    }

    fn opened(
        &mut self,
        io: &mut Io<'_>,
        former: &[SessionId],
        cluster: &ClusterRow,
        live: Incarnation,
        occupant: Option<NodeRow>,
    ) {
        io.see(cluster, &live);
        self.not_before = io.now + io.config.timings.watch;
        if PROGRAM < cluster.min_program {
            let refusal = Refusal::ProgramTooOld { program: PROGRAM, min_program: cluster.min_program };
            return io.actions.push(Action::Refused(refusal));
        }
        let ttl = io.config.timings.ttl;
        if ttl > cluster.max_ttl {
            return io.actions.push(Action::Refused(Refusal::TtlTooLong { ttl, max_ttl: cluster.max_ttl }));
        }
        let Some(row) = occupant else {
            self.not_before = io.now;
            self.step = Step::Free(live);
            return;
        };
        if former.contains(&row.session) {
            // A ghost of our own: an insert that was given up and committed late.
            self.cleaned = false;
            self.not_before = io.now;
            return;
        }
        let moved = io.observers.beat(row.session).is_some_and(|beat| beat != row.beat);
        io.observers.see(std::slice::from_ref(&row), Scope::Heads, io.now);

        if moved {
            io.actions.push(Action::Refused(Refusal::NodeIdInUse {
                node: row.node,
                session: row.session,
                beat: row.beat,
            }));
        } else if cluster.adopted == live
            && io.observers.due(None, io.now).iter().any(|(session, _)| *session == row.session)
        {
            let expire = Request::Expire { session: row.session, beat: row.beat, incarnation: live };
            let timeout = io.patience();
            io.ask(Purpose::Expire(row.session), expire, timeout);
        }
    }

    pub(super) fn next_wake(&self, calls: &Calls) -> Option<Instant> {
        let waits = [Purpose::Clean, Purpose::Open, Purpose::Register, Purpose::Join];
        let busy = waits.into_iter().any(|purpose| calls.busy(purpose));
        (!busy).then_some(self.not_before)
    }
}
