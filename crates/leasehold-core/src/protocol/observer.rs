//! Watching beats: who has stopped renewing, by this node's clock and the database's rows alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ids::{Incarnation, SessionId};
use super::request::{ClusterRow, NodeRow, Scope};
use crate::clock::Instant;

/// What was seen of each session, and since when it has not changed.
///
/// A beat is stamped when its answer was *received*: the database executed that renewal earlier than that, so a
/// session whose beat has been still for `ttl` stopped trusting itself at least `margin` ago.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Observers(BTreeMap<SessionId, Seen>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    ttl: Duration,
    beat: i64,
    /// It was seen to renew.
    moved: bool,
    beat_since: Instant,
    pass: i64,
    pass_since: Instant,
}

impl Observers {
    /// Takes in the rows of one read. A read of everyone also says who is gone.
    pub(super) fn see(&mut self, rows: &[NodeRow], scope: Scope, at: Instant) {
        if scope == Scope::Everyone {
            self.0.retain(|session, _| rows.iter().any(|row| row.session == *session));
        }
        for row in rows {
            let seen = self.0.entry(row.session).or_insert(Seen {
                ttl: row.ttl,
                beat: row.beat,
                moved: false,
                beat_since: at,
                pass: row.pass,
                pass_since: at,
            });
            // Unequal, not lower: after a rollback of the database an older beat is news as well.
            if seen.beat != row.beat {
                (seen.beat, seen.beat_since, seen.moved) = (row.beat, at, true);
            }
            if seen.pass != row.pass {
                (seen.pass, seen.pass_since) = (row.pass, at);
            }
        }
    }

    /// Starts over with a session: an expiry found that it had renewed.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    /// The beat that was last seen of a session.
    pub(super) fn beat(&self, session: SessionId) -> Option<i64> {
        self.0.get(&session).map(|seen| seen.beat)
    }

    /// Whether this node has seen the session renew: its row alone may be that of the dead.
    pub(super) fn renewed(&self, session: SessionId) -> bool {
        self.0.get(&session).is_some_and(|seen| seen.moved)
    }

    /// Sessions other than `me` whose beat has been still for their ttl, with that beat.
    pub(super) fn due(&self, me: Option<SessionId>, now: Instant) -> Vec<(SessionId, i64)> {
        let others = self.0.iter().filter(|(session, _)| Some(**session) != me);
        others
            .filter(|(_, seen)| seen.beat_since + seen.ttl <= now)
            .map(|(id, seen)| (*id, seen.beat))
            .collect()
    }

    /// Whether a session other than `me` has been still for longer than renewals take, and is not given up yet.
    pub(super) fn suspects(&self, me: SessionId, now: Instant) -> bool {
        let mut others = self.0.iter().filter(|(session, _)| **session != me);
        others.any(|(_, seen)| {
            let still = now.since(seen.beat_since);
            still >= seen.ttl * 3 / 4 && still < seen.ttl * 2
        })
    }

    /// When the next session other than those in `busy` becomes due.
    pub(super) fn next_due(&self, busy: impl Fn(SessionId) -> bool) -> Option<Instant> {
        let waiting = self.0.iter().filter(|(session, _)| !busy(**session));
        waiting.map(|(_, seen)| seen.beat_since + seen.ttl).min()
    }

    /// Whether the renewals of a session that leads since `led` have carried no new pass for its ttl.
    pub(super) fn idle(&self, session: SessionId, led: Instant, now: Instant) -> bool {
        self.0.get(&session).is_some_and(|seen| seen.pass_since.max(led) + seen.ttl <= now)
    }
}

/// How long the adopted incarnation has differed from the one that answers, and the highest epoch ever seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Difference {
    since: Option<(Incarnation, Incarnation, Instant)>,
    highest_epoch: i64,
    max_ttl: Duration,
}

impl Difference {
    /// Takes in one read of the cluster's row; whether it shows a difference that this node has not seen before.
    pub(super) fn see(&mut self, cluster: &ClusterRow, live: &Incarnation, at: Instant) -> bool {
        self.highest_epoch = self.highest_epoch.max(cluster.epoch);
        // While they differ the row may be that of an older copy, or be changed by somebody who sees no session any more: the
        // longest one that a session may have joined under counts.
        let longest = self.max_ttl.max(cluster.max_ttl);
        self.max_ttl = if cluster.adopted == *live { cluster.max_ttl } else { longest };
        let known = matches!(&self.since, Some((old, new, _)) if *old == cluster.adopted && new == live);
        let news = cluster.adopted != *live && !known;
        if cluster.adopted == *live {
            self.since = None;
        } else if news {
            self.since = Some((cluster.adopted.clone(), live.clone(), at));
        }
        news
    }

    /// The adopted incarnation, the live one, and since when this node has seen this difference.
    pub(super) fn seen(&self) -> Option<&(Incarnation, Incarnation, Instant)> {
        self.since.as_ref()
    }

    /// Starts over: an adoption was answered, by whomever it was won.
    pub(super) fn forget(&mut self) {
        self.since = None;
    }

    /// The highest epoch that this process ever saw.
    pub(super) fn highest_epoch(&self) -> i64 {
        self.highest_epoch
    }

    /// The longest ttl that a session of this cluster may have.
    pub(super) fn max_ttl(&self) -> Duration {
        self.max_ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_incarnations_differ_the_longest_ttl_that_was_seen_counts() {
        let incarnation = |text: &str| Incarnation(text.into());
        let row = |max_ttl| ClusterRow {
            revision: 1,
            term: 1,
            leader: None,
            adopted: incarnation("old"),
            epoch: 1,
            max_ttl: Duration::from_secs(max_ttl),
            min_program: 0,
            formed: 1,
        };
        let mut difference = Difference::default();
        assert!(!difference.see(&row(20), &incarnation("old"), Instant::ZERO));
        // A copy that knows no session, in which somebody has lowered it.
        assert!(difference.see(&row(5), &incarnation("new"), Instant::ZERO));
        assert!(!difference.see(&row(5), &incarnation("new"), Instant::ZERO), "told once");
        assert_eq!(difference.max_ttl(), Duration::from_secs(20));
        difference.see(&row(5), &incarnation("old"), Instant::ZERO);
        assert_eq!(difference.max_ttl(), Duration::from_secs(5));
    }
}
