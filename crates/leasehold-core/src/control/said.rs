//! What the leader said of the resolvers that have not placed something.

use super::overview::ArtifactState;
use crate::error::Error;
use crate::name::{ClusterName, NodeId};
use crate::protocol::action::RecordKind;
use crate::protocol::waiting::Waiting;
use crate::resolver::ResolveError;
use crate::store::Link;
use crate::store::audit;

/// Events among which those are looked for that tell why a resolver has not answered.
const EVENTS: u64 = 200;

/// What the leader said of the resolvers that have not placed something: only it knows.
pub(super) async fn said_by_resolvers(
    link: &Link,
    cluster: &ClusterName,
    leader: Option<&NodeId>,
    artifacts: &mut [ArtifactState],
) -> Result<(), Error> {
    let unplaced = |artifact: &ArtifactState| matches!(artifact.waiting, Some(Waiting::Resolver { .. }));
    if !artifacts.iter().any(unplaced) {
        return Ok(());
    }
    let events = audit::latest(link.connection(), cluster, EVENTS).await?;
    let events = events.into_iter().map(|stored| stored.event);
    // What was said in an earlier term is over.
    let of_term = events.take_while(|event| event.kind != RecordKind::Elected.as_str());
    let said: Vec<_> = of_term
        .filter(|event| event.kind == RecordKind::Failed.as_str() && event.node.as_ref() == leader)
        .collect();
    for artifact in artifacts {
        if let Some(Waiting::Resolver { resolver, said: told }) = &mut artifact.waiting {
            let begins = ResolveError { resolver: resolver.to_string(), message: String::new() }.to_string();
            let event = said.iter().find(|event| event.detail.starts_with(&begins));
            *told = event.map(|event| event.detail.as_str().into());
        }
    }
    Ok(())
}
