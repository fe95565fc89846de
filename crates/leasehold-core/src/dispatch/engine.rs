//! Which message is handled next, and what becomes of it: pure, without I/O, runtime or clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use bytes::Bytes;

use super::lane::Lane;
use super::order::Order;
use super::policy::{Place, RetryPolicy, Then};
use super::settlement::{Action, Decision, Settlement};
use crate::clock::Instant;
use crate::handler::Failure;

/// One stream of positions: a partition, a store, one life of a connection.
pub type LaneId = u32;

/// A message that the engine is to take.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its lane.
    pub lane: LaneId,
    /// Its place in its lane, higher than those before.
    pub position: u64,
    /// What its order goes by under [`Order::PerKey`].
    pub key: Option<Bytes>,
    /// How often it was handed over before, as far as its source tells.
    pub attempts: u32,
    /// It is not handed over before.
    pub due: Option<Instant>,
}

/// Names a message that was handed over, until its outcome is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(usize);

/// A message that is to be handled now.
#[derive(Debug)]
pub struct HandOver<T> {
    /// For [`Engine::finish`].
    pub ticket: Ticket,
    /// What was admitted.
    pub item: T,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
}

/// What became of a message that was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was handled.
    Done,
    /// It was not, and why.
    Failed(Failure, String),
}

/// What follows from an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves the engine with the next settlement.
    Settled,
    /// It is handed over again at this moment.
    RetryAt(Instant),
    /// Its lane was lost meanwhile: its outcome cannot be told to anybody, and its source brings it again.
    Void,
    /// The endpoint is to stop, and this message stays at its source.
    Stop(String),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Behind others of its chain, or handed over soon.
    Waiting,
    /// Of no use before a moment.
    Delayed,
    InFlight,
    /// In flight, and its lane is lost.
    Orphan,
}

#[derive(Debug)]
struct Slot<T> {
    item: T,
    lane: LaneId,
    ticket: u64,
    position: u64,
    attempts: u32,
    due: Option<Instant>,
    chain: Option<usize>,
    state: State,
    /// Tells timers of earlier lives of this slot apart.
    life: u32,
}

/// What is handled one after the other. The first one is in flight, ready or delayed; the others wait for it.
#[derive(Debug, Default)]
struct Chain {
    key: Option<Bytes>,
    queue: VecDeque<usize>,
}

/// Decides which message is handled next, and what becomes of it.
///
/// Each step takes constant time, but for a logarithm where messages are delayed and for what concerns a whole lane.
/// It keeps what it was given and no more: ask [`room`](Engine::room) before giving it more.
#[derive(Debug)]
pub struct Engine<T> {
    order: Order,
    policy: RetryPolicy,
    capacity: usize,
    chance: u64,
    slots: Vec<Option<Slot<T>>>,
    free: Vec<usize>,
    lives: u32,
    held: usize,
    in_flight: usize,
    chains: Vec<Chain>,
    free_chains: Vec<usize>,
    keys: HashMap<Bytes, usize>,
    ready: VecDeque<usize>,
    delayed: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    lanes: HashMap<LaneId, Lane>,
    settlement: Settlement<T>,
    draining: bool,
}

impl<T: Clone> Engine<T> {
    /// Keeps at most `capacity` messages. `seed` is for the jitter of pauses.
    pub fn new(order: Order, policy: RetryPolicy, capacity: usize, seed: u64) -> Self {
        let mut engine = Self {
            order,
            policy,
            capacity,
            chance: seed,
            slots: Vec::new(),
            free: Vec::new(),
            lives: 0,
            held: 0,
            in_flight: 0,
            chains: Vec::new(),
            free_chains: Vec::new(),
            keys: HashMap::new(),
            ready: VecDeque::new(),
            delayed: BinaryHeap::new(),
            lanes: HashMap::new(),
            settlement: Settlement::default(),
            draining: false,
        };
        if order == Order::Ordered {
            // Chain 0 is everything.
            engine.chains.push(Chain::default());
        }
        engine
    }

    /// How many more messages it takes.
    pub fn room(&self) -> usize {
        if self.draining { 0 } else { self.capacity.saturating_sub(self.held) }
    }

