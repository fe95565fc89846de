//! A message store in memory, **for tests only**: what it holds ends with the process, and is fenced by nothing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use leasehold_core::artifact::ArtifactError;
use leasehold_core::bytes::Bytes;
use leasehold_core::clock::{BootClock, Clock, Instant};
use leasehold_core::dispatch::{Action, Event, Fetched, Settlement, Source};
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, MessageId, Parts};
use tokio::sync::Notify;

use super::{Content, Depth, MessageStore, Parked, Reading, Waiting, Which};
use crate::error::Error;
use crate::outgoing::{DEFAULT_MAX_BYTES, Outgoing, When};

#[derive(Clone, Debug)]
struct Item {
    message: Outgoing,
    attempts: u32,
    due: Option<Instant>,
    expires: Option<Instant>,
    appended: Instant,
    error: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    last: i64,
    waiting: BTreeMap<i64, Item>,
    parked: BTreeMap<i64, (Item, String)>,
    reader: Option<(String, String)>,
}

/// A message store in memory, **for tests only**. Clones are the same store.
#[derive(Clone)]
pub struct MemoryStore {
    name: Arc<str>,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), state: Arc::default(), changed: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete when the lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, message: &Outgoing) {
        let now = BootClock.now();
        let after = match message.when {
            When::Now => Duration::ZERO,
            When::After(delay) => delay,
            When::At(at) => (at - wall()).to_std().unwrap_or_default(),
        };
        let mut state = self.state();
        state.last += 1;
        let id = state.last;
        let item = Item {
            attempts: 0,
            due: (!after.is_zero()).then(|| now + after),
            expires: message.time_to_live.map(|life| now + life),
            appended: now,
            error: None,
            message: message.clone(),
        };
        state.waiting.insert(id, item);
        self.changed.notify_one();
    }
}

/// There is no database whose clock could be asked. For people, and for instants that they give.
#[allow(clippy::disallowed_methods, reason = "a store for tests; no decision about leases depends on it")]
fn wall() -> DateTime<Utc> {
    DateTime::from(std::time::SystemTime::now())
}

fn when(at: Instant) -> DateTime<Utc> {
    wall() - chrono::TimeDelta::from_std(BootClock.now().since(at)).unwrap_or_default()
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("name", &self.name).finish_non_exhaustive()
    }
}

fn chosen<T>(of: &BTreeMap<i64, T>, which: Which) -> Vec<i64> {
    of.keys().copied().filter(|id| which == Which::All || which == Which::One(*id)).collect()
}

#[async_trait]
impl MessageStore for MemoryStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn append_all(&self, messages: &[Outgoing]) -> Result<(), Error> {
        for message in messages {
            message.check(DEFAULT_MAX_BYTES).map_err(|problem| Error::invalid(&self.name, problem))?;
        }
        messages.iter().for_each(|message| self.put(message));
        Ok(())
    }

    async fn read(&self, lease: &Lease, reading: Reading) -> Result<Box<dyn Source>, Error> {
        let reader = (lease.key().cluster.to_string(), lease.artifact().to_string());
        let mut state = self.state();
        if state.reader.get_or_insert_with(|| reader.clone()) != &reader {
            return Err(Error::invalid(
                &self.name,
                format!("it is read by {:?}, and a store has one reader", state.reader),
            ));
        }
        drop(state);
        Ok(Box::new(MemorySource { store: self.clone(), reading, position: 0, held: HashMap::new() }))
    }

    async fn depth(&self) -> Result<Depth, Error> {
        let state = self.state();
        let oldest = state.waiting.values().next().map(|item| BootClock.now().since(item.appended));
        Ok(Depth { waiting: state.waiting.len() as u64, parked: state.parked.len() as u64, oldest })
    }

    async fn list(&self, after: i64, limit: u32) -> Result<Vec<Waiting>, Error> {
        let state = self.state();
        let show = |(id, item): (&i64, &Item)| Waiting {
            id: *id,
            message: item.message.id.clone(),
            key: item.message.key.clone(),
            bytes: item.message.body.len() as u64,
            attempts: item.attempts,
            due: item.due.map(|due| {
                wall() + chrono::TimeDelta::from_std(due.since(BootClock.now())).unwrap_or_default()
            }),
            error: item.error.clone(),
            appended: when(item.appended),
        };
        Ok(state.waiting.range(after.saturating_add(1)..).take(limit as usize).map(show).collect())
    }

    async fn parked(&self, after: i64, limit: u32) -> Result<Vec<Parked>, Error> {
        let state = self.state();
        let show = |(id, (item, reason)): (&i64, &(Item, String))| {
            let (reason, answer) = reason
                .split_once('\n')
                .map_or((reason.as_str(), None), |(reason, answer)| (reason, Some(answer)));
            Parked {
                id: *id,
                message: item.message.id.clone(),
                key: item.message.key.clone(),
                bytes: item.message.body.len() as u64,
                attempts: item.attempts,
                reason: reason.to_owned(),
                answer: answer.map(str::to_owned),
                appended: when(item.appended),
                parked: wall(),
            }
        };
        Ok(state.parked.range(after.saturating_add(1)..).take(limit as usize).map(show).collect())
    }

    async fn peek(&self, id: i64) -> Result<Option<Content>, Error> {
        let state = self.state();
        let item = state.waiting.get(&id).or_else(|| state.parked.get(&id).map(|(item, _)| item));
        Ok(item.map(|Item { message, .. }| Content {
            headers: message.headers.clone(),
            content_type: message.content_type.clone(),
            body: message.body.clone(),
        }))
    }

    async fn replay(&self, which: Which) -> Result<u64, Error> {
        let mut state = self.state();
        let ids = chosen(&state.parked, which);
        let items: Vec<_> = ids.iter().filter_map(|id| state.parked.remove(id)).collect();
        drop(state);
        items.iter().for_each(|(item, _)| {
            self.put(&Outgoing { when: When::Now, time_to_live: None, ..item.message.clone() })
        });
        Ok(items.len() as u64)
    }

    async fn purge(&self, which: Which) -> Result<u64, Error> {
        let mut state = self.state();
        let ids = chosen(&state.waiting, which);
        ids.iter().for_each(|id| drop(state.waiting.remove(id)));
        Ok(ids.len() as u64)
    }

    async fn purge_parked(&self, which: Which) -> Result<u64, Error> {
        let mut state = self.state();
        let ids = chosen(&state.parked, which);
        ids.iter().for_each(|id| drop(state.parked.remove(id)));
        Ok(ids.len() as u64)
    }

    async fn move_to(&self, _: &str, _: Which) -> Result<u64, Error> {
        Err(Error::invalid(&self.name, "a store in memory knows no other: use SqlStore"))
    }
}

