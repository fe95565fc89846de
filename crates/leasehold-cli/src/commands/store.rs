//! Message stores: how full, what is in them, and what people do with it.

use leasehold_core::control::Control;
use leasehold_core::store as database;
use leasehold_processor::store::{Depth, MessageStore};
use leasehold_processor::{SqlStore, Which};
use sea_orm::DatabaseConnection;
use serde::Serialize;

use crate::arguments::{Place, Store, WhichMessages};
use crate::cluster::{Cluster, target};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::output::{Report, Style, Table, age, clock, json_line, line, lines, one_line, view};

#[derive(Serialize)]
struct DepthFields {
    store: String,
    /// Counted up to 10,000; 10,001 stands for more.
    waiting: u64,
    parked: u64,
    oldest_ms: Option<u128>,
}

#[derive(Serialize)]
struct MessageFields {
    id: i64,
    message: String,
    key: Option<String>,
    bytes: u64,
    attempts: u32,
    appended_ms: i64,
    /// Of a message that waits: not handed over before.
    due_ms: Option<i64>,
    parked_ms: Option<i64>,
    /// Why the last attempt failed, or why it was parked.
    error: Option<String>,
    answer: Option<String>,
}

pub(super) async fn store(place: &Place, command: Store) -> Result<(), Failure> {
    let target = target(place)?;
    database::verify(&target).await?;
    let db = target.pool(2)?;
    let json = place.json;
    match command {
        Store::Depth { store, viewed } => {
            let stores = match store {
                Some(name) => vec![open(&db, &name).await?],
                None => {
                    let names = SqlStore::names(&db).await?;
                    names.iter().map(|name| SqlStore::new(&db, name)).collect::<Result<_, _>>()?
                }
            };
            view(viewed.watch, json, async || depth(&stores).await).await
        }
        Store::List { store, parked, after, limit } => {
            let store = open(&db, &store).await?;
            let found = if parked {
                parked_in(&store, after, limit).await?
            } else {
                waiting_in(&store, after, limit).await?
            };
            list(&found, parked)?.print(json)
        }
        Store::Peek { store, id } => peek(&open(&db, &store).await?, id).await?.print(json),
        Store::Replay { store, which, asked, consent } => {
            let opened = open(&db, &store).await?;
            let what = described(which);
            confirm(
                consent,
                &format!("replaying {what} of {store} delivers again what was parked, out of order"),
            )?;
            let control = Cluster::open(place).await?.asked(&asked);
            done(json, &control, "replayed", opened.replay(which.into()).await, &store, "parked").await
        }
        Store::Purge { store, parked, which, asked, consent } => {
            let opened = open(&db, &store).await?;
            let (what, kind) = (described(which), if parked { "parked" } else { "waiting" });
            confirm(consent, &format!("purging {what} of {store} ({kind}) destroys messages for good"))?;
            let control = Cluster::open(place).await?.asked(&asked);
            let purged = match parked {
                true => opened.purge_parked(which.into()).await,
                false => opened.purge(which.into()).await,
            };
            done(json, &control, "purged", purged, &store, kind).await
        }
    }
}

/// A store that is there: it has had a reader, or holds something.
async fn open(db: &DatabaseConnection, name: &str) -> Result<SqlStore, Failure> {
    let store = SqlStore::new(db, name)?;
    let names = SqlStore::names(db).await?;
    if names.iter().any(|known| known == name) || store.depth().await? != Depth::default() {
        return Ok(store);
    }
    Err(Failure::unknown("store", name, names.iter().map(String::as_str), "leasehold store depth"))
}

fn described(which: WhichMessages) -> String {
    which.id.map_or_else(|| "all messages".to_owned(), |id| format!("message {id}"))
}

impl From<WhichMessages> for Which {
    fn from(which: WhichMessages) -> Self {
        which.id.map_or(Self::All, Self::One)
    }
}

/// Tells what was done, and keeps it in the audit trail of the cluster that was named.
async fn done(
    json: bool,
    control: &Control,
    what: &str,
    count: Result<u64, leasehold_processor::Error>,
    store: &str,
    kind: &str,
) -> Result<(), Failure> {
    let count = match count {
        Ok(count) => count,
        Err(error) => {
            // It works in parts, and those before are done.
            control.tell(what, &format!("perhaps some {kind} messages of {store}, until: {error}")).await;
            return Err(error.into());
        }
    };
    if count == 0 {
        return Err(Failure::refused(format!(
            "nothing of {store} was {what}: there is no such message; see `leasehold store list {store}`"
        )));
    }
    control.tell(what, &format!("{count} {kind} messages of {store}")).await;
    match json {
        true => json_line(&serde_json::json!({ what: count })),
        false => line(&format!("{what} {count} messages of {store}")),
    }
}