    /// How many messages are being handled.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes a message.
    pub fn admit(&mut self, entry: Entry, item: T) {
        if self.draining {
            return;
        }
        let Entry { lane, position, key, attempts, due } = entry;
        let ticket = self.lanes.entry(lane).or_default().open(position);
        let chain = self.chain_of(key);
        self.lives = self.lives.wrapping_add(1);
        let (state, life) = (State::Waiting, self.lives);
        let slot = Slot { item, lane, ticket, position, attempts, due, chain, state, life };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.slots[at] = Some(slot);
        self.held += 1;
        match chain {
            Some(chain) => {
                self.chains[chain].queue.push_back(at);
                if self.chains[chain].queue.len() == 1 {
                    self.line_up(at);
                }
            }
            None => self.line_up(at),
        }
    }

    /// The next message to be handled at `now`, if one may be.
    pub fn next(&mut self, now: Instant) -> Option<HandOver<T>> {
        if self.draining || self.in_flight >= self.order.at_once() {
            return None;
        }
        self.wake(now);
        let at = self.ready.pop_front()?;
        let slot = self.slots[at].as_mut()?;
        slot.state = State::InFlight;
        slot.attempts = slot.attempts.saturating_add(1);
        self.in_flight += 1;
        Some(HandOver { ticket: Ticket(at), item: slot.item.clone(), attempt: slot.attempts })
    }

    /// The position of a message that was handed over and is still here, and how many of its attempts count.
    pub fn place(&self, ticket: Ticket) -> Option<(u64, u32)> {
        let slot = self.slots.get(ticket.0)?.as_ref()?;
        Some((slot.position, slot.attempts))
    }

