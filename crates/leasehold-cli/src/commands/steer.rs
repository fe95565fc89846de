//! What operators ask of a cluster, and, with `--wait`, when it is done.

use std::time::Duration;

use leasehold_core::control::{ArtifactState, Overview, Reason};
use leasehold_core::duration;
use leasehold_core::name::{ArtifactName, NodeId};
use leasehold_core::protocol::request::Desired;
use leasehold_task::history;

use crate::arguments::{self, Asked, Awaited, Command};
use crate::cluster::{Cluster, find, present, somebody_lives};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::output::{json_line, line, one_line};
use crate::wait::{Progress, until};

/// The firings that are looked at for the one that was asked for.
const RECENT: u32 = 100;

pub(super) async fn steer(cluster: &Cluster, command: Command, json: bool) -> Result<(), Failure> {
    let done = match command {
        Command::Pause { name, asked, awaited } => pause(cluster, &name, &asked, awaited).await?,
        Command::Resume { name, asked, awaited } => resume(cluster, &name, &asked, awaited).await?,
        Command::Move { name, to, asked, awaited } => move_to(cluster, &name, &to, &asked, awaited).await?,
        Command::Unmove { name, asked } => {
            let (artifact, _) = cluster.artifact(&name).await?;
            cluster.asked(&asked).unmove_artifact(&artifact).await?;
            format!("{name} is placed as its placement says again")
        }
        Command::Fire { name, asked, awaited } => fire(cluster, &name, &asked, awaited).await?,
        Command::Drain { node, asked, awaited } => drain(cluster, &node, &asked, awaited).await?,
        Command::Undrain { node, asked, awaited } => undrain(cluster, &node, &asked, awaited).await?,
        Command::Evict { node, asked, awaited, consent } => {
            let (id, overview) = cluster.node(&node).await?;
            let session = present(&overview, &id);
            somebody_does(awaited, session.is_some(), &overview, cluster).await?;
            let ttl = session.map_or(Duration::ZERO, |state| state.ttl);
            confirm(
                consent,
                &format!(
                    "evicting {node} cuts off what it runs, within its ttl of {}",
                    duration::format(ttl)
                ),
            )?;
            evict(cluster, &id, &asked, awaited).await?
        }
        Command::Forget { name, asked, consent } => {
            let (artifact, _) = cluster.artifact(&name).await?;
            confirm(
                consent,
                &format!("forgetting {name} drops its desired state, its move and its commands"),
            )?;
            cluster.asked(&asked).forget(&artifact).await?;
            format!("{name} is forgotten; its tokens, checkpoints and history stay")
        }
        Command::Cluster(arguments::Cluster::Set(arguments::Setting::MaxTtl { time, asked })) => {
            max_ttl(cluster, time, &asked).await?
        }
        // The others are not for here.
        _ => return Err(Failure::invalid("no such command")),
    };
    match json {
        true => json_line(&serde_json::json!({ "done": done })),
        false => line(&one_line(&done)),
    }
}

/// Whoever would wait for what nobody does is refused at once, if there is something to do.
async fn somebody_does(
    awaited: Awaited,
    something: bool,
    overview: &Overview,
    cluster: &Cluster,
) -> Result<(), Failure> {
    if awaited.wait && something { somebody_lives(overview, cluster).await } else { Ok(()) }
}

/// Looks at an artifact until it is as wanted; meanwhile its first reason is shown.
async fn until_artifact(
    cluster: &Cluster,
    artifact: &ArtifactName,
    awaited: Awaited,
    what: &str,
    so: impl Fn(&ArtifactState) -> bool,
) -> Result<(), Failure> {
    until(awaited, what, async || {
        let overview = cluster.reader.overview().await?;
        if find(&overview, artifact).is_some_and(&so) {
            return Ok(Progress::Done);
        }
        let explanation = cluster.reader.explain(artifact).await?;
        // That somebody holds it is not why it is not done.
        let reason = explanation.reasons.iter().find(|reason| !matches!(reason, Reason::Held { .. }));
        let why = reason.map_or_else(|| "the cluster has not seen it yet".to_owned(), ToString::to_string);
        Ok(Progress::Waiting(why))
    })
    .await
}

async fn pause(cluster: &Cluster, name: &str, asked: &Asked, awaited: Awaited) -> Result<String, Failure> {
    let (artifact, overview) = cluster.artifact(name).await?;
    let held = find(&overview, &artifact).is_some_and(|state| state.holder.is_some());
    somebody_does(awaited, held, &overview, cluster).await?;
    cluster.asked(asked).pause(&artifact).await?;
    let so = |state: &ArtifactState| state.desired == Desired::Paused && state.holder.is_none();
    until_artifact(cluster, &artifact, awaited, "the pause", so).await?;
    Ok(match awaited.wait {
        true => format!("{name} is paused, and nobody runs it"),
        false => format!("{name} is to be paused; --wait returns when nobody runs it"),
    })
}

async fn resume(cluster: &Cluster, name: &str, asked: &Asked, awaited: Awaited) -> Result<String, Failure> {
    let (artifact, overview) = cluster.artifact(name).await?;
    somebody_does(awaited, true, &overview, cluster).await?;
    cluster.asked(asked).resume(&artifact).await?;
    let so = |state: &ArtifactState| state.desired == Desired::Active && state.holder.is_some();
    until_artifact(cluster, &artifact, awaited, "the resumption", so).await?;
    let holder = find(&cluster.reader.overview().await?, &artifact).and_then(|state| state.holder.clone());
    Ok(match holder.filter(|_| awaited.wait) {
        Some(holder) => format!("{name} is held by {holder}"),
        None => format!("{name} may run again"),
    })
}

