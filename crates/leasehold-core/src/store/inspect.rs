//! What is checked before anything else, and the schema.

use leasehold_migration::SchemaState;

use super::dialect;
use super::error::{ErrorKind, StoreError};
use super::link::Link;
use super::target::Target;

/// What an inspection found, for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// The server or library and its version.
    pub server: String,
    /// What may lose commits when the machine crashes, although the server acknowledged them.
    pub doubts: Vec<Doubt>,
}

/// Something about a database that stops no node, and that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What was found, and what comes of it.
    pub text: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Refuses a database that cannot carry leases: one that takes no writes, loses commits, or lies on a network file
/// system. Changes nothing in it; in particular it creates no file.
///
/// # Errors
/// Says what was found and the remedy.
pub async fn inspect(target: &Target) -> Result<Findings, StoreError> {
    dialect::of(target.backend())?.inspect(target).await
}

/// Brings the schema up to date; see [`leasehold_migration::up`]. Tells the state from before.
///
/// # Errors
/// [`ErrorKind::Schema`](super::ErrorKind::Schema) when a table of another program has one of our names, or when the user
/// may not change the schema: then it names what is missing and how to apply it. [`ErrorKind::Conflict`] when a table that is to be
/// changed was in use all the time. Errors of the database.
pub async fn migrate(target: &Target) -> Result<SchemaState, StoreError> {
    let link = Link::open(target).await?;
    let done = up(&link).await;
    link.close().await;
    done
}

async fn up(link: &Link) -> Result<SchemaState, StoreError> {
    let db = link.connection();
    let error = match leasehold_migration::up(db).await {
        Ok(before) => return Ok(before),
        Err(error) => StoreError::schema(db.get_database_backend(), error),
    };
    if error.kind() == ErrorKind::Conflict {
        let remedy = "a transaction that lasts, such as a backup's, uses a table that is to be changed, or another process has \
                      been migrating all the time: let it end, and start again";
        return Err(error.explained(ErrorKind::Conflict, remedy));
    }
    if matches!(error.kind(), ErrorKind::Other | ErrorKind::Invalid | ErrorKind::Denied)
        && let Ok(state) = leasehold_migration::state(db).await
        && !state.is_complete()
    {
        return Err(error.explained(ErrorKind::Schema, &lack(&state)));
    }
    Err(error)
}

/// What the database has of the schema. Changes nothing.
///
/// # Errors
/// [`ErrorKind::Schema`](super::ErrorKind::Schema) when a table of another program has one of our names. Errors of the database.
pub async fn schema_state(target: &Target) -> Result<SchemaState, StoreError> {
    let link = Link::open(target).await?;
    let state = leasehold_migration::state(link.connection()).await;
    link.close().await;
    state.map_err(|e| StoreError::schema(target.backend(), e))
}

/// Says whether the schema is complete, for a node that may not change it. Changes nothing.
///
/// # Errors
/// [`ErrorKind::Schema`](super::ErrorKind::Schema) naming what is missing and how to apply it; errors of the database.
pub async fn verify(target: &Target) -> Result<(), StoreError> {
    let state = schema_state(target).await?;
    if state.is_complete() { Ok(()) } else { Err(StoreError::new(ErrorKind::Schema, "verify", lack(&state))) }
}

fn lack(state: &SchemaState) -> String {
    format!(
        "the schema lacks {}; apply it as its owner with the SQL of leasehold::store::schema_script (the example `schema` \
         prints it), or let a node with the right to change the schema start first",
        state.pending.join(", ")
    )
}
