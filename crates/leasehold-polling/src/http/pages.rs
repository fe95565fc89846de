//! The poller of a URL.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use leasehold_core::bytes::Bytes;
use leasehold_core::lease::Lease;
use leasehold_core::message::MessageId;
use reqwest::{Client, Url, header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{self, Answer, Page};
use super::config::{HttpConfig, Pages};
use super::json;
use crate::error::Error;
use crate::poller::{Batch, Cursor, Item, Poller};

/// Where the next poll goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// The page, if it is not the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The value of the parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Of the first page, as it was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    /// So many items of the page are done,
    #[serde(skip_serializing_if = "is_zero")]
    done: usize,
    /// if it is still this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<Uuid>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Place {
    fn read(cursor: Option<&Cursor>) -> Self {
        // What cannot be read was written for another configuration: from the beginning.
        cursor.and_then(|cursor| serde_json::from_str(&cursor.to_string()).ok()).unwrap_or_default()
    }

    fn cursor(&self) -> Cursor {
        // Texts and numbers have a JSON.
        Cursor::new(serde_json::to_string(self).unwrap_or_default())
    }

    /// The same page, whatever of it is done.
    fn is_page_of(&self, other: &Self) -> bool {
        (&self.url, &self.token) == (&other.url, &other.token)
    }
}

/// A page of which not all items were given.
struct Kept {
    place: Place,
    items: Vec<Bytes>,
    content_type: Option<Arc<str>>,
    /// Where it goes on after it, and whether there is more.
    next: Place,
    more: bool,
}

/// Polls a URL.
pub(super) struct Paged {
    config: HttpConfig,
    url: Url,
    client: Client,
    kept: Mutex<Option<Kept>>,
}

