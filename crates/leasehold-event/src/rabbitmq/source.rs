//! Brings deliveries, and settles them.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use lapin::message::Delivery;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use leasehold_core::artifact::ArtifactError;
use leasehold_core::backoff::Backoff;
use leasehold_core::clock::{BootClock, Clock, Instant};
use leasehold_core::dispatch::{Action, Decision, Event, Fetched, LaneId, Settlement, Source};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::config::{DeadLetter, RECONNECT_LONGEST, RabbitMqConfig};
use super::convert::{self, ATTEMPTS, Native};
use super::link::Route;
use super::publish::{Delay, publish, short};
use super::session::Session;
use crate::dead;
use crate::error::{Error, ErrorKind};

enum State {
    /// Before the next attempt to connect.
    Pausing(Pin<Box<Sleep>>),
    /// On a task of its own: connecting is not cancelled half-way. Whatever it brings when nobody waits any more is
    /// closed by being dropped.
    Connecting(JoinHandle<Result<Session, Error>>),
    Open(Box<Session>),
    Stopped,
}

/// The deliveries of one queue. Each life of the connection is a lane: delivery tags belong to it.
pub(super) struct Deliveries {
    config: Arc<RabbitMqConfig>,
    route: Arc<Route>,
    lease: Lease,
    queue: Arc<str>,
    state: State,
    life: LaneId,
    /// Starts again from short pauses once something was settled, or the connection has lived for a while.
    backoff: Backoff,
    opened_at: Instant,
    /// A message of this life could be put nowhere else and stays unacknowledged: no mark may pass it.
    kept: bool,
    /// A lane that is lost and of which nobody was told yet.
    lost: Option<LaneId>,
    arrived: Vec<Delivery>,
}

impl Deliveries {
    pub(super) fn new(config: Arc<RabbitMqConfig>, route: Route, lease: Lease) -> Self {
        let route = Arc::new(route);
        let (queue, state) = (config.queue.as_str().into(), connecting(&config, &route, &lease));
        let (life, backoff, opened_at, kept) = (0, Route::backoff(), BootClock.now(), false);
        let (lost, arrived) = (None, Vec::new());
        Self { config, route, lease, queue, state, life, backoff, opened_at, kept, lost, arrived }
    }

    /// The connection is of no use any more.
    fn lose(&mut self, error: &Error) {
        if matches!(self.state, State::Open(_)) {
            self.lost = Some(self.life);
            // One that opens and fails at once is no reason to hurry.
            if BootClock.now().since(self.opened_at) > RECONNECT_LONGEST * 2 {
                self.backoff.reset();
            }
        }
        let text = describe(error);
        tracing::warn!(artifact = %self.lease.artifact(), error = %text, "cannot consume; trying again");
        self.lease.report(Condition::Impaired(text.into()));
        let pause = self.backoff.next_pause();
        self.state = State::Pausing(Box::pin(tokio::time::sleep(pause)));
    }

    fn opened(&mut self, session: Session) {
        self.life += 1;
        (self.opened_at, self.kept) = (BootClock.now(), false);
        self.works();
        self.state = State::Open(Box::new(session));
    }

    fn works(&self) {
        let text = format!("consumes queue {:?} of {}", self.queue, self.route.address);
        tracing::info!(artifact = %self.lease.artifact(), token = %self.lease.token(), "{text}");
        self.lease.report(Condition::Working(text.into()));
    }

    async fn publish(&mut self, decision: &Decision<Message>) -> Result<(), Error> {
        let State::Open(session) = &mut self.state else { return Ok(()) };
        let channel = session.publishing().await?;
        let Some(native) = Native::of(&decision.item) else { return Ok(()) };
        let body = decision.item.body().map_or(&[][..], |body| body);
        match &decision.action {
            Action::Requeue { delay, attempts, .. } => {
                let delay = Delay::of(&self.config.queue, *delay);
                let mut arguments = FieldTable::default();
                let text = |text: &str| AMQPValue::LongString(text.into());
                arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(delay.ttl_ms));
                arguments.insert("x-expires".into(), AMQPValue::LongLongInt(delay.expires_ms));
                arguments.insert("x-dead-letter-exchange".into(), text(""));
                arguments.insert("x-dead-letter-routing-key".into(), text(&self.config.queue));
                let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                // Each time: it keeps a queue that is in use from expiring.
                let declare = channel.queue_declare(short("delay queue", &delay.name)?, options, arguments);
                self.route.ask("declare a delay queue", declare).await?;
                let noted = [(ATTEMPTS, AMQPValue::LongLongInt(i64::from(*attempts)))];
                let properties = convert::with_headers(&native.properties, &[], noted).with_delivery_mode(2);
                publish(&channel, &self.route, "", &delay.name, body, properties).await
            }
            Action::DeadLetter { attempts, reason } => {
                let Some(DeadLetter { exchange, routing_key }) = &self.config.dead_letter else {
                    return Ok(());
                };
                let why = dead::Why { lease: &self.lease, attempts: *attempts, reason, source: &self.queue };
                let mut more: Vec<(&'static str, AMQPValue)> = Vec::new();
                for (name, value) in dead::headers(&why) {
                    more.push((name, AMQPValue::LongString(value.into())));
                }
                more.push((dead::EXCHANGE, AMQPValue::LongString(native.exchange.as_str().into())));
                more.push((dead::ROUTING_KEY, AMQPValue::LongString(native.routing_key.as_str().into())));
                let properties = convert::with_headers(&native.properties, &[], more).with_delivery_mode(2);
                publish(&channel, &self.route, exchange, routing_key, body, properties).await
            }
            Action::Acknowledge | Action::Discard { .. } => Ok(()),
        }
    }

