//! The cluster that a command is about: one connection to look, and names that are checked.

use std::collections::BTreeSet;
use std::time::Duration;

use leasehold_core::control::{ArtifactState, Control, NodeState, Overview, Reader};
use leasehold_core::duration;
use leasehold_core::name::{ArtifactName, ClusterName, NodeId};
use leasehold_core::store::{ErrorKind, Target};

use crate::arguments::{Asked, Place, Secret};
use crate::failure::Failure;

/// Longer nobody waits for a refusal.
const LOOKS_ON: Duration = Duration::from_secs(10);

/// Where a database is, as the arguments say.
pub(crate) fn target(place: &Place) -> Result<Target, Failure> {
    Ok(Target::from_url(&url(place)?)?)
}

/// The same, where a file that does not exist is to be made.
pub(crate) fn new_target(place: &Place) -> Result<Target, Failure> {
    Ok(Target::from_url(&named(place)?.0)?)
}

fn named(place: &Place) -> Result<&Secret, Failure> {
    place.database.as_ref().ok_or_else(|| {
        Failure::invalid("no database is named: give --database URL, or set LEASEHOLD_DATABASE_URL")
    })
}

/// Whoever looks makes no file: a path that was mistyped would be one more empty database.
pub(crate) fn url(place: &Place) -> Result<String, Failure> {
    let url = &named(place)?.0;
    if !url.starts_with("sqlite:") {
        return Ok(url.clone());
    }
    Ok(match url.contains("mode=") {
        true => url.replace("mode=rwc", "mode=rw"),
        false => format!("{url}{}mode=rw", if url.contains('?') { '&' } else { '?' }),
    })
}

/// A cluster, and a connection to it.
pub(crate) struct Cluster {
    pub(crate) control: Control,
    pub(crate) reader: Reader,
    pub(crate) name: ClusterName,
    pub(crate) target: Target,
}

impl Cluster {
    /// Connects; the cluster must be there.
    pub(crate) async fn open(place: &Place) -> Result<Self, Failure> {
        let url = url(place)?;
        let target = target(place)?;
        let control = Control::open(&url, &place.cluster).await.map_err(|error| match error {
            leasehold_core::Error::Store(error) if error.kind() == ErrorKind::Schema => {
                Failure::failed(format!("{error}; or `leasehold migrate up`"))
            }
            other => other.into(),
        })?;
        let reader = control.reader().await?;
        let name = control.cluster().clone();
        let known = reader.clusters().await?;
        if !known.iter().any(|known| known == name.as_str()) {
            if known.is_empty() {
                return Err(Failure::missing(format!(
                    "there is no cluster {:?}, nor any other: a node makes its cluster when it first starts",
                    name.as_str()
                )));
            }
            let list = format!("--cluster {}", known.join(", "));
            return Err(Failure::unknown("cluster", name.as_str(), known.iter().map(String::as_str), &list));
        }
        Ok(Self { control, reader, name, target })
    }

    /// The cluster as somebody asks something of it.
    pub(crate) fn asked(&self, asked: &Asked) -> Control {
        self.control.clone().by(&asked.by).reason(&asked.reason)
    }

    /// An artifact that the cluster knows, with all others.
    pub(crate) async fn artifact(&self, name: &str) -> Result<(ArtifactName, Overview), Failure> {
        let overview = self.reader.overview().await?;
        let found = overview.artifacts.iter().find(|artifact| artifact.artifact.as_str() == name);
        match found {
            Some(found) => Ok((found.artifact.clone(), overview)),
            None => Err(unknown_artifact(name, &overview)),
        }
    }

    /// A node that takes part, or that an operator has excluded.
    pub(crate) async fn node(&self, name: &str) -> Result<(NodeId, Overview), Failure> {
        let overview = self.reader.overview().await?;
        let excluded = self.reader.exclusions().await?;
        let present = overview.nodes.iter().map(|node| &node.node);
        let all: Vec<_> = present.chain(excluded.iter().map(|exclusion| &exclusion.node)).collect();
        match all.iter().find(|id| id.as_str() == name) {
            Some(id) => Ok(((*id).clone(), overview)),
            None => {
                let known = all.iter().map(|id| id.as_str());
                Err(Failure::unknown("node", name, known, "leasehold nodes"))
            }
        }
    }
}

fn unknown_artifact(name: &str, overview: &Overview) -> Failure {
    let known = overview.artifacts.iter().map(|artifact| artifact.artifact.as_str());
    Failure::unknown("artifact", name, known, "leasehold artifacts")
}

/// What needs somebody to do it is refused where nobody lives.
pub(crate) async fn somebody_lives(overview: &Overview, cluster: &Cluster) -> Result<(), Failure> {
    let name = &cluster.name;
    if overview.nodes.is_empty() {
        let why = format!("no node of cluster {name} lives, so nobody would do it; start one");
        return Err(Failure::refused(why));
    }
    if let Some(silence) = overview.silent()
        && !anybody_renews(overview, cluster).await?
    {
        return Err(Failure::refused(format!(
            "no node of cluster {name} has renewed its session for {}, so nobody would do it; start one, or see why they do not \
             reach the database: `leasehold nodes`",
            duration::about(silence)
        )));
    }
    Ok(())
}

/// The database's clock may have jumped, or an outage may just have ended: whether somebody renews while this looks on.
async fn anybody_renews(before: &Overview, cluster: &Cluster) -> Result<bool, Failure> {
    let ttl = before.nodes.iter().map(|node| node.ttl).min().unwrap_or_default();
    // Renewals come each quarter of a ttl.
    tokio::time::sleep((ttl / 2).min(LOOKS_ON)).await;
    let after = cluster.reader.overview().await?;
    let beats = |overview: &Overview| -> BTreeSet<_> {
        overview.nodes.iter().map(|node| (node.session, node.beat)).collect()
    };
    Ok(beats(before) != beats(&after))
}

/// An artifact of an overview.
pub(crate) fn find<'a>(overview: &'a Overview, artifact: &ArtifactName) -> Option<&'a ArtifactState> {
    overview.artifacts.iter().find(|state| state.artifact == *artifact)
}

/// A node of an overview.
pub(crate) fn present<'a>(overview: &'a Overview, node: &NodeId) -> Option<&'a NodeState> {
    overview.nodes.iter().find(|state| state.node == *node)
}
