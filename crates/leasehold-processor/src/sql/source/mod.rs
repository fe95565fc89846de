//! Reads a store for its processor: ahead, in pages, and only what is not in flight already.

mod payloads;
mod read;
mod suspects;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::artifact::ArtifactError;
use leasehold_core::backoff::Backoff;
use leasehold_core::clock::{BootClock, Clock, Instant};
use leasehold_core::dispatch::{Action, Event, Fetched, Order, Settlement, Source};
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use leasehold_core::status::Condition;
use tokio::task::JoinHandle;

use super::SqlStore;
use super::rows::{Row, StoredId};
use super::scan::{Ordering, PAGE, Plan, Scan, limit};
use super::writer::{At, Change, Changes, Writer};
use crate::error::Error;
use crate::store::Reading;
use read::{Brought, Passed, bring};
use suspects::Suspects;

/// The checkpoint that tells whether the last reader left politely.
const READING: &str = "reading";
/// Its values: messages may be in flight, or none is.
const OPEN: &str = "open";
const CLEAN: &str = "clean";
/// So many acknowledgements wait to be written at most: what comes again after a crash, besides what was in flight. A batch where
/// messages are delivered one at a time; elsewhere the next batch fills while one is written.
const MOST_IN_ORDER: usize = 200;
const MOST_OUTSTANDING: usize = 400;
/// How often it looks for what was committed late; it takes no more than a twentieth of the time.
const LATE_EVERY: Duration = Duration::from_secs(1);
const LATE_SHARE: u32 = 20;
/// How often it looks through everything, for transactions that took longer than the scan remembers.
const FAR_EVERY: Duration = Duration::from_secs(60);
/// How often it deletes some of what was parked long ago.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// The database's clock is known this well, in milliseconds.
const CLOCK: i64 = 500;
const EXPIRED: &str = "expired before it was delivered";
/// Pauses while the database does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct SqlSource {
    store: SqlStore,
    lease: Lease,
    reading: Reading,
    scan: Scan,
    writer: Writer,
    /// Read and not handed over.
    page: VecDeque<Row>,
    /// The payloads of so many of those are still to be read.
    partial: usize,
    work: Option<(Plan, JoinHandle<Result<Brought, Error>>)>,
    /// Settled since that began: it may have read them before they were.
    gone: HashSet<StoredId>,
    /// Committed late, and still to be read.
    late: Vec<StoredId>,
    /// Read, and waiting for those.
    pending: Option<(Plan, Brought, HashSet<StoredId>)>,
    /// The last look for those was cut short here.
    late_after: Option<StoredId>,
    backoff: Backoff,
    /// The database did not answer: not before.
    again_at: Option<Instant>,
    /// The next look for new messages, unless there is a reason to look before.
    look_at: Instant,
    late_at: Instant,
    /// The look that is under way, or was the last, began then; and what was committed before this was found by one.
    late_began: i64,
    looked: i64,
    far_at: Instant,
    trim_at: Instant,
    suspects: Option<Suspects>,
    position: u64,
    /// By position: which message.
    ids: HashMap<u64, Out>,
    /// The bytes of all those.
    bytes: u64,
}

/// A message that is handed over and not settled.
struct Out {
    id: StoredId,
    expires: Option<i64>,
    bytes: u64,
}