    /// Publishes, until it is there: handlers do not run again because of a destination that is missing, and nothing that was
    /// confirmed is published again. False: the run is to end first, and the message stays in the queue.
    async fn publish_patiently(&mut self, decision: &Decision<Message>) -> Result<bool, Error> {
        let mut backoff = Route::backoff();
        loop {
            self.check("publish")?;
            let Err(error) = self.publish(decision).await else {
                if backoff.failures() > 0 {
                    self.works();
                }
                return Ok(true);
            };
            let State::Open(session) = &mut self.state else { return Err(error) };
            // Whether it is there is unknown, or the broker is gone: the session is of no use any more.
            if error.kind() == ErrorKind::Timeout || !session.heals_publishing() {
                return Err(error);
            }
            let text = describe(&error);
            tracing::warn!(artifact = %self.lease.artifact(), error = %text, "cannot put a message elsewhere; trying again");
            self.lease.report(Condition::Impaired(text.into()));
            let pause = tokio::time::sleep(backoff.next_pause());
            if self.lease.unless_revoked(pause).await.is_err() {
                return Ok(false);
            }
        }
    }

    async fn acknowledge(&self, tag: u64, multiple: bool) -> Result<(), Error> {
        let State::Open(session) = &self.state else { return Ok(()) };
        self.check("acknowledge")?;
        session.acknowledge(tag, multiple).await
    }

    /// Right before each effect: whatever came before may have taken long.
    fn check(&self, operation: &'static str) -> Result<(), Error> {
        self.lease.check().map_err(|lost| Error::new(ErrorKind::Fenced, operation, lost.to_string()))
    }

    async fn tell(&mut self, settlement: &Settlement<Message>) -> Result<(), Error> {
        let life = self.life;
        let here = || settlement.decisions.iter().filter(|decision| decision.lane == life);
        let elsewhere = |decision: &&Decision<Message>| {
            matches!(decision.action, Action::Requeue { .. } | Action::DeadLetter { .. })
        };
        let mark = settlement.watermarks.iter().find(|(lane, _)| *lane == life).map(|(_, mark)| *mark);
        // All up to the mark are decided. The broker wants the tag of one that it waits for still: the highest of now.
        let mark =
            mark.and_then(|mark| here().map(|decision| decision.position).filter(|at| *at <= mark).max());
        // A mark says nothing of those that could not be put elsewhere, nor of those that are not there yet.
        let mark = mark.filter(|_| !self.kept && !here().any(|decision| elsewhere(&decision)));
        if let Some(mark) = mark {
            self.acknowledge(mark, true).await?;
        }
        let single = |decision: &&Decision<Message>| mark.is_none_or(|mark| decision.position > mark);
        for decision in here().filter(single).filter(|decision| !elsewhere(decision)) {
            self.acknowledge(decision.position, false).await?;
        }
        for decision in here().filter(elsewhere) {
            if self.publish_patiently(decision).await? {
                // At once: what is there is not to come again when the next one fails.
                self.acknowledge(decision.position, false).await?;
            } else {
                self.kept = true;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Source for Deliveries {
    async fn fetch(&mut self, room: usize, events: &mut Vec<Event>) -> Result<(), ArtifactError> {
        loop {
            if let Some(lane) = self.lost.take() {
                self.arrived.clear();
                events.push(Event::Lost(lane));
                return Ok(());
            }
            match &mut self.state {
                State::Pausing(pause) => {
                    pause.as_mut().await;
                    self.lease.check()?;
                    self.state = connecting(&self.config, &self.route, &self.lease);
                }
                State::Connecting(task) => match task.await? {
                    Ok(session) => self.opened(session),
                    Err(error) => self.lose(&error),
                },
                State::Open(session) => {
                    let fetched = session.deliveries(room, &mut self.arrived).await;
                    // Without room they stay here, as many as the prefetch at most.
                    let count = room.min(self.arrived.len());
                    for delivery in self.arrived.drain(..count) {
                        let position = delivery.delivery_tag;
                        let message = convert::message(delivery, &self.config.key, &self.queue);
                        let key = message.key().cloned();
                        let lane = self.life;
                        events.push(Event::Message(Fetched { lane, position, key, due: None, message }));
                    }
                    if let Err(error) = fetched {
                        self.lose(&error);
                        // What has just arrived comes again.
                        continue;
                    }
                    return Ok(());
                }
                State::Stopped => std::future::pending().await,
            }
        }
    }

    async fn settle(&mut self, settlement: &mut Settlement<Message>) -> Result<(), ArtifactError> {
        let is_open = matches!(self.state, State::Open(_));
        if let Err(error) = self.tell(settlement).await {
            self.lease.check()?;
            self.lose(&error);
        } else if is_open && settlement.decisions.iter().any(|decision| decision.lane == self.life) {
            self.backoff.reset();
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), ArtifactError> {
        match &self.state {
            State::Open(session) => {
                if let Err(error) = session.cancel().await {
                    // Without its connection it consumes nothing either.
                    tracing::debug!(%error, "the consumer was not cancelled");
                    self.state = State::Stopped;
                }
            }
            _ => self.state = State::Stopped,
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ArtifactError> {
        if let State::Open(session) = std::mem::replace(&mut self.state, State::Stopped) {
            session.close().await;
        }
        Ok(())
    }
}

fn connecting(config: &Arc<RabbitMqConfig>, route: &Arc<Route>, lease: &Lease) -> State {
    State::Connecting(tokio::spawn(Session::open(Arc::clone(config), Arc::clone(route), lease.clone())))
}

fn describe(error: &Error) -> String {
    error.to_string()
}