    /// When to ask again, if nothing else happens before.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.draining || self.in_flight >= self.order.at_once() {
            return None;
        }
        self.delayed.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the outcome of a message that was handed over.
    pub fn finish(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) -> Verdict {
        let Ticket(at) = ticket;
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return Verdict::Void };
        self.in_flight -= 1;
        if slot.state == State::Orphan {
            self.remove(at);
            return Verdict::Void;
        }
        let (failure, reason) = match outcome {
            Outcome::Done => {
                self.settle(at, Action::Acknowledge);
                return Verdict::Settled;
            }
            Outcome::Failed(failure, reason) => (failure, reason),
        };
        let attempts = slot.attempts;
        match failure {
            Failure::Fatal => {
                self.hold(at);
                Verdict::Stop(reason)
            }
            Failure::Unavailable(after) => {
                let pause = self.policy.pause(1, self.chance).max(after.unwrap_or_default());
                slot.attempts = attempts.saturating_sub(1);
                slot.due = Some(now + pause);
                self.hold(at);
                if !self.draining {
                    self.line_up(at);
                }
                Verdict::RetryAt(now + pause)
            }
            Failure::Retry(after) if self.policy.allows(attempts) => {
                self.chance = self.chance.wrapping_add(1);
                let pause = self.policy.pause(attempts, self.chance).max(after.unwrap_or_default());
                if self.policy.place == Place::Requeue && self.order.allows_requeue() {
                    self.settle(at, Action::Requeue { delay: pause, attempts, reason });
                    return Verdict::Settled;
                }
                slot.due = Some(now + pause);
                self.hold(at);
                if !self.draining {
                    self.line_up(at);
                }
                Verdict::RetryAt(now + pause)
            }
            Failure::Retry(_) | Failure::Reject => match self.policy.then {
                Then::Stop => {
                    self.hold(at);
                    Verdict::Stop(reason)
                }
                Then::DeadLetter => {
                    self.settle(at, Action::DeadLetter { attempts, reason });
                    Verdict::Settled
                }
                Then::Discard => {
                    self.settle(at, Action::Discard { attempts, reason });
                    Verdict::Settled
                }
            },
        }
    }

    /// A message that was to be handed over is a dead letter instead, whatever the policy says; this was no attempt.
    pub fn refuse(&mut self, ticket: Ticket, reason: String) {
        let Ticket(at) = ticket;
        let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        self.in_flight -= 1;
        let attempts = slot.attempts.saturating_sub(1);
        self.settle(at, Action::DeadLetter { attempts, reason });
    }

    /// How many decisions wait to be settled.
    pub fn unsettled(&self) -> usize {
        self.settlement.decisions.len()
    }

    /// What is to be settled now, in this order; empty unless something was decided.
    pub fn take_settlement(&mut self) -> Settlement<T> {
        std::mem::take(&mut self.settlement)
    }

    /// Gives a settlement back that was told, to use its memory again.
    pub fn give_back(&mut self, mut settlement: Settlement<T>) {
        if self.settlement.decisions.is_empty() {
            settlement.clear();
            self.settlement = settlement;
        }
    }

    /// The source has lost a lane: it brings again, in another or in the same, what was not settled. What waits is
    /// dropped; what is in flight goes on, holds up its key until it ends, and its outcome counts for nothing.
    pub fn lose(&mut self, lane: LaneId) {
        self.lanes.remove(&lane);
        self.settlement.forget(lane);
        self.drop_waiting(|slot| slot.lane == lane);
        for slot in self.slots.iter_mut().flatten() {
            if slot.lane == lane && slot.state == State::InFlight {
                slot.state = State::Orphan;
            }
        }
    }

    /// Hands nothing over any more, and forgets what waits: it stays at its source. What is in flight can be finished.
    pub fn drain(&mut self) {
        self.draining = true;
        self.drop_waiting(|_| true);
    }

    fn chain_of(&mut self, key: Option<Bytes>) -> Option<usize> {
        match self.order {
            Order::Ordered => Some(0),
            Order::Unordered(_) => None,
            Order::PerKey(_) => {
                let key = key?;
                if let Some(&chain) = self.keys.get(&key) {
                    return Some(chain);
                }
                let chain = match self.free_chains.pop() {
                    Some(chain) => chain,
                    None => {
                        self.chains.push(Chain::default());
                        self.chains.len() - 1
                    }
                };
                self.chains[chain].key = Some(key.clone());
                self.keys.insert(key, chain);
                Some(chain)
            }
        }
    }

    /// The first of its chain becomes ready, or waits for its moment.
    fn line_up(&mut self, at: usize) {
        let Some(slot) = self.slots[at].as_mut() else { return };
        match slot.due {
            Some(due) => {
                slot.state = State::Delayed;
                self.delayed.push(Reverse((due, at, slot.life)));
            }
            None => {
                slot.state = State::Waiting;
                self.ready.push_back(at);
            }
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some(&Reverse((due, at, life))) = self.delayed.peek() {
            if due > now {
                return;
            }
            self.delayed.pop();
            if let Some(slot) = self.slots[at].as_mut()
                && (slot.life, &slot.state) == (life, &State::Delayed)
            {
                (slot.due, slot.state) = (None, State::Waiting);
                self.ready.push_back(at);
            }
        }
    }

    /// It is no longer in flight, and keeps its place.
    fn hold(&mut self, at: usize) {
        if let Some(slot) = self.slots[at].as_mut() {
            slot.state = State::Waiting;
        }
    }

    fn settle(&mut self, at: usize, action: Action) {
        let Some(slot) = self.remove(at) else { return };
        let Slot { item, lane, position, ticket, .. } = slot;
        if let Some(mark) = self.lanes.get_mut(&lane).and_then(|lane| lane.done(ticket)) {
            self.settlement.advance(lane, mark);
        }
        self.settlement.decisions.push(Decision { lane, position, item, action });
    }

    /// Takes a slot out, and lets the next of its chain go on.
    fn remove(&mut self, at: usize) -> Option<Slot<T>> {
        let slot = self.slots[at].take()?;
        self.free.push(at);
        self.held -= 1;
        if let Some(chain) = slot.chain {
            self.chains[chain].queue.pop_front();
            self.advance(chain);
        }
        Some(slot)
    }

    fn advance(&mut self, chain: usize) {
        match self.chains[chain].queue.front() {
            Some(&next) => self.line_up(next),
            None => {
                if let Some(key) = self.chains[chain].key.take() {
                    self.keys.remove(&key);
                    self.free_chains.push(chain);
                }
            }
        }
    }

    /// Drops what is not in flight.
    fn drop_waiting(&mut self, which: impl Fn(&Slot<T>) -> bool) {
        let mut emptied = Vec::new();
        for at in 0..self.slots.len() {
            let Some(slot) = &self.slots[at] else { continue };
            if matches!(slot.state, State::InFlight | State::Orphan) || !which(slot) {
                continue;
            }
            emptied.extend(slot.chain);
            self.slots[at] = None;
            self.free.push(at);
            self.held -= 1;
        }
        let slots = &self.slots;
        self.ready.retain(|&at| slots[at].is_some());
        let same = |&Reverse((_, at, life)): &_| {
            let at: usize = at;
            slots[at].as_ref().is_some_and(|slot: &Slot<T>| slot.life == life)
        };
        self.delayed.retain(same);
        emptied.sort_unstable();
        emptied.dedup();
        for chain in emptied {
            let first = self.chains[chain].queue.front().copied();
            let slots = &self.slots;
            self.chains[chain].queue.retain(|&at| slots[at].is_some());
            // The first one was dropped: another one is first now, and nobody has lined it up.
            if first.is_some_and(|at| self.slots[at].is_none()) {
                self.advance(chain);
            }
        }
    }
}
