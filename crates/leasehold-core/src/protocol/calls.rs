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

impl Purpose {
    /// Whether who asks decides when it is asked again after a failure. Everything else follows from what is owed, and would be
    /// asked again with the next step.
    fn is_paced(self) -> bool {
        match self {
            Self::Clean | Self::Open | Self::Join | Self::Renew | Self::Watch => true,
            Self::Elect | Self::Leases | Self::Plan => true,
            Self::Register | Self::Held | Self::HandOver | Self::Rerun | Self::KeepOut => false,
            Self::Drain | Self::Deploy | Self::Expire(_) | Self::Adopt | Self::Leave => false,
        }
    }
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
    /// Purposes whose last call failed, and until when they are not asked for again.
    resting: BTreeMap<Purpose, Instant>,
}

/// A call that ended, by an answer or by its timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) purpose: Purpose,
    pub(super) id: CallId,
    pub(super) sent: Instant,
}

impl Calls {
    /// Whether a call for it is under way.
    pub(super) fn pending(&self, purpose: Purpose) -> bool {
        self.pending.contains_key(&purpose)
    }

    /// Whether nothing can be asked for it now: a call is under way, or rests after a failure.
    pub(super) fn busy(&self, purpose: Purpose) -> bool {
        self.pending(purpose) || self.resting.contains_key(&purpose)
    }

    /// A call has failed: a database that fails each call at once is not to be asked as fast as it answers. The pause counts
    /// from when the call was sent: after a timeout it is over.
    pub(super) fn failed(&mut self, ended: &Ended, now: Instant, pause: Duration) {
        let until = ended.sent + pause;
        if !ended.purpose.is_paced() && until > now {
            self.resting.insert(ended.purpose, until);
        }
    }

    /// Ends the pauses that are over.
    pub(super) fn rested(&mut self, now: Instant) {
        self.resting.retain(|_, until| *until > now);
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
        self.resting.clear();
    }

    /// The last call that was asked.
    pub(super) fn last(&self) -> CallId {
        CallId(self.asked)
    }

    /// When the next call is given up or may be repeated.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let timeouts = self.pending.values().map(|pending| pending.until);
        timeouts.chain(self.resting.values().copied()).min()
    }
}