impl SqlSource {
    pub(super) async fn begin(store: SqlStore, lease: Lease, reading: Reading) -> Result<Self, Error> {
        let core = |error| Error::core(&store.name, error);
        let last = lease.load(READING).await.map_err(core)?;
        let unclean = last.is_some_and(|last| last != CLEAN);
        lease.save(READING, OPEN).await.map_err(core)?;
        let ordering = match reading.order {
            Order::Ordered => Ordering::All,
            Order::PerKey(_) => Ordering::Keys,
            Order::Unordered(_) => Ordering::None,
        };
        let (now, wall) = (BootClock.now(), lease.schedule_clock().now().timestamp_millis());
        // Behind messages that fail, as many as are kept in memory may be older than what was in flight.
        let left = reading.read_ahead + MOST_OUTSTANDING;
        let suspects = unclean.then(|| Suspects::new(left));
        Ok(Self {
            writer: Writer::start(store.clone(), lease.clone(), reading.lag),
            store,
            lease,
            reading,
            scan: Scan::new(ordering, reading.read_ahead),
            page: VecDeque::new(),
            partial: 0,
            work: None,
            gone: HashSet::new(),
            late: Vec::new(),
            pending: None,
            late_after: None,
            again_at: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, Backoff::seed()),
            look_at: now,
            late_at: now + LATE_EVERY,
            late_began: wall,
            // What was there before is found in its order.
            looked: wall.saturating_sub(CLOCK),
            far_at: now + FAR_EVERY,
            trim_at: now + FAR_EVERY,
            suspects,
            position: 0,
            ids: HashMap::new(),
            bytes: 0,
        })
    }

    fn wall(&self) -> i64 {
        self.lease.schedule_clock().now().timestamp_millis()
    }

    /// Begins to read, if there is a reason to; or tells when there will be one.
    fn look(&mut self) -> Option<Instant> {
        if self.work.is_some() {
            return None;
        }
        let lacking = self.lacking();
        if lacking.is_empty() && self.page.len() >= PAGE / 2 {
            return None;
        }
        let (now, wall) = (BootClock.now(), self.wall());
        if let Some(again) = self.again_at.filter(|again| now < *again) {
            return Some(again);
        }
        let plan = if !lacking.is_empty() {
            Plan::Bodies { ids: lacking }
        } else if !self.late.is_empty() {
            let rest = self.late.split_off(self.late.len().min(PAGE));
            Plan::These { ids: std::mem::replace(&mut self.late, rest) }
        } else {
            let idle = self.scan.is_at_end(wall);
            if now >= self.trim_at {
                self.trim_at = now + TRIM_EVERY;
                Plan::Trim { keep: millis(self.reading.keep) }
            } else if idle && now < self.look_at {
                let due = self
                    .scan
                    .wakes_at()
                    .map(|due| now + Duration::from_millis(due.saturating_sub(wall).max(1).unsigned_abs()));
                return Some(due.map_or(self.look_at, |due| due.min(self.look_at)));
            } else {
                self.look_at = now + self.reading.poll;
                self.next_plan(now, wall, idle)
            }
        };
        let passed =
            Passed { ordering: self.scan.ordering(), between: self.scan.passed(), looked: self.looked };
        let work = bring(self.store.clone(), self.lease.clone(), plan.clone(), passed);
        self.work = Some((plan, tokio::spawn(work)));
        None
    }

    fn next_plan(&mut self, now: Instant, wall: i64, idle: bool) -> Plan {
        // With nothing else to do each look is one for what is late and what is new.
        if now < self.late_at && !idle {
            let plan = self.scan.plan(wall);
            if let Plan::Due { .. } = plan {
                self.scan.looks_for_due();
            }
            return plan;
        }
        // One that was cut short goes on first.
        let far = now >= self.far_at && self.late_after.is_none();
        if far {
            self.far_at = now + FAR_EVERY;
        }
        self.late_at = now + LATE_EVERY;
        self.late_began = wall;
        self.scan.late(now, wall, far, self.late_after.take())
    }

    /// Takes in what was read.
    fn take(&mut self, plan: Plan, brought: Result<Brought, Error>) -> Result<(), Error> {
        let now = BootClock.now();
        let gone = std::mem::take(&mut self.gone);
        match brought {
            Ok(mut brought) => {
                if self.again_at.take().is_some() {
                    self.lease.report(Condition::Working(Arc::clone(&self.store.name)));
                    self.backoff.reset();
                }
                if let Plan::Bodies { ids } = &plan {
                    self.fill(ids, brought.bodies);
                    return Ok(());
                }
                if let Plan::Late { .. } | Plan::These { .. } = plan {
                    self.late_at = self.late_at.max(now + brought.took * LATE_SHARE);
                    self.far_at = self.far_at.max(now + brought.took * LATE_SHARE);
                }
                if let Plan::Late { .. } = plan {
                    let last = brought.ids.last().copied();
                    let is_cut = brought.ids.len() >= limit(&plan);
                    let late = self.scan.found(std::mem::take(&mut brought.ids), &gone);
                    self.late.extend(late);
                    self.late_after = last.filter(|last| is_cut && *last <= self.scan.passed().1);
                    if self.late_after.is_none() {
                        self.looked = self.late_began.saturating_sub(CLOCK);
                    }
                }
                let unknown = |id: &StoredId| !gone.contains(id) && !self.scan.holds(*id);
                let earlier: Vec<StoredId> = brought.earlier.drain(..).filter(unknown).collect();
                if !earlier.is_empty() {
                    // Committed after the scan had passed, and before these: they come first.
                    self.late.extend(earlier);
                    self.pending = Some((plan, brought, gone));
                } else {
                    if let Some((_, _, pending)) = &mut self.pending {
                        pending.extend(&gone);
                    }
                    self.admit(&plan, brought, &gone);
                }
                if self.late.is_empty()
                    && let Some((plan, brought, gone)) = self.pending.take()
                {
                    self.admit(&plan, brought, &gone);
                }
                Ok(())
            }
            Err(error) if error.is_temporary() => {
                self.lease.report(Condition::Impaired(error.to_string().into()));
                tracing::warn!(artifact = %self.lease.artifact(), %error, "the store could not be read; again");
                self.again_at = Some(now + self.backoff.next_pause());
                match plan {
                    Plan::These { ids } => self.late.extend(ids),
                    Plan::Due { now, .. } => self.scan.wake_at(now),
                    _ => {}
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn admit(&mut self, plan: &Plan, brought: Brought, gone: &HashSet<StoredId>) {
        let wall = self.wall();
        self.page.extend(self.scan.take(plan, brought.rows, gone, brought.beyond, wall));
        self.count_partial();
    }

    fn release(&mut self, id: StoredId) {
        self.scan.release(id);
        if let Some((_, _, gone)) = &mut self.pending {
            gone.insert(id);
        }
        if self.work.is_some() {
            self.gone.insert(id);
        }
    }

    fn note(&mut self, changes: Changes) {
        for (id, change) in changes {
            match change {
                Change::Delete | Change::Park { .. } => self.release(id),
                Change::PutOff { due, at: At::Store, .. } => {
                    self.release(id);
                    self.scan.wake_at(due);
                }
                Change::PutOff { at: At::Holder, .. } => {}
                Change::Attempt(_) => {
                    if let Some(suspects) = &mut self.suspects {
                        suspects.unrecorded = suspects.unrecorded.saturating_sub(1);
                    }
                }
            }
        }
    }

    /// Hands over what may be, at most `room`; whether that was anything.
    fn bring(&mut self, room: usize, events: &mut Vec<Event>) -> bool {
        let rows = if self.suspects.is_some() { self.next_suspects(room) } else { self.next_rows(room) };
        let (now, wall) = (BootClock.now(), self.wall());
        for row in rows {
            self.position += 1;
            self.ids.insert(self.position, Out { id: row.id, expires: row.expires, bytes: row.bytes });
            self.bytes += row.bytes;
            let wait = row.due.map(|due| due.saturating_sub(wall)).filter(|wait| *wait > 0);
            let due = wait.map(|wait| now + Duration::from_millis(wait.unsigned_abs()));
            let (position, message) = (self.position, row.message());
            let key = message.key().cloned();
            events.push(Event::Message(Fetched { lane: 0, position, key, due, message }));
        }
        !events.is_empty()
    }

    fn next_rows(&mut self, room: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut bytes = self.bytes;
        while rows.len() < room
            && self.page.front().is_some_and(|row| row.fits(bytes))
            && let Some(row) = self.page.pop_front()
        {
            if !self.parks(&row) {
                bytes += row.bytes;
                rows.push(row);
            }
        }
        rows
    }

    /// Whether it is parked instead of being handed over.
    fn parks(&mut self, row: &Row) -> bool {
        let reason = if row.expires.is_some_and(|expires| expires <= self.wall()) {
            EXPIRED.to_owned()
        } else if self.suspects.is_some() && row.is_suspect && row.attempts >= self.reading.attempts {
            format!("its handler did not survive {} attempts: the process ended", row.attempts)
        } else {
            return false;
        };
        tracing::warn!(artifact = %self.lease.artifact(), message = %row.name(), reason, "a message is parked");
        self.writer.push(row.id, Change::Park { attempts: row.attempts, reason });
        true
    }

    async fn until_outstanding(&mut self, most: usize) -> Result<(), Error> {
        while self.writer.outstanding() > most {
            let changes = self.writer.written().await?;
            self.note(changes);
        }
        Ok(())
    }
}

#[async_trait]
impl Source for SqlSource {
    async fn fetch(&mut self, room: usize, events: &mut Vec<Event>) -> Result<(), ArtifactError> {
        loop {
            while let Some(changes) = self.writer.try_written() {
                self.note(changes?);
            }
            let brought = self.bring(room, events);
            let look_at = self.look();
            if brought {
                return Ok(());
            }
            let pause = look_at.map(|at| at.since(BootClock.now()));
            let reading = async {
                match &mut self.work {
                    Some((_, work)) => work.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = reading => {
                    let Some((plan, _)) = self.work.take() else { continue };
                    match read {
                        Ok(brought) => self.take(plan, brought)?,
                        Err(error) => return Err(ArtifactError::message(format!("reading a store: {error}"))),
                    }
                }
                changes = self.writer.written() => {
                    let changes = changes?;
                    self.note(changes);
                }
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    async fn settle(&mut self, settlement: &mut Settlement<Message>) -> Result<(), ArtifactError> {
        let wall = self.wall();
        for decision in settlement.decisions.drain(..) {
            let Some(Out { id, bytes, .. }) = self.ids.remove(&decision.position) else { continue };
            self.bytes -= bytes;
            self.through(id);
            let change = match decision.action {
                Action::Acknowledge | Action::Discard { .. } => Change::Delete,
                Action::DeadLetter { attempts, reason } => Change::Park { attempts, reason },
                Action::Requeue { delay, attempts, reason } => Change::PutOff {
                    attempts,
                    due: wall.saturating_add(millis(delay)),
                    error: reason,
                    at: At::Store,
                },
            };
            self.writer.push(id, change);
        }
        let most = match self.reading.order {
            _ if self.reading.lag.is_zero() => 0,
            Order::Ordered => MOST_IN_ORDER,
            _ => MOST_OUTSTANDING,
        };
        self.until_outstanding(most).await?;
        Ok(())
    }

    fn handing_over(&mut self, position: u64, _: &Message) -> Option<String> {
        let expires = self.ids.get(&position).and_then(|out| out.expires)?;
        (expires <= self.wall()).then(|| EXPIRED.to_owned())
    }

    fn together(&self) -> usize {
        if self.reading.lag.is_zero() { 1 } else { 64 }
    }

    fn postponed(&mut self, position: u64, attempts: u32, due: Instant, reason: &str) {
        let Some(id) = self.ids.get(&position).map(|out| out.id) else { return };
        self.put_off(id);
        let due = self.wall().saturating_add(millis(due.since(BootClock.now())));
        self.writer.push(id, Change::PutOff { attempts, due, error: reason.to_owned(), at: At::Holder });
    }

    async fn stop(&mut self) -> Result<(), ArtifactError> {
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ArtifactError> {
        self.writer.hurry();
        self.until_outstanding(0).await?;
        self.lease.save(READING, CLEAN).await?;
        Ok(())
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
