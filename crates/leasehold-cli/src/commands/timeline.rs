//! Who held what, when: a picture of lanes by node, with failovers marked.

mod spans;
mod svg;

use std::path::Path;
use std::time::Duration;

use leasehold_core::duration;
use leasehold_core::name::NodeId;
use leasehold_core::store::audit::{Query, StoredEvent};

use self::spans::{Held, Night};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::{line, write};

/// Events that are read at a time.
const PAGE: u64 = 2_000;
/// So many are read at most: a picture of more shows nothing.
const MOST: usize = 200_000;
/// So many times further back the beginning of what is still held is looked for,
const BEFORE: u32 = 10;
/// and so many events further in any case: who joined long ago is known by then, in a cluster in which little happens.
const FURTHER: usize = 20_000;

pub(super) async fn timeline(
    cluster: &Cluster,
    since: Duration,
    file: &Path,
    artifacts: &[String],
) -> Result<(), Failure> {
    for artifact in artifacts {
        cluster.artifact(artifact).await?;
    }
    let now = cluster.reader.overview().await?.wall_ms;
    let back = |times: u32| now - i64::try_from((since * times).as_millis()).unwrap_or(i64::MAX / 2);
    let events = read(cluster, back(BEFORE)).await?;
    // After the events: what they end is not held any more.
    let overview = cluster.reader.overview().await?;
    let wanted = |artifact: &str| artifacts.is_empty() || artifacts.iter().any(|one| one == artifact);
    let renewed = |holder: &NodeId| overview.nodes.iter().find(|node| node.node == *holder)?.renewed_ms;
    let held = overview.artifacts.iter().map(|state| Held {
        artifact: state.artifact.to_string(),
        holder: state.holder.as_ref().map(ToString::to_string),
        token: state.token.0,
        dead: state.silent.and_then(|_| renewed(state.holder.as_ref()?)),
    });
    let night = Night::of(&events, &held.collect::<Vec<_>>(), back(1), now, wanted);
    let picture = svg::draw(&night, cluster.name.as_str());
    if file.as_os_str() == "-" {
        return write(&picture);
    }
    let failed =
        |error| Failure::failed(format!("{} cannot be written: {error}; name another file", file.display()));
    std::fs::write(file, picture).map_err(failed)?;
    line(&format!(
        "{}: {} in {} lanes over {}, {} failovers",
        file.display(),
        if night.spans.len() == 1 { "1 lease".to_owned() } else { format!("{} leases", night.spans.len()) },
        night.nodes().len(),
        duration::format(since),
        night.failovers().count()
    ))
}

/// The events since then, the oldest first.
async fn read(cluster: &Cluster, since: i64) -> Result<Vec<StoredEvent>, Failure> {
    let mut all: Vec<StoredEvent> = Vec::new();
    let (mut before, mut further) = (None, 0);
    loop {
        let page = cluster.reader.events(&Query { before, ..Query::default() }, PAGE).await?;
        let (full, oldest) = (page.len() as u64 == PAGE, page.last().map(|event| (event.id, event.at_ms)));
        all.extend(page);
        match oldest {
            Some((id, at)) if full && all.len() < MOST && (at >= since || further < FURTHER) => {
                before = Some(id);
                further += if at < since { PAGE as usize } else { 0 };
            }
            _ => break,
        }
    }
    all.reverse();
    Ok(all)
}