struct MemorySource {
    store: MemoryStore,
    reading: Reading,
    position: u64,
    /// By position: what was handed over and not settled.
    held: HashMap<u64, i64>,
}

impl MemorySource {
    /// What may be handed over, oldest first.
    fn take(&mut self, room: usize, events: &mut Vec<Event>) {
        let store = self.store.clone();
        let mut state = store.state();
        let now = BootClock.now();
        let ordered = !matches!(self.reading.order, leasehold_core::dispatch::Order::Unordered(_));
        let free = |(id, item): (&i64, &Item)| {
            let later = item.due.is_some_and(|due| due > now);
            (!self.held.values().any(|held| held == id) && (ordered || !later)).then_some(*id)
        };
        let ids: Vec<i64> = state.waiting.iter().filter_map(free).take(room).collect();
        for id in ids {
            let Some(item) = state.waiting.get(&id).cloned() else { continue };
            if item.expires.is_some_and(|expires| expires <= now) {
                state.waiting.remove(&id);
                state.parked.insert(id, (item, "expired before it was delivered".to_owned()));
                continue;
            }
            self.position += 1;
            self.held.insert(self.position, id);
            let message = received(&self.store.name, &item);
            let (position, key) = (self.position, message.key().cloned());
            events.push(Event::Message(Fetched { lane: 0, position, key, due: item.due, message }));
        }
    }
}

fn received(store: &Arc<str>, item: &Item) -> Message {
    let Outgoing { id, key, headers, content_type, body, .. } = &item.message;
    let parts = Parts {
        id: MessageId::Text(id.as_str().into()),
        key: key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes())),
        headers: headers
            .iter()
            .map(|(name, value)| (name.as_str().into(), Bytes::from(value.clone())))
            .collect(),
        content_type: content_type.as_deref().map(Arc::from),
        body: Some(body.clone()),
        source: Arc::clone(store),
        progress: None,
        native: None,
    };
    Message::new(parts, item.attempts + 1)
}

#[async_trait]
impl Source for MemorySource {
    async fn fetch(&mut self, room: usize, events: &mut Vec<Event>) -> Result<(), ArtifactError> {
        loop {
            if room > 0 {
                self.take(room, events);
            }
            if !events.is_empty() {
                return Ok(());
            }
            let changed = self.store.changed.notified();
            let _ = tokio::time::timeout(self.reading.poll, changed).await;
        }
    }

    async fn settle(&mut self, settlement: &mut Settlement<Message>) -> Result<(), ArtifactError> {
        let mut state = self.store.state();
        for decision in settlement.decisions.drain(..) {
            let Some(id) = self.held.remove(&decision.position) else { continue };
            match decision.action {
                Action::Acknowledge | Action::Discard { .. } => drop(state.waiting.remove(&id)),
                Action::DeadLetter { attempts, reason } => {
                    if let Some(item) = state.waiting.remove(&id) {
                        state.parked.insert(id, (Item { attempts, ..item }, reason));
                    }
                }
                Action::Requeue { delay, attempts, reason } => {
                    if let Some(item) = state.waiting.get_mut(&id) {
                        (item.attempts, item.due, item.error) =
                            (attempts, Some(BootClock.now() + delay), Some(reason));
                    }
                }
            }
        }
        Ok(())
    }

    fn together(&self) -> usize {
        if self.reading.lag.is_zero() { 1 } else { 64 }
    }

    fn postponed(&mut self, position: u64, attempts: u32, due: Instant, reason: &str) {
        let Some(id) = self.held.get(&position) else { return };
        if let Some(item) = self.store.state().waiting.get_mut(id) {
            (item.attempts, item.due, item.error) = (attempts, Some(due), Some(reason.to_owned()));
        }
    }

    async fn stop(&mut self) -> Result<(), ArtifactError> {
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ArtifactError> {
        Ok(())
    }
}
