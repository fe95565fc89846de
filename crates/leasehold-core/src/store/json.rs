//! Sets of rows as one JSON parameter, so that no statement depends on how many there are. All databases read the
//! same keys: `a` artifact, `t` token, `g` session.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::audit::AuditEvent;
use crate::name::ArtifactName;
use crate::protocol::ids::{SessionId, Token};
use crate::protocol::request::{Deployed, Grant, Handover, KeepOut};

/// What is null is left out: MySQL reads a JSON null as a text, or not at all.
fn array(rows: impl Iterator<Item = Value>) -> String {
    let without_nulls = rows.map(|mut row| {
        if let Value::Object(fields) = &mut row {
            fields.retain(|_, value| !value.is_null());
        }
        row
    });
    Value::Array(without_nulls.collect()).to_string()
}

pub(super) fn grants(rows: &[Grant]) -> String {
    array(rows.iter().map(|r| json!({ "a": r.artifact.as_str(), "t": r.seen.0, "g": r.to.0 })))
}

pub(super) fn handovers(rows: &[Handover]) -> String {
    array(rows.iter().map(|r| json!({ "a": r.artifact.as_str(), "t": r.token.0, "g": r.to.map(|to| to.0) })))
}

pub(super) fn reruns(rows: &[(ArtifactName, Token)]) -> String {
    array(rows.iter().map(|(a, t)| json!({ "a": a.as_str(), "t": t.0 })))
}

/// Of several rows for one artifact the last counts.
pub(super) fn targets(rows: &[(ArtifactName, Option<SessionId>)]) -> String {
    let last: BTreeMap<_, _> = rows.iter().map(|(a, g)| (a, g)).collect();
    array(last.into_iter().map(|(a, g)| json!({ "a": a.as_str(), "g": g.map(|g| g.0) })))
}

pub(super) fn sessions(rows: &[SessionId]) -> String {
    array(rows.iter().map(|s| json!({ "g": s.0 })))
}

pub(super) fn uuids(rows: impl Iterator<Item = uuid::Uuid>) -> String {
    array(rows.map(|g| json!({ "g": g })))
}

/// Of several rows for one artifact and session the last counts: no statement may touch a row twice.
pub(super) fn keep_outs(rows: &[KeepOut]) -> String {
    let last: BTreeMap<_, _> = rows.iter().map(|r| ((&r.artifact, r.session), r)).collect();
    array(last.into_values().map(|r| {
        json!({ "a": r.artifact.as_str(), "g": r.session.0, "f": r.failures, "u": r.until_beat, "e": r.error })
    }))
}

pub(super) fn deployed<'a>(rows: impl Iterator<Item = (&'a ArtifactName, &'a Deployed)>) -> String {
    array(rows.map(|(a, d)| {
        let placement = json!(d.placement).to_string();
        json!({ "a": a.as_str(), "k": d.kind.as_str(), "f": d.fingerprint, "p": placement })
    }))
}

pub(super) fn events(rows: &[AuditEvent]) -> String {
    array(rows.iter().map(|e| {
        json!({
            "k": e.kind,
            "n": e.node.as_ref().map(|n| n.as_str()),
            "a": e.artifact.as_ref().map(|a| a.as_str()),
            "t": e.token.map(|t| t.0),
            "d": e.detail,
        })
    }))
}
