//! What a node shows of how its work is doing.

use std::time::Duration;

use leasehold_core::node::Node;
use leasehold_core::status::{Condition, Status};

/// Only a hang takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the only artifact of a node shows this.
///
/// # Panics
/// When it does not within a minute.
#[allow(clippy::panic)]
pub async fn shown(node: &Node, mut wanted: impl FnMut(&Condition) -> bool) -> Condition {
    let mut status = node.status();
    let of = |status: &Status| status.running.values().next().and_then(|running| running.condition.clone());
    let shown = status.wait_for(|status| of(status).is_some_and(|condition| wanted(&condition)));
    let shown = tokio::time::timeout(PATIENCE, shown).await;
    let shown = shown.ok().and_then(|status| of(&*status.ok()?));
    shown.unwrap_or_else(|| panic!("not shown; but {:?}", node.status().borrow()))
}

/// Its text, if it cannot work.
pub fn impaired(condition: &Condition) -> &str {
    match condition {
        Condition::Impaired(text) => text,
        _ => "",
    }
}
