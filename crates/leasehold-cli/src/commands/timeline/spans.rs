//! From events to who held what from when to when. Pure.

use std::collections::{BTreeMap, BTreeSet};

use leasehold_core::store::audit::StoredEvent;

/// How a lease went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It goes on.
    Still,
    /// Its run was asked to end, or the node left.
    Politely,
    /// Its node died, was cut off or expired.
    Abruptly,
}

/// One lease while it was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) artifact: String,
    pub(super) node: String,
    pub(super) token: i64,
    /// Milliseconds since 1970.
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) ended: Ended,
}

/// What is drawn.
#[derive(Debug)]
pub(super) struct Night {
    pub(super) from: i64,
    pub(super) until: i64,
    /// In the order in which they began.
    pub(super) spans: Vec<Span>,
}

/// Who holds a lease at the end of what is drawn.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) artifact: String,
    pub(super) holder: Option<String>,
    pub(super) token: i64,
    /// Since when the holder has not renewed its session, if that is longer than its ttl: nobody has told its death.
    pub(super) dead: Option<i64>,
}

impl Night {
    /// From events, the oldest first, and from what is held now.
    pub(super) fn of(
        events: &[StoredEvent],
        held: &[Held],
        from: i64,
        until: i64,
        wanted: impl Fn(&str) -> bool,
    ) -> Self {
        let at = |event: Option<&StoredEvent>| event.map_or(from, |event| event.at_ms);
        let (earliest, latest) = (at(events.first()), at(events.last()));
        let mut spans = Spans { earliest, latest, ..Spans::default() };
        // Node ids are used again: whose session it is that expires.
        let mut sessions: BTreeMap<&str, &str> = BTreeMap::new();
        for stored in events {
            let (event, at) = (&stored.event, stored.at_ms);
            let node = event.node.as_ref().map(|node| node.as_str());
            let artifact = event.artifact.as_ref().map(|artifact| artifact.as_str());
            let token = event.token.map_or(0, |token| token.0);
            match (event.kind.as_str(), artifact, node) {
                ("joined", _, Some(node)) => {
                    // A session that joins holds nothing yet: whatever the last one held is over.
                    spans.end_node(node, at, Ended::Abruptly);
                    sessions.insert(node, &event.detail);
                }
                ("left", _, Some(node)) => spans.end_node(node, at, Ended::Politely),
                ("over" | "died", _, Some(node)) => spans.end_node(node, at, Ended::Abruptly),
                ("expired", ..) => {
                    let of = sessions.iter().find(|(_, session)| **session == event.detail);
                    if let Some((node, _)) = of {
                        spans.end_node(node, at, Ended::Abruptly);
                    }
                }
                ("started", Some(artifact), Some(node)) if wanted(artifact) => {
                    spans.begin(artifact, node, token, at);
                }
                ("revoked", Some(artifact), Some(node)) if wanted(artifact) => {
                    spans.end(artifact, node, token, at, Ended::Politely);
                }
                ("stopped" | "failed", Some(artifact), Some(node)) if wanted(artifact) && token > 0 => {
                    spans.end(artifact, node, token, at, Ended::Abruptly);
                }
                _ => {}
            }
        }
        for Held { artifact, holder, token, dead } in held.iter().filter(|held| wanted(&held.artifact)) {
            match holder {
                Some(node) => {
                    spans.still(artifact, node, *token);
                    spans.dead(artifact, node, *dead);
                }
                None => spans.lost(artifact),
            }
        }
        let mut spans = spans.close(until);
        spans.retain(|span| span.until >= from);
        spans.iter_mut().for_each(|span| span.from = span.from.max(from));
        spans.sort_by(|one, other| (one.from, &one.artifact).cmp(&(other.from, &other.artifact)));
        Self { from, until, spans }
    }

    pub(super) fn nodes(&self) -> BTreeSet<&str> {
        self.spans.iter().map(|span| span.node.as_str()).collect()
    }

    /// Leases that began on another node after they had ended abruptly, with the one before.
    pub(super) fn failovers(&self) -> impl Iterator<Item = (&Span, &Span)> {
        self.spans.iter().filter_map(|span| {
            let before =
                self.spans.iter().filter(|other| other.artifact == span.artifact && other.from < span.from);
            let before = before.max_by_key(|other| other.from)?;
            (before.node != span.node && before.ended == Ended::Abruptly).then_some((before, span))
        })
    }
}

/// What is known of each holding, by artifact and token, which names it for good.
#[derive(Default)]
struct Spans {
    /// Of what began before all that was read.
    earliest: i64,
    /// When the last of them happened.
    latest: i64,
    all: BTreeMap<(String, i64), Span>,
    /// The token of the last holding of each artifact that has no end yet.
    open: BTreeMap<String, i64>,
}