async fn depth(stores: &[SqlStore]) -> Result<Report, Failure> {
    #[derive(Serialize)]
    struct All {
        stores: Vec<DepthFields>,
    }
    let mut all = All { stores: Vec::new() };
    let mut table = Table::new(&["STORE", "WAITING", "PARKED", "OLDEST"]);
    for store in stores {
        let depth = store.depth().await?;
        let oldest_ms = depth.oldest.map(|age| age.as_millis());
        table.row([
            store.name().into(),
            Depth::show(depth.waiting).into(),
            Depth::show(depth.parked).into(),
            oldest_ms.map(|ms| age(i64::try_from(ms).unwrap_or(i64::MAX))).unwrap_or_default().into(),
        ]);
        let (waiting, parked) = (depth.waiting, depth.parked);
        all.stores.push(DepthFields { store: store.name().to_owned(), waiting, parked, oldest_ms });
    }
    let text = match table.is_empty() {
        true => "no processor has ever read a store of this database\n".to_owned(),
        false => table.render(Style::of_stdout()),
    };
    Report::new(text, &all)
}

async fn waiting_in(store: &SqlStore, after: i64, limit: u32) -> Result<Vec<MessageFields>, Failure> {
    let found = store.list(after, limit).await?.into_iter();
    Ok(found
        .map(|message| MessageFields {
            id: message.id,
            message: message.message,
            key: message.key,
            bytes: message.bytes,
            attempts: message.attempts,
            appended_ms: message.appended.timestamp_millis(),
            due_ms: message.due.map(|due| due.timestamp_millis()),
            parked_ms: None,
            error: message.error,
            answer: None,
        })
        .collect())
}

async fn parked_in(store: &SqlStore, after: i64, limit: u32) -> Result<Vec<MessageFields>, Failure> {
    let found = store.parked(after, limit).await?.into_iter();
    Ok(found
        .map(|message| MessageFields {
            id: message.id,
            message: message.message,
            key: message.key,
            bytes: message.bytes,
            attempts: message.attempts,
            appended_ms: message.appended.timestamp_millis(),
            due_ms: None,
            parked_ms: Some(message.parked.timestamp_millis()),
            error: Some(message.reason),
            answer: message.answer,
        })
        .collect())
}

fn list(messages: &[MessageFields], parked: bool) -> Result<Report, Failure> {
    #[derive(Serialize)]
    struct All<'a> {
        messages: &'a [MessageFields],
    }
    let when = if parked { "PARKED" } else { "APPENDED" };
    let mut table = Table::new(&["ID", "MESSAGE", "KEY", "BYTES", "ATTEMPTS", when, "WHY"]);
    for message in messages {
        table.row([
            message.id.to_string().into(),
            message.message.as_str().into(),
            message.key.as_deref().unwrap_or_default().into(),
            message.bytes.to_string().into(),
            message.attempts.to_string().into(),
            clock(message.parked_ms.unwrap_or(message.appended_ms)).into(),
            message.error.as_deref().unwrap_or_default().into(),
        ]);
    }
    let text = match table.is_empty() {
        true => "there is none\n".to_owned(),
        false => table.render(Style::of_stdout()),
    };
    Report::new(text, &All { messages })
}

async fn peek(store: &SqlStore, id: i64) -> Result<Report, Failure> {
    #[derive(Serialize)]
    struct Fields<'a> {
        headers: &'a [(String, String)],
        content_type: Option<&'a str>,
        bytes: usize,
        /// The payload, if it is text.
        body: Option<&'a str>,
    }
    let name = store.name();
    let content = store.peek(id).await?.ok_or_else(|| {
        Failure::refused(format!(
            "{name} holds no message {id}: it was delivered, or never there; see `leasehold store list {name}`"
        ))
    })?;
    let body = std::str::from_utf8(&content.body).ok();
    let mut text: String = content
        .headers
        .iter()
        .map(|(header, value)| format!("{}\n", one_line(&format!("{header}: {value}"))))
        .collect();
    if let Some(kind) = &content.content_type {
        text.push_str(&format!("content-type: {}\n", one_line(kind)));
    }
    match body {
        Some(body) => text.push_str(&format!("\n{}\n", lines(body))),
        None => text.push_str(&format!("\n{} bytes that are no text\n", content.body.len())),
    }
    let content_type = content.content_type.as_deref();
    Report::new(text, &Fields { headers: &content.headers, content_type, bytes: content.body.len(), body })
}
