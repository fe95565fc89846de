//! The processor: builder and artifact.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::Error;
use leasehold_core::artifact::{Artifact, ArtifactError};
use leasehold_core::dispatch::{self, Order, Settings};
use leasehold_core::handler::{Handler, SharedHandler};
use leasehold_core::lease::Lease;
use leasehold_core::name::{ArtifactKind, ArtifactName};
use leasehold_core::protocol::placement::Placement;
use leasehold_core::status::Condition;
use leasehold_core::telemetry;
use uuid::Uuid;

use crate::breaker::Breaker;
use crate::circuit::{self, Guarded};
use crate::config::{Acknowledge, Exhausted, Off, ProcessorConfig, Retry, StoreConfig, Switch};
use crate::gate::{Gate, Sampling, Throttle, Window};
use crate::gated::Gated;
use crate::store::MessageStore;

/// How often the depth of a store is told as a metric: a count reads up to 10,000 rows.
const MEASURE: Duration = Duration::from_secs(15);

/// What is told when a processor deactivates itself: why.
pub(crate) type OnDeactivate = Arc<dyn Fn(&str) + Send + Sync>;

/// Brings the messages of a store to a handler, on one replica: an artifact of kind `processor`.
///
/// ```no_run
/// # use leasehold_processor::{Forward, Order, Processor, SqlStore};
/// # fn make(db: sea_orm::DatabaseConnection) -> Result<Processor, Box<dyn std::error::Error>> {
/// let outbox = SqlStore::new(&db, "outbox")?;
/// let push = Processor::new("crm-push", outbox, Forward::post("https://crm.example/orders/{header.region}")?)?
///     .order(Order::PerKey(32))
///     .attempts(8)
///     .park();
/// # Ok(push) }
/// ```
#[derive(Clone)]
pub struct Processor {
    config: ProcessorConfig,
    kind: ArtifactKind,
    store: Arc<dyn MessageStore>,
    handler: SharedHandler,
    on_fault: Option<SharedHandler>,
    on_deactivate: Option<OnDeactivate>,
}

impl Processor {
    /// The processor `name`, which brings the messages of `store` to `handler`: one at a time, in their order, with eight
    /// attempts each, unless it is told otherwise.
    ///
    /// # Errors
    /// [`Error::Name`] when the name breaks `[a-z0-9][a-z0-9._-]{0,99}`.
    pub fn new(
        name: impl AsRef<str>,
        store: impl MessageStore,
        handler: impl Handler,
    ) -> Result<Self, Error> {
        let store_config = StoreConfig::Sql(store.name().to_owned());
        let config = ProcessorConfig::new(ArtifactName::new(name)?, store_config);
        Self::made(config, Arc::new(store), Arc::new(handler))
    }

    /// A processor that was read from a file, for a handler of the program's.
    ///
    /// # Errors
    /// Those of [`ProcessorConfig::validate`]; [`Error::Artifact`] for a store that cannot be, and if the file says where to
    /// forward to.
    pub fn from_config(
        config: ProcessorConfig,
        db: &sea_orm::DatabaseConnection,
        handler: impl Handler,
    ) -> Result<Self, Error> {
        #[cfg(feature = "http")]
        if config.forward.is_some() {
            let problem = "forward is given, and a handler of the program's, too: leave one of them out";
            return Err(Error::artifact(config.name.as_str(), problem));
        }
        let store = sql_store(&config, db)?;
        Self::made(config, store, Arc::new(handler))
    }

    /// A processor that was read from a file, and forwards.
    ///
    /// # Errors
    /// Those of [`ProcessorConfig::validate`]; [`Error::Artifact`] for a store that cannot be, and if the file does not say
    /// where to forward to.
    #[cfg(feature = "http")]
    pub fn forward_from_config(
        config: ProcessorConfig,
        db: &sea_orm::DatabaseConnection,
    ) -> Result<Self, Error> {
        let Some(forward) = config.forward.clone() else {
            let problem =
                "forward is missing: say where to, for example { url = \"https://crm.example/orders\" }";
            return Err(Error::artifact(config.name.as_str(), problem));
        };
        let forward = crate::Forward::from_config(forward)
            .map_err(|problem| Error::artifact(config.name.as_str(), problem.to_string()))?;
        let store = sql_store(&config, db)?;
        Self::made(config, store, Arc::new(forward))
    }

