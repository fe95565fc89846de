//! The thread that the client lives on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use leasehold_core::backoff::Backoff;
use leasehold_core::clock::{BootClock, Clock, Instant};
use leasehold_core::dispatch::{Event, Fetched, LaneId};
use leasehold_core::message::Progress;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::oneshot;

use super::client;
use super::config::{Key, Offsets};
use super::convert;
use super::state::{Callbacks, Shared};
use crate::error::{Error, ErrorKind};

/// Brought together at most.
const TOGETHER: usize = 256;
/// While it has nothing to do the thread looks at least this often: the client tells of most things, but not of all.
const IDLE: Duration = Duration::from_millis(100);
/// So often nothing may be brought before the queue is taken for empty: an event without a message looks the same.
const EMPTY: u32 = 3;
/// When handlers have taken nothing for so long, partitions are paused, so that polling can go on.
const STALLED: Duration = Duration::from_secs(1);
/// While it cannot work it asks the broker this often whether it is back.
const PROBE: Duration = Duration::from_secs(1);
/// How long it waits for that answer.
const PROBED: Duration = Duration::from_millis(500);

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Command {
    /// The client has something.
    Wake,
    /// All of these lanes up to these positions is handled.
    Handled(Vec<(LaneId, u64)>),
    /// What became of a commit.
    Committed(Result<(), Error>),
    /// Bring nothing more.
    Stop,
    /// Commit, tell, and end.
    Close(oneshot::Sender<()>),
    /// End without committing anything.
    Abandon,
}

/// The pauses before a client that failed is replaced.
const RENEW: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How a client's life ended.
enum Ended {
    /// And whom to tell when the client is gone, too.
    Closed(Option<oneshot::Sender<()>>),
    Failed(Error),
}

/// Runs until it is told to end. `commands` gives what `receiver` takes.
pub(super) fn run(shared: &Arc<Shared>, commands: &Sender<Command>, receiver: &Receiver<Command>) {
    let mut backoff = Backoff::new(RENEW.0, RENEW.1, Backoff::seed());
    // Outlives each client: the next one is not to bring anything either.
    let mut stopped = false;
    loop {
        let began = BootClock.now();
        let drowsy = Arc::new(AtomicBool::new(false));
        let ended = match consumer(shared, commands, &drowsy) {
            Ok(consumer) => live(shared, commands, receiver, &consumer, drowsy, &mut stopped),
            Err(error) => Ended::Failed(error),
        };
        let error = match ended {
            Ended::Failed(error) => error,
            Ended::Closed(done) => {
                // Whoever asked may have gone.
                let _ = done.map(|done| done.send(()));
                return;
            }
        };
        let lost = shared.book().revoke_all();
        shared.bring(lost.into_iter().map(Event::Lost).collect());
        shared.impaired(&error);
        if BootClock.now().since(began) > RENEW.1 * 2 {
            backoff.reset();
        }
        if !rest(receiver, backoff.next_pause(), &mut stopped) {
            return;
        }
    }
}

/// One life of a client.
fn live(
    shared: &Shared,
    commands: &Sender<Command>,
    receiver: &Receiver<Command>,
    consumer: &BaseConsumer<Callbacks>,
    drowsy: Arc<AtomicBool>,
    stopped: &mut bool,
) -> Ended {
    let (committer, asked) = mpsc::channel();
    // A commit takes a round trip, and messages are brought meanwhile. That the client tells by a callback how it ended is no
    // alternative: this binding never calls `commit_callback` for a commit that somebody asks for.
    let commits = move || {
        while asked.recv().is_ok() {
            if commands.send(Command::Committed(shared.commit(consumer))).is_err() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        let name = format!("{} commits", shared.lease.artifact());
        match thread::Builder::new().name(name).spawn_scoped(scope, commits) {
            // Its end drops the committer's channel, and the scope waits for the thread.
            Ok(_) => Client::new(shared, receiver, consumer, committer, drowsy, stopped).live(),
            Err(error) => Ended::Failed(Error::new(ErrorKind::Other, "start a thread", error.to_string())),
        }
    })
}