impl Spans {
    fn begin(&mut self, artifact: &str, node: &str, token: i64, at: i64) {
        if let Some(before) = self.open.insert(artifact.to_owned(), token)
            && let Some(span) = self.all.get_mut(&(artifact.to_owned(), before))
        {
            // Nobody has said that it was revoked: its node could not, or its word comes later.
            span.until = at.max(span.from);
            span.ended = if span.node == node { Ended::Politely } else { Ended::Abruptly };
        }
        self.put(artifact, node, token, (at, at), Ended::Still);
    }

    fn put(&mut self, artifact: &str, node: &str, token: i64, (from, until): (i64, i64), ended: Ended) {
        let span = Span { artifact: artifact.to_owned(), node: node.to_owned(), token, from, until, ended };
        self.all.insert((artifact.to_owned(), token), span);
    }

    /// Events of one node are in order; those of two need not be, as each writes its own.
    fn end(&mut self, artifact: &str, node: &str, token: i64, at: i64, ended: Ended) {
        match self.all.get_mut(&(artifact.to_owned(), token)) {
            Some(span) if span.node != node => return,
            // Its successor has begun before this was written: when it ended is known, and now how.
            Some(span) if span.ended == Ended::Abruptly => span.ended = ended,
            Some(span) if span.ended == Ended::Politely => {}
            Some(span) => (span.until, span.ended) = (at.max(span.from), ended),
            // It began before all that was read.
            None => self.put(artifact, node, token, (self.earliest, at), ended),
        }
        if self.open.get(artifact) == Some(&token) {
            self.open.remove(artifact);
        }
    }

    fn end_node(&mut self, node: &str, at: i64, ended: Ended) {
        let of_node = |(artifact, token): (&String, &i64)| {
            let span = self.all.get(&(artifact.clone(), *token))?;
            (span.node == node).then(|| (artifact.clone(), *token))
        };
        let open: Vec<_> = self.open.iter().filter_map(of_node).collect();
        for (artifact, token) in open {
            self.end(&artifact, node, token, at, ended);
        }
    }

    /// It is held now, whatever was read of it: that it began may not be written yet.
    fn still(&mut self, artifact: &str, node: &str, token: i64) {
        let of_this = (artifact.to_owned(), i64::MIN)..=(artifact.to_owned(), i64::MAX);
        let latest = self.all.range(of_this).next_back().map(|((_, token), span)| (*token, span.clone()));
        let from = match latest {
            Some((known, _)) if known >= token => return,
            // A node that runs anew what it has raises the token.
            Some((known, span)) if span.node == node && self.open.get(artifact) == Some(&known) => return,
            // Its end is not written yet.
            Some((known, _)) if self.open.get(artifact) == Some(&known) => self.latest,
            Some((_, span)) => span.until,
            None => self.earliest,
        };
        self.begin(artifact, node, token, from);
    }

    /// Its holder has been silent since then.
    fn dead(&mut self, artifact: &str, node: &str, since: Option<i64>) {
        if let Some((at, token)) = since.zip(self.open.get(artifact).copied()) {
            self.end(artifact, node, token, at, Ended::Abruptly);
        }
    }

    /// Nobody holds it: its end is not written, and was after all that is.
    fn lost(&mut self, artifact: &str) {
        if let Some(token) = self.open.remove(artifact)
            && let Some(span) = self.all.get_mut(&(artifact.to_owned(), token))
        {
            (span.until, span.ended) = (self.latest.max(span.from), Ended::Abruptly);
        }
    }