impl fmt::Debug for Paged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paged").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl Paged {
    pub(super) fn new(config: HttpConfig) -> Result<Self, String> {
        config.problem()?;
        let (url, client) = (config.parsed_url()?, answer::client(&config)?);
        Ok(Self { config, url, client, kept: Mutex::default() })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, place: &Place) -> Result<Url, Error> {
        let mut url = match &place.url {
            // It was joined with the first when it was found.
            Some(url) => Url::parse(url)
                .map_err(|error| Error::refused(self.place(), format!("the next page: {error}")))?,
            None => self.url.clone(),
        };
        if let (Pages::Cursor { parameter, .. }, Some(token)) = (&self.config.pages, &place.token) {
            let others: Vec<(String, String)> = url
                .query_pairs()
                .filter(|(name, _)| name != parameter)
                .map(|(n, v)| (n.into_owned(), v.into_owned()))
                .collect();
            url.query_pairs_mut().clear().extend_pairs(others).append_pair(parameter, token);
        }
        Ok(url)
    }

    async fn fetch(&self, place: Place, lease: &Lease) -> Result<Option<Kept>, Error> {
        lease.check()?;
        let is_first = place.url.is_none() && place.done == 0;
        let conditions = [
            (header::IF_NONE_MATCH, place.etag.as_deref().filter(|_| is_first)),
            (header::IF_MODIFIED_SINCE, place.modified.as_deref().filter(|_| is_first)),
        ];
        let (url, now) = (self.request(&place)?, lease.schedule_clock().now());
        let answered =
            answer::get(&self.client, &self.config, &self.place(), url.clone(), conditions, now).await?;
        let Answer::Page(page) = answered else { return Ok(None) };
        let (next, more) = self.next(&place, &url, &page)?;
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, &page.body);
        let items = self.items(&page)?;
        let done = if place.page == Some(hash) { place.done.min(items.len()) } else { 0 };
        let place = Place { done, page: Some(hash), ..place };
        let content_type = match self.config.items {
            Some(_) => Some("application/json".into()),
            None => page.content_type.map(Arc::from),
        };
        Ok(Some(Kept { place, items, content_type, next, more }))
    }

    fn items(&self, page: &Page) -> Result<Vec<Bytes>, Error> {
        let Some(pointer) = &self.config.items else { return Ok(vec![page.body.clone()]) };
        let refused = |problem: String| Error::refused(self.place(), problem);
        let text = std::str::from_utf8(&page.body)
            .map_err(|_| refused("the answer is not UTF-8: give charset".to_owned()))?;
        let found =
            json::at(text, pointer).map_err(|error| refused(format!("the answer is no JSON: {error}")))?;
        let found = found.and_then(json::items);
        let found = found.ok_or_else(|| refused(format!("the answer has no array at items {pointer:?}")))?;
        Ok(found.into_iter().map(|item| page.body.slice_ref(item.as_bytes())).collect())
    }

    /// Where it goes on after a page, and whether at once.
    fn next(&self, place: &Place, url: &Url, page: &Page) -> Result<(Place, bool), Error> {
        let refused = |problem: String| Error::refused(self.place(), problem);
        let is_first = place.url.is_none();
        let (etag, modified) = if is_first {
            (page.etag.clone(), page.modified.clone())
        } else {
            (place.etag.clone(), place.modified.clone())
        };
        let first = Place { etag, modified, ..Place::default() };
        match &self.config.pages {
            Pages::One => Ok((first, false)),
            Pages::Link => {
                let Some(link) = &page.next else { return Ok((first, false)) };
                let next =
                    url.join(link).map_err(|error| refused(format!("the link to the next page: {error}")))?;
                if next.origin() != self.url.origin() {
                    return Err(refused(
                        "the link to the next page leads to another host, which would get the secrets"
                            .to_owned(),
                    ));
                }
                if next == *url {
                    return Err(refused("the link to the next page leads to the same page".to_owned()));
                }
                Ok((Place { url: Some(next.into()), ..first }, true))
            }
            Pages::Cursor { pointer, .. } => {
                let text = std::str::from_utf8(&page.body)
                    .map_err(|_| refused("the answer is not UTF-8".to_owned()))?;
                let token = json::at(text, pointer)
                    .map_err(|error| refused(format!("the answer is no JSON: {error}")))?;
                let token = token.and_then(json::plain).filter(|token| !token.is_empty());
                match token {
                    // What it was asked with, too: its answer may have been one of other items.
                    None => Ok((Place { token: place.token.clone(), ..first }, false)),
                    same if same == place.token => Ok((Place { token: same, ..first }, false)),
                    token => Ok((Place { token, ..Place::default() }, true)),
                }
            }
        }
    }

    /// Items of a page, at most `room`; what is left of it is kept.
    fn give(&self, mut kept: Kept, room: usize) -> Batch {
        let source: Arc<str> = self.place().into();
        let mut batch = Batch::default();
        let end = kept.items.len().min(kept.place.done + room);
        for at in kept.place.done..end {
            let body = kept.items[at].clone();
            let text = std::str::from_utf8(&body).unwrap_or_default();
            let within = |pointer: &Option<String>| {
                let found = pointer.as_deref().and_then(|pointer| json::at(text, pointer).ok().flatten());
                found.and_then(json::plain)
            };
            let page = kept.place.page.unwrap_or_default().simple();
            let id = within(&self.config.id).unwrap_or_else(|| format!("{page}/{at}"));
            let key = within(&self.config.key).map(Bytes::from);
            let is_last = at + 1 == kept.items.len();
            let place =
                if is_last { kept.next.clone() } else { Place { done: at + 1, ..kept.place.clone() } };
            let mut item =
                Item::new(MessageId::Text(id.into()), Arc::clone(&source), body).at(place.cursor());
            item.parts.content_type = kept.content_type.clone();
            item.parts.key = key;
            batch.items.push(item);
        }
        if end == kept.items.len() {
            batch.next = Some(kept.next.cursor());
            batch.more = kept.more;
        } else {
            batch.more = true;
            kept.place.done = end;
            *self.kept() = Some(kept);
        }
        batch
    }
}

#[async_trait]
impl Poller for Paged {
    /// Without the query, which may hold a secret.
    fn place(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }

    async fn begin(&self, _: &Lease) -> Result<(), Error> {
        *self.kept() = None;
        Ok(())
    }

    async fn poll(&self, cursor: Option<&Cursor>, room: usize, lease: &Lease) -> Result<Batch, Error> {
        let place = Place::read(cursor);
        let kept = self.kept().take();
        let kept = kept
            .filter(|kept| kept.place.is_page_of(&place) && kept.place.done == place.done && place.done > 0);
        let kept = match kept {
            Some(kept) => Some(kept),
            None => self.fetch(place, lease).await?,
        };
        Ok(kept.map_or_else(Batch::default, |kept| self.give(kept, room)))
    }
}