/// Waits; whether to go on. Once it is stopped it waits for the end.
fn rest(receiver: &Receiver<Command>, pause: Duration, stopped: &mut bool) -> bool {
    let until = BootClock.now() + pause;
    loop {
        let left = until.since(BootClock.now());
        if left.is_zero() && !*stopped {
            return true;
        }
        match receiver.recv_timeout(if *stopped { IDLE } else { left }) {
            Ok(Command::Close(done)) => {
                // Whoever asked may have gone.
                let _ = done.send(());
                return false;
            }
            Ok(Command::Abandon) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(Command::Stop) => *stopped = true,
            // Nothing of what was handled can be told any more.
            Ok(Command::Wake | Command::Handled(_) | Command::Committed(_))
            | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn consumer(
    shared: &Arc<Shared>,
    commands: &Sender<Command>,
    drowsy: &Arc<AtomicBool>,
) -> Result<BaseConsumer<Callbacks>, Error> {
    const OPERATION: &str = "make a consumer";
    let (config, lease) = (&shared.config, &shared.lease);
    lease.check().map_err(|lost| Error::new(ErrorKind::Fenced, OPERATION, lost.to_string()))?;
    let name = format!("leasehold-{}-{}", lease.artifact(), lease.token());
    let mut settings = client::consumer(config, &name)
        .map_err(|error| Error::new(ErrorKind::Config, OPERATION, error.to_string()))?;
    if shared.is_anew() {
        // A member that comes back is given what it had, unless the group's strategy is another one.
        settings.set("partition.assignment.strategy", "roundrobin,range");
    }
    let made = settings.create_with_context(Callbacks(Arc::clone(shared)));
    let mut consumer: BaseConsumer<Callbacks> = made.map_err(|error| shared.explain(OPERATION, &error))?;
    let (waker, drowsy) = (commands.clone(), Arc::clone(drowsy));
    consumer.set_nonempty_callback(move || {
        if drowsy.swap(false, Ordering::AcqRel) {
            // The thread may have ended.
            let _ = waker.send(Command::Wake);
        }
    });
    let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(|error| shared.explain("subscribe", &error))?;
    Ok(consumer)
}

/// One life of a client.
struct Client<'a> {
    shared: &'a Shared,
    receiver: &'a Receiver<Command>,
    consumer: &'a BaseConsumer<Callbacks>,
    committer: Sender<()>,
    drowsy: Arc<AtomicBool>,
    committed_at: Instant,
    /// A commit is under way.
    asked: bool,
    /// The last one was refused: the next one waits for its time, however much there is to tell.
    refused: bool,
    /// Since when nothing is brought because handlers are behind.
    full_since: Option<Instant>,
    paused: bool,
    stopped: &'a mut bool,
    impaired: bool,
    probed_at: Instant,
}

impl<'a> Client<'a> {
    fn new(
        shared: &'a Shared,
        receiver: &'a Receiver<Command>,
        consumer: &'a BaseConsumer<Callbacks>,
        committer: Sender<()>,
        drowsy: Arc<AtomicBool>,
        stopped: &'a mut bool,
    ) -> Self {
        let (committed_at, full_since, probed_at) = (BootClock.now(), None, BootClock.now());
        let (asked, refused, paused, impaired) = (false, false, false, false);
        Self {
            shared,
            receiver,
            consumer,
            committer,
            drowsy,
            committed_at,
            asked,
            refused,
            full_since,
            paused,
            stopped,
            impaired,
            probed_at,
        }
    }

    fn live(mut self) -> Ended {
        loop {
            while let Ok(command) = self.receiver.try_recv() {
                if let Some(closed) = self.obey(command) {
                    return closed;
                }
            }
            let more = self.bring();
            if let Some(error) = self.shared.failure() {
                return Ended::Failed(error);
            }
            self.commit();
            self.probe();
            if !more
                && let Some(command) = self.sleep()
                && let Some(closed) = self.obey(command)
            {
                return closed;
            }
        }
    }

    /// The end, if that was it.
    fn obey(&mut self, command: Command) -> Option<Ended> {
        match command {
            Command::Wake => {}
            Command::Handled(marks) => {
                let known = self.shared.config.offsets == Offsets::InDatabase;
                let mut book = self.shared.book();
                for (lane, mark) in marks {
                    book.handled(lane, mark, known);
                }
            }
            Command::Committed(committed) => {
                self.asked = false;
                self.committed(committed);
            }
            Command::Stop => {
                *self.stopped = true;
                self.pause();
            }
            Command::Close(done) => {
                let committed = self.shared.commit(self.consumer);
                self.committed(committed);
                self.shared.end();
                return Some(Ended::Closed(Some(done)));
            }
            Command::Abandon => {
                self.shared.end();
                return Some(Ended::Closed(None));
            }
        }
        None
    }

    /// Polls, and brings what there is; whether there may be more.
    fn bring(&mut self) -> bool {
        let most = self.shared.config.max_in_flight;
        let (mut events, mut empty) = (Vec::new(), 0);
        let gone = self.shared.book().gone();
        // Before the queue is found empty: what comes between that and going to sleep wakes the thread, too.
        self.drowsy.store(true, Ordering::Release);
        if !self.may_bring() {
            // For rebalances, errors and the client's own clock.
            if self.paused
                && let Some(polled) = self.consumer.poll(Duration::ZERO)
            {
                self.take(polled, &mut events);
                if !events.is_empty() {
                    // Of a partition that came meanwhile, and is to wait like the others.
                    self.pause();
                }
            }
            self.pass_on(events, gone);
            return false;
        }
        while events.len() < TOGETHER && empty < EMPTY && self.shared.book().open() < most {
            match self.consumer.poll(Duration::ZERO) {
                Some(polled) => self.take(polled, &mut events),
                None => empty += 1,
            }
        }
        self.pass_on(events, gone);
        empty < EMPTY
    }

    /// Brings what was polled, but for what came to nothing meanwhile: `gone` is how often partitions had gone before.
    fn pass_on(&self, mut events: Vec<Event>, gone: u64) {
        if self.shared.has_failed() {
            // Where to begin could not be read, for example: then these are from somewhere else. All lanes are lost in a moment.
            return;
        }
        {
            let book = self.shared.book();
            if book.gone() != gone {
                // The callbacks have told of it already: nothing of a lane comes after its loss.
                events.retain(|event| match event {
                    Event::Message(message) => book.knows(message.lane),
                    Event::Lost(_) => true,
                });
            }
        }
        self.shared.bring(events);
    }

    /// Whether messages may be brought; pauses and resumes the client's fetching.
    fn may_bring(&mut self) -> bool {
        if *self.stopped {
            return false;
        }
        let most = self.shared.config.max_in_flight;
        let open = self.shared.book().open();
        if open >= most {
            let now = BootClock.now();
            let since = *self.full_since.get_or_insert(now);
            if !self.paused && now.since(since) > STALLED {
                self.pause();
            }
            return false;
        }
        self.full_since = None;
        if self.paused {
            if open > most / 2 {
                return false;
            }
            self.resume();
        }
        true
    }

    fn take(&mut self, polled: Result<BorrowedMessage<'_>, KafkaError>, events: &mut Vec<Event>) {
        match polled {
            // It stays at the broker: nobody was told of it.
            Ok(_) if *self.stopped => {}
            Ok(message) => self.message(&message, events),
            Err(error @ KafkaError::MessageConsumptionFatal(_)) => {
                self.shared.fail(self.shared.explain("consume", &error));
            }
            Err(error) => self.ails(&self.shared.explain("consume", &error)),
        }
    }

    fn message(&mut self, from: &BorrowedMessage<'_>, events: &mut Vec<Event>) {
        if self.impaired {
            self.heals();
        }
        let offset = from.offset().unsigned_abs();
        let mut book = self.shared.book();
        if book.goes_back(from.topic(), from.partition(), offset) {
            tracing::warn!(
                artifact = %self.shared.lease.artifact(), topic = from.topic(), partition = from.partition(), offset,
                "the partition begins anew: its topic was deleted and made again, or truncated"
            );
            events.extend(book.revoke(from.topic(), from.partition()).map(Event::Lost));
        }
        let partition = book.deliver(from.topic(), from.partition(), offset);
        let config = &self.shared.config;
        let progress = (config.offsets == Offsets::InDatabase)
            .then(|| Progress::new(Arc::clone(&partition.checkpoint), offset + 1));
        let message = convert::message(from, &partition.source, progress);
        let key = match config.key {
            Key::Message => message.key().cloned(),
            Key::Partition => Some(partition.key.clone()),
        };
        let fetched = Fetched { lane: partition.lane, position: offset, key, due: None, message };
        events.push(Event::Message(fetched));
    }

    /// Asks for a commit when it is time, or when much is waiting for it.
    fn commit(&mut self) {
        if self.asked {
            return;
        }
        let config = &self.shared.config;
        let due = BootClock.now().since(self.committed_at) >= config.commit;
        // Not each time that there is no room: a commit is a round trip, whatever it tells.
        let much = !self.refused && self.shared.book().uncommitted() >= (config.max_in_flight / 2).max(1);
        if due || much {
            self.committed_at = BootClock.now();
            // The committer ends after this.
            self.asked = self.committer.send(()).is_ok();
        }
    }

    fn committed(&mut self, committed: Result<(), Error>) {
        self.refused = committed.is_err();
        match committed {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Fenced => self.shared.fail(error),
            Err(error) => self.ails(&error),
        }
    }

    fn ails(&mut self, error: &Error) {
        self.shared.impaired(error);
        (self.impaired, self.probed_at) = (true, BootClock.now());
    }

    fn heals(&mut self) {
        self.impaired = false;
        self.shared.works(&self.consumer.assignment().unwrap_or_default());
    }

    /// Asks a broker that was away whether it is back: it tells by itself only when there is a message.
    fn probe(&mut self) {
        if !self.impaired || BootClock.now().since(self.probed_at) < PROBE {
            return;
        }
        let assigned = self.consumer.assignment().is_ok_and(|list| list.count() > 0);
        if assigned && self.consumer.client().fetch_metadata(None, PROBED).is_ok() {
            self.heals();
        }
        self.probed_at = BootClock.now();
    }

    fn pause(&mut self) {
        self.paused = true;
        self.all("pause", |consumer, list| consumer.pause(list));
    }

    fn resume(&mut self) {
        self.paused = false;
        self.all("resume", |consumer, list| consumer.resume(list));
    }

    fn all(
        &self,
        operation: &'static str,
        to: impl Fn(&BaseConsumer<Callbacks>, &TopicPartitionList) -> KafkaResult<()>,
    ) {
        let done = self.consumer.assignment().and_then(|list| to(self.consumer, &list));
        if let Err(error) = done {
            tracing::debug!(%error, operation, "partitions");
        }
    }

    /// Until the client or somebody else has something.
    fn sleep(&self) -> Option<Command> {
        self.receiver.recv_timeout(IDLE).ok()
    }
}
