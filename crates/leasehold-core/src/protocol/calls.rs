//! Calls that are under way: at most one per purpose, each with a time after which its answer no longer counts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ids::SessionId;
use super::request::Request;
use crate::clock::Instant;

/// Identifies a call; rises in the order in which calls were asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A call for the driver to make. Its answer is delivered whenever it comes; the driver times nothing out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Goes with the answer.
    pub id: CallId,
    /// What to ask.
    pub request: Request,
}

/// What a call is for. There is one call for each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Purpose {
    Clean,
    Open,
    Register,
    Join,
    Renew,
    Watch,
    Held,
    HandOver,
    Rerun,
    KeepOut,
    Drain,
    Deploy,
    Expire(SessionId),
    Elect,
    Adopt,
    Leases,
    Plan,
    Leave,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    id: CallId,
    sent: Instant,
    until: Instant,
}

/// The calls under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Calls {
    asked: u64,
    pending: BTreeMap<Purpose, Pending>,
}

/// A call that ended, by an answer or by its timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) purpose: Purpose,
    pub(super) id: CallId,
    pub(super) sent: Instant,
}

impl Calls {
    pub(super) fn busy(&self, purpose: Purpose) -> bool {
        self.pending.contains_key(&purpose)
    }

    pub(super) fn ask(
        &mut self,
        purpose: Purpose,
        request: Request,
        now: Instant,
        timeout: Duration,
    ) -> Call {
        self.asked += 1;
        let id = CallId(self.asked);
        self.pending.insert(purpose, Pending { id, sent: now, until: now + timeout });
        Call { id, request }
    }

    /// The call that `id` answers, unless it was given up: then its answer is ignored.
    pub(super) fn answered(&mut self, id: CallId) -> Option<Ended> {
        let (&purpose, pending) = self.pending.iter().find(|(_, pending)| pending.id == id)?;
        let sent = pending.sent;
        self.pending.remove(&purpose);
        Some(Ended { purpose, id, sent })
    }

    /// Gives up the calls whose time is over. They finish on their own.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Ended> {
        let over = |pending: &Pending| pending.until <= now;
        let ended = self.pending.iter().filter(|(_, pending)| over(pending));
        let ended = ended.map(|(&purpose, p)| Ended { purpose, id: p.id, sent: p.sent }).collect();
        self.pending.retain(|_, pending| !over(pending));
        ended
    }

    /// Forgets all calls: their session is over.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    /// The last call that was asked.
    pub(super) fn last(&self) -> CallId {
        CallId(self.asked)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.until).min()
    }
}