    fn made(
        config: ProcessorConfig,
        store: Arc<dyn MessageStore>,
        handler: SharedHandler,
    ) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            config,
            kind: ArtifactKind::new("processor")?,
            store,
            handler,
            on_fault: None,
            on_deactivate: None,
        })
    }

    /// How many messages are handled at once, and in which order; one at a time unless set.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.config.order = order;
        self
    }

    /// How often a message is handed over at most, by whichever holder; 8 times unless set.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.config.retry.attempts = attempts;
        self
    }

    /// The pause after the first failure, and the longest one; 1 s and 60 s unless set.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.config.retry = Retry { backoff: first, max_backoff: longest, ..self.config.retry };
        self
    }

    /// What cannot be delivered is parked. Unless this or [`drop_exhausted`](Processor::drop_exhausted) is called, it stays
    /// where it is and the processor is deactivated: paused in the whole cluster, until somebody resumes it.
    #[must_use]
    pub fn park(mut self) -> Self {
        self.config.retry.then = Exhausted::Park;
        self
    }

    /// What cannot be delivered is deleted.
    #[must_use]
    pub fn drop_exhausted(mut self) -> Self {
        self.config.retry.then = Exhausted::Drop;
        self
    }

    /// Each delivery is written down before the next message is handed over: after a crash no more than what was in flight
    /// comes again.
    #[must_use]
    pub fn acknowledge_each(mut self) -> Self {
        self.config.acknowledge = Acknowledge::Each;
        self
    }

    /// Deliveries are written down together, each within this time; 20 ms unless set.
    #[must_use]
    pub fn acknowledge_within(mut self, lag: Duration) -> Self {
        self.config.acknowledge = Acknowledge::Within(lag);
        self
    }

    /// When the circuit opens, and for how long.
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.config.breaker = Switch::On(breaker);
        self
    }

    /// No circuit breaker: each message is tried as often as it may be, whatever happens to others.
    #[must_use]
    pub fn without_breaker(mut self) -> Self {
        self.config.breaker = Switch::Off(Off::Off);
        self
    }

    /// So many messages per time at most.
    #[must_use]
    pub fn throttle(mut self, throttle: Throttle) -> Self {
        self.config.throttle = Some(throttle);
        self
    }

    /// Messages are handed over while this window is open, or another one that was given.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.config.windows.push(window);
        self
    }

    /// So many messages of each interval: what an operator of WSO2 knows as a sampling processor.
    #[must_use]
    pub fn sample(mut self, messages: u32, every: Duration) -> Self {
        self.config.sampling = Some(Sampling { messages, every });
        self
    }

    /// Messages kept in memory at most; 4000 unless set.
    #[must_use]
    pub fn read_ahead(mut self, messages: usize) -> Self {
        self.config.read_ahead = messages;
        self
    }

    /// How often it looks for messages while there are none; twice a second unless set.
    #[must_use]
    pub fn poll(mut self, poll: Duration) -> Self {
        self.config.poll = poll;
        self
    }

    /// How long parked messages are kept; 30 days unless set.
    #[must_use]
    pub fn keep(mut self, keep: Duration) -> Self {
        self.config.keep = keep;
        self
    }

    /// How it is placed; as the node's other artifacts unless set.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.config.placement = Some(placement);
        self
    }

    /// Gets each message that is about to be parked, dropped or to deactivate the processor, before that happens. What it
    /// fails with is logged, and changes nothing.
    #[must_use]
    pub fn on_fault(mut self, handler: impl Handler) -> Self {
        self.on_fault = Some(Arc::new(handler));
        self
    }

    /// Is told why when the processor has deactivated itself.
    #[must_use]
    pub fn on_deactivate(mut self, told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_deactivate = Some(Arc::new(told));
        self
    }

    /// The same as it is written in a file.
    pub fn config(&self) -> &ProcessorConfig {
        &self.config
    }

    fn gate(&self) -> Result<Gate, Error> {
        let openings = self.config.windows.iter().map(Window::parse).collect::<Result<_, _>>();
        let openings = openings.map_err(|problem| Error::artifact(self.config.name.as_str(), problem))?;
        Ok(Gate::new(self.config.throttle, self.config.sampling, openings))
    }

    /// Pauses itself in the whole cluster.
    async fn deactivate(&self, lease: &Lease, why: &str) -> Result<(), ArtifactError> {
        lease.report(Condition::Impaired(why.into()));
        tracing::error!(artifact = %self.config.name, why, "the processor deactivates itself");
        lease.pause_artifact(why).await?;
        if let Some(told) = &self.on_deactivate {
            told(why);
        }
        // The pause comes back as a revocation.
        lease.revoked().await;
        Ok(())
    }
}