    fn close(mut self, until: i64) -> Vec<Span> {
        for (artifact, token) in self.open {
            if let Some(span) = self.all.get_mut(&(artifact, token)) {
                span.until = until.max(span.from);
            }
        }
        self.all.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use leasehold_core::name::{ArtifactName, NodeId};
    use leasehold_core::protocol::Token;
    use leasehold_core::store::audit::AuditEvent;

    use super::*;

    fn event(at: i64, kind: &str, node: &str, artifact: Option<(&str, i64)>, detail: &str) -> StoredEvent {
        let event = AuditEvent {
            kind: kind.to_owned(),
            node: Some(NodeId::new(node).unwrap()),
            artifact: artifact.map(|(artifact, _)| ArtifactName::new(artifact).unwrap()),
            token: artifact.map(|(_, token)| Token(token)),
            detail: detail.to_owned(),
        };
        StoredEvent { id: at, at_ms: at, event }
    }

    fn holds(artifact: &str, holder: Option<&str>, token: i64) -> Held {
        Held { artifact: artifact.to_owned(), holder: holder.map(str::to_owned), token, dead: None }
    }

    fn shown(night: &Night) -> Vec<(&str, &str, i64, i64, Ended)> {
        let spans = night.spans.iter();
        spans
            .map(|span| (span.artifact.as_str(), span.node.as_str(), span.from, span.until, span.ended))
            .collect()
    }

    #[test]
    fn a_polite_move_and_a_death_are_told_apart() {
        let events = [
            event(10, "joined", "a", None, "s1"),
            event(11, "joined", "b", None, "s2"),
            event(20, "started", "a", Some(("import", 1)), ""),
            event(30, "revoked", "a", Some(("import", 1)), "moved"),
            event(31, "started", "b", Some(("import", 2)), ""),
            event(60, "expired", "a", None, "s2"),
            event(61, "started", "a", Some(("import", 3)), ""),
        ];
        let night = Night::of(&events, &[], 25, 100, |_| true);
        assert_eq!(
            shown(&night),
            [
                ("import", "a", 25, 30, Ended::Politely),
                ("import", "b", 31, 60, Ended::Abruptly),
                ("import", "a", 61, 100, Ended::Still)
            ]
        );
        let failovers: Vec<_> = night.failovers().map(|(before, after)| (before.until, after.from)).collect();
        assert_eq!(failovers, [(60, 61)]);
        assert_eq!(Night::of(&events, &[], 25, 100, |artifact| artifact == "other").spans, []);
    }

    #[test]
    fn a_death_that_a_supervisor_tells_ends_what_its_node_held() {
        let events = [
            event(10, "started", "a", Some(("import", 1)), ""),
            event(20, "died", "a", None, "s1: signal 9"),
            event(21, "started", "b", Some(("import", 2)), ""),
        ];
        let night = Night::of(&events, &[], 0, 100, |_| true);
        assert_eq!(night.failovers().count(), 1);
        assert_eq!(shown(&night)[0], ("import", "a", 10, 20, Ended::Abruptly));
    }

    #[test]
    fn what_one_node_writes_late_ends_nothing_of_the_other() {
        let events = [
            event(10, "started", "a", Some(("import", 1)), ""),
            event(20, "started", "b", Some(("import", 2)), ""),
            event(21, "revoked", "a", Some(("import", 1)), "drained"),
            event(22, "left", "a", None, ""),
        ];
        let night = Night::of(&events, &[], 0, 100, |_| true);
        let expected = [("import", "a", 10, 20, Ended::Politely), ("import", "b", 20, 100, Ended::Still)];
        assert_eq!((shown(&night), night.failovers().count()), (expected.to_vec(), 0));
    }

    #[test]
    fn a_session_that_expires_takes_nothing_from_the_next_one_of_its_node() {
        let events = [
            event(10, "joined", "a", None, "s1"),
            event(20, "joined", "a", None, "s2"),
            event(21, "started", "a", Some(("import", 2)), ""),
            event(30, "expired", "b", None, "s1"),
        ];
        let night = Night::of(&events, &[], 0, 100, |_| true);
        assert_eq!(shown(&night), [("import", "a", 21, 100, Ended::Still)]);
    }

    #[test]
    fn what_began_before_all_that_was_read_is_drawn() {
        let events = [event(50, "revoked", "a", Some(("import", 7)), "moved")];
        let held = [holds("import", Some("b"), 8), holds("crm", Some("c"), 3)];
        let night = Night::of(&events, &held, 60, 100, |_| true);
        let expected = [("crm", "c", 60, 100, Ended::Still), ("import", "b", 60, 100, Ended::Still)];
        assert_eq!(shown(&night), expected);
        assert_eq!(Night::of(&events, &held, 40, 100, |_| true).spans.len(), 3);
    }

    #[test]
    fn what_is_not_written_yet_takes_nothing_of_the_past() {
        let events = [
            event(10, "started", "a", Some(("import", 1)), ""),
            event(11, "started", "a", Some(("crm", 1)), ""),
            event(50, "died", "a", None, "s1: signal 9"),
        ];
        let held = [holds("import", Some("b"), 2), holds("crm", None, 1)];
        let night = Night::of(&events, &held, 0, 100, |_| true);
        let expected = [
            ("import", "a", 10, 50, Ended::Abruptly),
            ("crm", "a", 11, 50, Ended::Abruptly),
            ("import", "b", 50, 100, Ended::Still),
        ];
        assert_eq!((shown(&night), night.failovers().count()), (expected.to_vec(), 1));
    }

    #[test]
    fn what_a_silent_node_holds_has_ended_with_its_last_renewal() {
        let events = [event(10, "started", "a", Some(("import", 1)), "")];
        let dead = [Held { dead: Some(40), ..holds("import", Some("a"), 1) }];
        let night = Night::of(&events, &dead, 0, 100, |_| true);
        assert_eq!(shown(&night), [("import", "a", 10, 40, Ended::Abruptly)]);
    }

    #[test]
    fn what_nobody_holds_has_ended() {
        let events = [
            event(10, "started", "a", Some(("import", 1)), ""),
            event(50, "expired", "b", None, "of a session that joined long ago"),
        ];
        let night = Night::of(&events, &[holds("import", None, 1)], 0, 100, |_| true);
        assert_eq!(shown(&night), [("import", "a", 10, 50, Ended::Abruptly)]);
    }
}
