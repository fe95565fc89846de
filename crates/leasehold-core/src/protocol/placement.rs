//! How an artifact is placed, as data: a leader plans artifacts that it has not deployed itself.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::Labels;
use crate::name::{NameError, NodeId};
use crate::resolver::{ActivePassive, RoundRobin};

/// A minimum above this is a mistake: no cluster of this kind is so large.
pub const MAX_MIN_NODES: u32 = 10_000;
/// The longest time that a cluster may take to settle before it is rebalanced.
pub const MAX_SETTLE: Duration = Duration::from_secs(24 * 3600);

/// How an artifact is placed. Stored in the artifact's row; that of the newest configuration counts.
///
/// ```toml
/// resolver = "round-robin"        # or "active-passive", or the name of one of your own
/// min-nodes = 2                   # nothing is assigned until so many nodes have formed the cluster
/// strict = false                  # true: nor while fewer than that take part
/// nodes = ["a", "b"]              # only these node ids
/// elsewhere = false               # true: on any node while none of these takes part
/// labels = { zone = "eu" }        # only nodes with all of these labels
/// rebalance-ms = 30000            # off unless set
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Placement {
    /// The name of the resolver.
    pub resolver: Arc<str>,
    /// Nothing is assigned until so many nodes have formed the cluster. Afterwards failover goes on below it, unless
    /// the placement is strict; when all nodes have gone, the next ones form the cluster anew.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub min_nodes: u32,
    /// Nothing is assigned either while fewer than `min_nodes` nodes take part. What is held already runs on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict: bool,
    /// Only these nodes, unless empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeId>,
    /// While none of `nodes` takes part, any node will do; otherwise the artifact waits for one of them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub elsewhere: bool,
    /// Only nodes that have all of these labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What is held moves to where it belongs once the membership has not changed for so many milliseconds; what is
    /// held stays unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance_ms: Option<u64>,
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(n: &u32) -> bool {
    *n == 1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(b: &bool) -> bool {
    !b
}

/// Of a placement as it is stored.
const FIELDS: [&str; 7] = ["resolver", "min-nodes", "strict", "nodes", "elsewhere", "labels", "rebalance-ms"];

impl Placement {
    /// As it is stored. What a newer program has added is passed over: in a file that would be a mistake, here it must not
    /// stop a leader of this version from placing everything else.
    ///
    /// # Errors
    /// Text that is no placement.
    pub(crate) fn stored(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).or_else(|_| {
            let mut fields: serde_json::Map<_, _> = serde_json::from_str(text)?;
            fields.retain(|name, _| FIELDS.contains(&name.as_str()));
            serde_json::from_value(fields.into())
        })
    }

    /// Everything on one node; the others stand by.
    pub fn active_passive() -> Self {
        Self::by(ActivePassive::NAME)
    }

    /// Evenly over all nodes.
    pub fn round_robin() -> Self {
        Self::by(RoundRobin::NAME)
    }

    /// Evenly over these nodes only.
    ///
    /// # Errors
    /// [`NameError`] when a node id breaks the rule for names.
    pub fn pinned<N: AsRef<str>>(nodes: impl IntoIterator<Item = N>) -> Result<Self, NameError> {
        let nodes = nodes.into_iter().map(NodeId::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { nodes, ..Self::round_robin() })
    }

    /// By the resolver of this name, which every node should have: see
    /// [`NodeBuilder::add_resolver`](crate::node::NodeBuilder::add_resolver).
    pub fn by(resolver: impl AsRef<str>) -> Self {
        Self {
            resolver: resolver.as_ref().into(),
            min_nodes: 1,
            strict: false,
            nodes: Vec::new(),
            elsewhere: false,
            labels: Labels::new(),
            rebalance_ms: None,
        }
    }

    /// Assigns nothing until `min_nodes` nodes have formed the cluster.
    #[must_use]
    pub fn min_nodes(self, min_nodes: u32) -> Self {
        Self { min_nodes, ..self }
    }

    /// Assigns nothing either while fewer than `min_nodes` nodes take part.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { strict: true, ..self }
    }

    /// While none of the pinned nodes takes part, any node will do.
    #[must_use]
    pub fn or_elsewhere(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    /// Only nodes with this label, besides those that were given before.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Moves what is held to where it belongs, with the fewest moves, once the membership has not changed for `settle`.
    #[must_use]
    pub fn rebalance_after(self, settle: Duration) -> Self {
        Self { rebalance_ms: Some(u64::try_from(settle.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// A label that it asks for and `has` lacks.
    pub(crate) fn lacking(&self, has: &Labels) -> Option<(&String, &String)> {
        self.labels.iter().find(|(key, value)| has.get(*key) != Some(*value))
    }

    /// How long the membership must not have changed before what is held moves.
    pub(super) fn settle(&self) -> Option<Duration> {
        self.rebalance_ms.map(Duration::from_millis)
    }

    /// Says what cannot work.
    ///
    /// # Errors
    /// A text with the field, its value and the remedy.
    pub fn validate(&self) -> Result<(), String> {
        if self.min_nodes == 0 || self.min_nodes > MAX_MIN_NODES {
            return Err(format!("min-nodes {} is out of range: give 1 to {MAX_MIN_NODES}", self.min_nodes));
        }
        if self.strict && self.min_nodes == 1 {
            return Err(
                "strict has no effect with min-nodes 1: give min-nodes 2 or more, or leave strict out".into(),
            );
        }
        if self.elsewhere && self.nodes.is_empty() {
            return Err(
                "elsewhere has no effect without nodes: name the preferred nodes, or leave elsewhere out"
                    .into(),
            );
        }
        if self.settle().is_some_and(|settle| settle > MAX_SETTLE) {
            return Err(format!(
                "rebalance-ms {} is out of range: give at most {} (24 hours)",
                self.rebalance_ms.unwrap_or_default(),
                MAX_SETTLE.as_millis()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again_and_short() {
        let plain = Placement::round_robin();
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(text, r#"{"resolver":"round-robin"}"#);
        assert_eq!(serde_json::from_str::<Placement>(&text).unwrap(), plain);
        let full = Placement::pinned(["a", "b"]).unwrap().min_nodes(3).strict().or_elsewhere();
        let full = full.label("zone", "eu").rebalance_after(Duration::from_secs(30));
        let text = serde_json::to_string(&full).unwrap();
        assert_eq!(serde_json::from_str::<Placement>(&text).unwrap(), full);
        assert!(serde_json::from_str::<Placement>(r#"{"resolver":"x","min-node":2}"#).is_err());
    }

    #[test]
    fn refuses_what_cannot_work_and_says_what_can() {
        let refused = |placement: Placement| placement.validate().unwrap_err();
        assert!(refused(Placement::round_robin().min_nodes(0)).contains("give 1 to"));
        assert!(refused(Placement::round_robin().strict()).contains("min-nodes 2"));
        assert!(refused(Placement::round_robin().or_elsewhere()).contains("without nodes"));
        assert!(refused(Placement::round_robin().rebalance_after(Duration::MAX)).contains("24 hours"));
        assert!(Placement::pinned(["A"]).is_err());
    }
}
