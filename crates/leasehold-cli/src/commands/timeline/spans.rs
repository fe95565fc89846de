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

impl Night {
    /// From events, the oldest first.
    pub(super) fn of(events: &[StoredEvent], from: i64, until: i64, wanted: impl Fn(&str) -> bool) -> Self {
        let mut open: BTreeMap<&str, Span> = BTreeMap::new();
        let mut spans = Vec::new();
        let mut sessions: BTreeMap<&str, &str> = BTreeMap::new();
        for stored in events {
            let (event, at) = (&stored.event, stored.at_ms);
            let node = event.node.as_ref().map(|node| node.as_str());
            let artifact = event.artifact.as_ref().map(|artifact| artifact.as_str());
            let mut end_of = |open: &mut BTreeMap<&str, Span>, node: &str, ended| {
                let of_node: Vec<_> = open
                    .iter()
                    .filter(|(_, span)| span.node == node)
                    .map(|(artifact, _)| *artifact)
                    .collect();
                for artifact in of_node {
                    if let Some(span) = open.remove(artifact) {
                        spans.push(end(span, at, ended));
                    }
                }
            };
            match (event.kind.as_str(), artifact, node) {
                ("joined", _, Some(node)) => {
                    // A session that joins holds nothing yet: whatever the last one held is over.
                    end_of(&mut open, node, Ended::Abruptly);
                    sessions.insert(event.detail.as_str(), node);
                }
                ("left", _, Some(node)) => end_of(&mut open, node, Ended::Politely),
                ("over" | "died", _, Some(node)) => end_of(&mut open, node, Ended::Abruptly),
                ("expired", ..) => {
                    if let Some(node) = sessions.get(event.detail.as_str()) {
                        end_of(&mut open, node, Ended::Abruptly);
                    }
                }
                ("started", Some(artifact), Some(node)) if wanted(artifact) => {
                    let (token, until) = (event.token.map_or(0, |token| token.0), at);
                    let span = Span {
                        artifact: artifact.to_owned(),
                        node: node.to_owned(),
                        token,
                        from: at,
                        until,
                        ended: Ended::Still,
                    };
                    if let Some(before) = open.insert(artifact, span) {
                        // Nobody said that it was revoked: its node could not.
                        let ended = if before.node == node { Ended::Politely } else { Ended::Abruptly };
                        spans.push(end(before, at, ended));
                    }
                }
                ("revoked", Some(artifact), _) => {
                    if let Some(span) = open.remove(artifact) {
                        spans.push(end(span, at, Ended::Politely));
                    }
                }
                ("stopped" | "failed", Some(artifact), _) => {
                    if let Some(span) = open.remove(artifact) {
                        spans.push(end(span, at, Ended::Abruptly));
                    }
                }
                _ => {}
            }
        }
        spans.extend(open.into_values().map(|span| end(span, until, Ended::Still)));
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

fn end(span: Span, at: i64, ended: Ended) -> Span {
    Span { until: at.max(span.from), ended, ..span }
}

#[cfg(test)]
mod tests {
    use leasehold_core::name::{ArtifactName, NodeId};
    use leasehold_core::protocol::Token;
    use leasehold_core::store::audit::AuditEvent;

    use super::*;

    fn event(at: i64, kind: &str, node: &str, artifact: Option<&str>, detail: &str) -> StoredEvent {
        let event = AuditEvent {
            kind: kind.to_owned(),
            node: Some(NodeId::new(node).unwrap()),
            artifact: artifact.map(|artifact| ArtifactName::new(artifact).unwrap()),
            token: Some(Token(at)),
            detail: detail.to_owned(),
        };
        StoredEvent { id: at, at_ms: at, event }
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
            event(20, "started", "a", Some("import"), ""),
            event(30, "revoked", "a", Some("import"), "moved"),
            event(31, "started", "b", Some("import"), ""),
            event(60, "expired", "a", None, "s2"),
            event(61, "started", "a", Some("import"), ""),
        ];
        let night = Night::of(&events, 25, 100, |_| true);
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
        assert_eq!(Night::of(&events, 25, 100, |artifact| artifact == "other").spans, []);
    }

    #[test]
    fn a_death_that_a_supervisor_tells_ends_what_its_node_held() {
        let events = [
            event(10, "started", "a", Some("import"), ""),
            event(20, "died", "a", None, "s1: signal 9"),
            event(21, "started", "b", Some("import"), ""),
        ];
        let night = Night::of(&events, 0, 100, |_| true);
        assert_eq!(night.failovers().count(), 1);
        assert_eq!(shown(&night)[0], ("import", "a", 10, 20, Ended::Abruptly));
    }
}
