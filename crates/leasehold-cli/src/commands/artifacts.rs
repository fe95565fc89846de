//! The artifacts, and who holds them.

use leasehold_core::control::ArtifactState;
use leasehold_core::protocol::request::Desired;
use serde::Serialize;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::output::{Cell, Color, Report, Style, Table};

#[derive(Serialize)]
pub(super) struct Fields<'a> {
    artifact: &'a str,
    kind: Option<&'a str>,
    /// `active` or `paused`.
    desired: Desired,
    holder: Option<&'a str>,
    /// The holder has not renewed its session for longer than its ttl.
    silent: bool,
    token: i64,
    target: Option<&'a str>,
    preferred: Option<&'a str>,
    waiting: Option<String>,
}

impl<'a> From<&'a ArtifactState> for Fields<'a> {
    fn from(state: &'a ArtifactState) -> Self {
        Self {
            artifact: state.artifact.as_str(),
            kind: state.kind.as_ref().map(|kind| kind.as_str()),
            desired: state.desired,
            holder: state.holder.as_ref().map(|node| node.as_str()),
            silent: state.silent.is_some(),
            token: state.token.0,
            target: state.target.as_ref().map(|node| node.as_str()),
            preferred: state.preferred.as_ref().map(|node| node.as_str()),
            waiting: state.waiting.as_ref().map(ToString::to_string),
        }
    }
}

impl Fields<'_> {
    pub(super) fn holder(&self) -> Option<&str> {
        self.holder
    }

    pub(super) fn target(&self) -> Option<&str> {
        self.target
    }

    pub(super) fn preferred(&self) -> Option<&str> {
        self.preferred
    }

    /// What it does, in a few words, and whether that is as it should be.
    pub(super) fn state(&self) -> (String, Color) {
        if self.silent {
            return ("held by a node that is silent".to_owned(), Color::Bad);
        }
        let paused = self.desired == Desired::Paused;
        match (&self.waiting, self.holder, self.target) {
            (_, Some(_), _) if paused => ("to be paused".to_owned(), Color::Attention),
            (Some(why), ..) if paused => (why.clone(), Color::Attention),
            (Some(why), ..) => (why.clone(), Color::Bad),
            (None, _, Some(target)) => (format!("moves to {target}"), Color::Attention),
            (None, ..) => ("held".to_owned(), Color::Good),
        }
    }
}

pub(super) async fn report(cluster: &Cluster) -> Result<Report, Failure> {
    #[derive(Serialize)]
    struct All<'a> {
        artifacts: Vec<Fields<'a>>,
    }
    let overview = cluster.reader.overview().await?;
    let all = All { artifacts: overview.artifacts.iter().map(Fields::from).collect() };
    let mut table = Table::new(&["ARTIFACT", "KIND", "HOLDER", "TOKEN", "STATE"]);
    for fields in &all.artifacts {
        let (state, color) = fields.state();
        table.row([
            fields.artifact.into(),
            fields.kind.unwrap_or_default().into(),
            fields.holder.unwrap_or_default().into(),
            fields.token.to_string().into(),
            Cell::colored(state, color),
        ]);
    }
    let text = match table.is_empty() {
        true => "this cluster knows no artifact: no node has ever deployed one\n".to_owned(),
        false => table.render(Style::of_stdout()),
    };
    Report::new(text, &all)
}
