//! The recorder: a process of its own with one clock. It knows nothing of leasehold.
//!
//! It is also what the cluster's effects reach: an endpoint for messages, and a store, which both refuse tokens lower than one
//! they have seen.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::extract::{Path as OfUrl, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};

use crate::record::{Mood, Outside, Parcel, Record, Telling, Told, now_ms};

/// One that hangs is not waited for longer than this by anybody.
const HANG: Duration = Duration::from_secs(3600);

struct Book {
    log: File,
    tokens: BTreeMap<String, i64>,
    mood: Mood,
}

type Shared = Arc<Mutex<Book>>;

/// Prints its address, and records until it is killed.
pub(crate) async fn run(log: &Path) -> Result<()> {
    let log = File::create(log)?;
    let book: Shared = Arc::new(Mutex::new(Book { log, tokens: BTreeMap::new(), mood: Mood::Well }));
    let routes = Router::new()
        .route("/tell", post(tell))
        .route("/outside", post(outside))
        .route("/deliver/{artifact}", post(deliver))
        .route("/mood", post(mood))
        .with_state(book);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

fn lock(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    /// In the order in which it got them: whoever is answered is in the log.
    fn write(&mut self, by: &str, told: impl IntoIterator<Item = Told>) -> Result<(), StatusCode> {
        let got = now_ms();
        let mut lines = Vec::new();
        for told in told {
            serde_json::to_writer(&mut lines, &Record { got, by: by.to_owned(), told })
                .map_err(|_| StatusCode::BAD_REQUEST)?;
            lines.push(b'\n');
        }
        self.log.write_all(&lines).map_err(|_| StatusCode::INSUFFICIENT_STORAGE)
    }

    /// Whether no higher token of the artifact was seen; it is seen from now on.
    fn accepts(&mut self, artifact: &str, token: i64) -> bool {
        let highest = self.tokens.entry(artifact.to_owned()).or_insert(token);
        let accepted = token >= *highest;
        *highest = token.max(*highest);
        accepted
    }
}

async fn tell(State(book): State<Shared>, Json(telling): Json<Telling>) -> Result<(), StatusCode> {
    lock(&book).write(&telling.by, telling.told)
}

async fn outside(State(book): State<Shared>, Json(effect): Json<Outside>) -> Result<StatusCode, StatusCode> {
    let Outside { by, artifact, token } = effect;
    let mut book = lock(&book);
    let accepted = book.accepts(&artifact, token);
    book.write(&by, [Told::Outside { artifact, token, accepted }])?;
    Ok(if accepted { StatusCode::OK } else { StatusCode::CONFLICT })
}

async fn mood(State(book): State<Shared>, Json(mood): Json<Mood>) {
    lock(&book).mood = mood;
}

async fn deliver(
    State(book): State<Shared>,
    OfUrl(artifact): OfUrl<String>,
    headers: HeaderMap,
    Json(Parcel { key, number }): Json<Parcel>,
) -> Result<StatusCode, StatusCode> {
    let mood = lock(&book).mood;
    match mood {
        Mood::Fails => return Err(StatusCode::SERVICE_UNAVAILABLE),
        Mood::Slow => tokio::time::sleep(Duration::from_millis(100)).await,
        Mood::Well | Mood::Hangs => {}
    }
    let token = headers.get("leasehold-token").and_then(|value| value.to_str().ok()?.parse().ok());
    let token = token.unwrap_or_default();
    let accepted = {
        let mut book = lock(&book);
        let accepted = book.accepts(&artifact, token);
        book.write("endpoint", [Told::Delivered { artifact, key, number, token, accepted }])?;
        accepted
    };
    if mood == Mood::Hangs {
        tokio::time::sleep(HANG).await;
    }
    Ok(if accepted { StatusCode::OK } else { StatusCode::CONFLICT })
}