fn sql_store(
    config: &ProcessorConfig,
    db: &sea_orm::DatabaseConnection,
) -> Result<Arc<dyn MessageStore>, Error> {
    let StoreConfig::Sql(name) = &config.store;
    let store = crate::SqlStore::new(db, name);
    Ok(Arc::new(store.map_err(|problem| Error::artifact(config.name.as_str(), problem.to_string()))?))
}

#[async_trait]
impl Artifact for Processor {
    fn name(&self) -> &ArtifactName {
        &self.config.name
    }

    fn kind(&self) -> ArtifactKind {
        self.kind.clone()
    }

    fn placement(&self) -> Option<&Placement> {
        self.config.placement.as_ref()
    }

    fn fingerprint(&self) -> Uuid {
        self.config.fingerprint()
    }

    fn validate(&self) -> Result<(), Error> {
        self.config.validate()
    }

    async fn run(&self, lease: Lease) -> Result<(), ArtifactError> {
        let source = match self.store.read(&lease, self.config.reading()).await {
            Ok(source) => source,
            Err(_) if lease.is_revoked() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        lease.report(Condition::Working(self.store.name().into()));
        let circuit = match self.config.breaker {
            Switch::On(breaker) => Some(Arc::new(Mutex::new(circuit::load(breaker, &lease).await?))),
            Switch::Off(_) => None,
        };
        let handler = Guarded::new(self, circuit.clone());
        let mut source = Gated::new(source, self.gate()?, circuit, lease.clone());
        let policy = self.config.policy();
        let settings = Settings { order: self.config.order, policy, capacity: self.config.read_ahead };
        let ran = tokio::select! {
            ran = dispatch::run_until_stopped(&mut source, Arc::new(handler), &lease, settings) => ran,
            never = measure(Arc::clone(&self.store)) => match never {},
        };
        match ran {
            Ok(None) => Ok(()),
            Ok(Some(why)) => self.deactivate(&lease, &why).await,
            Err(error) => Err(error),
        }
    }
}

/// Whose reader this is. Another one tells how full it is when this one has gone.
struct Gauges(Arc<dyn MessageStore>);

impl Drop for Gauges {
    fn drop(&mut self) {
        telemetry::depth(self.0.name(), 0, 0, Duration::ZERO);
    }
}

/// Tells how full the store is, now and then; a count that is under way ends by itself.
async fn measure(store: Arc<dyn MessageStore>) -> Infallible {
    let gauges = Gauges(Arc::clone(&store));
    loop {
        let counted = Arc::clone(&gauges.0);
        if let Ok(Ok(depth)) = tokio::spawn(async move { counted.depth().await }).await {
            telemetry::depth(store.name(), depth.waiting, depth.parked, depth.oldest.unwrap_or_default());
        }
        tokio::time::sleep(MEASURE).await;
    }
}

impl Processor {
    pub(crate) fn handler(&self) -> SharedHandler {
        Arc::clone(&self.handler)
    }

    pub(crate) fn fault(&self) -> Option<SharedHandler> {
        self.on_fault.clone()
    }
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor").field("config", &self.config).finish_non_exhaustive()
    }
}