async fn move_to(
    cluster: &Cluster,
    name: &str,
    to: &str,
    asked: &Asked,
    awaited: Awaited,
) -> Result<String, Failure> {
    let (artifact, overview) = cluster.artifact(name).await?;
    somebody_lives(&overview, cluster).await?;
    let (node, _) = cluster.node(to).await?;
    cluster.asked(asked).move_artifact(&artifact, &node).await?;
    let so = |state: &ArtifactState| state.holder.as_ref() == Some(&node);
    until_artifact(cluster, &artifact, awaited, "the move", so).await?;
    Ok(match awaited.wait {
        true => format!("{name} is held by {to}"),
        false => format!("{name} moves to {to}, and stays there until `leasehold unmove {name}`"),
    })
}

async fn fire(cluster: &Cluster, name: &str, asked: &Asked, awaited: Awaited) -> Result<String, Failure> {
    let (artifact, overview) = cluster.artifact(name).await?;
    somebody_lives(&overview, cluster).await?;
    let (kind, _) = cluster.reader.registered(&artifact).await?;
    if kind.as_str() != "task" {
        return Err(Failure::refused(format!(
            "{name} is of kind {kind}, and only tasks fire: `leasehold artifacts` lists the kinds"
        )));
    }
    let db = cluster.reader.connection();
    let recent = async || history::latest(db, &cluster.name, &artifact, RECENT).await.map_err(Failure::from);
    let command = cluster.asked(asked).fire_now(&artifact).await?;
    until(awaited, "the firing", async || {
        let fired = recent().await?;
        let ours = fired.iter().find(|fired| fired.command == command);
        Ok(match ours {
            Some(fired) if fired.outcome.is_some() => Progress::Done,
            Some(fired) => Progress::Waiting(format!("attempt {} on {}", fired.attempts, fired.node)),
            None => {
                let explanation = cluster.reader.explain(&artifact).await?;
                let why = explanation.reasons.first().map(ToString::to_string).unwrap_or_default();
                Progress::Waiting(format!("its holder has not taken it up: {why}"))
            }
        })
    })
    .await?;
    let fired = recent().await?.into_iter().find(|fired| fired.command == command && awaited.wait);
    match fired.map(|fired| (fired.node, fired.outcome.unwrap_or_default(), fired.error)) {
        None => Ok(format!("{name} is to fire; `leasehold history {name}` shows what became of it")),
        Some((node, outcome, None)) => Ok(format!("{name} fired on {node}: {outcome}")),
        Some((node, outcome, Some(error))) => {
            Err(Failure::failed(format!("{name} fired on {node}: {outcome}: {error}; see that node's log")))
        }
    }
}

async fn drain(cluster: &Cluster, name: &str, asked: &Asked, awaited: Awaited) -> Result<String, Failure> {
    let (node, overview) = cluster.node(name).await?;
    somebody_does(awaited, present(&overview, &node).is_some(), &overview, cluster).await?;
    cluster.asked(asked).drain(&node).await?;
    until(awaited, "the drain", async || {
        let overview = cluster.reader.overview().await?;
        Ok(match present(&overview, &node) {
            None => Progress::Done,
            Some(state) if state.draining && state.holds == 0 => Progress::Done,
            Some(state) => {
                let silent = state
                    .silent
                    .map(|silence| format!(", and has not renewed for {}", duration::about(silence)));
                let holds = format!("{name} holds {} leases", state.holds);
                Progress::Waiting(holds + &silent.unwrap_or_default())
            }
        })
    })
    .await?;
    Ok(match awaited.wait {
        true => format!("{name} is drained: it holds nothing"),
        false => format!("{name} is to be drained, until `leasehold undrain {name}`"),
    })
}

async fn undrain(cluster: &Cluster, name: &str, asked: &Asked, awaited: Awaited) -> Result<String, Failure> {
    let (node, _) = cluster.node(name).await?;
    if !cluster.asked(asked).readmit(&node).await? {
        let why = format!("node {name} is neither drained nor evicted by an operator; nothing to undo");
        return Err(Failure::refused(why));
    }
    until(awaited, "the undrain", async || {
        let overview = cluster.reader.overview().await?;
        Ok(match present(&overview, &node) {
            Some(state) if state.silent.is_some() && !state.evicted => {
                Progress::Waiting(format!("{name} has not renewed its session; see whether it runs"))
            }
            Some(state) if !state.draining && !state.evicted => Progress::Done,
            Some(state) if state.evicted => {
                Progress::Waiting(format!("{name} was evicted and has not joined again"))
            }
            Some(_) => Progress::Waiting(format!("{name} drains by itself")),
            None => Progress::Waiting(format!("{name} does not take part; start it")),
        })
    })
    .await?;
    Ok(format!("{name} takes part again"))
}

async fn evict(cluster: &Cluster, node: &NodeId, asked: &Asked, awaited: Awaited) -> Result<String, Failure> {
    cluster.asked(asked).evict(node).await?;
    until(awaited, "the eviction", async || {
        let overview = cluster.reader.overview().await?;
        Ok(match present(&overview, node) {
            None => Progress::Done,
            Some(state) if !state.evicted => Progress::Done,
            Some(state) => {
                let ttl = duration::format(state.ttl);
                Progress::Waiting(format!("{node} is out {ttl} after its last renewal"))
            }
        })
    })
    .await?;
    Ok(match awaited.wait {
        true => format!("{node} is out; it stays drained until `leasehold undrain {node}`"),
        false => format!("{node} may not renew any more; it stays drained until `leasehold undrain {node}`"),
    })
}

async fn max_ttl(cluster: &Cluster, time: Duration, asked: &Asked) -> Result<String, Failure> {
    cluster.asked(asked).set_max_ttl(time).await?;
    Ok(format!("nodes of cluster {} may have a ttl of up to {}", cluster.name, duration::format(time)))
}
