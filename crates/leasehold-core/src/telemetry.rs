//! Metrics, by the [`metrics`] facade: a contract, as `docs/metrics.md` has it. Without a recorder they cost nothing; install one
//! before nodes start, because what a node counts is registered then.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
};
use metrics::{gauge, histogram};

use crate::lease::Lease;
use crate::name::{ClusterName, NodeId};

const LEASES_HELD: &str = "leasehold_leases_held";
const LEADER: &str = "leasehold_leader";
const TRUST: &str = "leasehold_trust_remaining_seconds";
const RENEWAL: &str = "leasehold_renewal_seconds";
const GRANTS: &str = "leasehold_grants_total";
const FAILURES: &str = "leasehold_run_failures_total";
const EXPIRIES: &str = "leasehold_expiries_total";
const SESSIONS_LOST: &str = "leasehold_sessions_lost_total";
const FIRINGS: &str = "leasehold_firings_total";
const LATENESS: &str = "leasehold_firing_lateness_seconds";
const MESSAGES: &str = "leasehold_messages_total";
const WAITING: &str = "leasehold_store_waiting";
const PARKED: &str = "leasehold_store_parked";
const OLDEST: &str = "leasehold_store_oldest_seconds";

/// Tells the recorder what each metric is, for those that show it. Call it after a recorder was installed.
pub fn describe() {
    describe_gauge!(LEASES_HELD, Unit::Count, "Leases under which this node runs something.");
    describe_gauge!(LEADER, Unit::Count, "1 while this node plans for the cluster.");
    describe_gauge!(
        TRUST,
        Unit::Seconds,
        "How long this node may trust its session, without another renewal."
    );
    describe_histogram!(RENEWAL, Unit::Seconds, "From sending a renewal to its answer.");
    describe_counter!(GRANTS, Unit::Count, "Runs that began here.");
    describe_counter!(FAILURES, Unit::Count, "Runs that failed here.");
    describe_counter!(EXPIRIES, Unit::Count, "Sessions of others that this node found still, and ended.");
    describe_counter!(SESSIONS_LOST, Unit::Count, "Own sessions that were found to be over.");
    describe_counter!(FIRINGS, Unit::Count, "Attempts of firings, by how they ended.");
    describe_histogram!(LATENESS, Unit::Seconds, "From a slot to its first attempt.");
    describe_counter!(MESSAGES, Unit::Count, "Messages, by what became of them.");
    describe_gauge!(WAITING, Unit::Count, "Messages that wait in a store; counted up to 10,000.");
    describe_gauge!(PARKED, Unit::Count, "Messages that are parked in a store; counted up to 10,000.");
    describe_gauge!(OLDEST, Unit::Seconds, "How long the oldest message has been waiting.");
}

/// What one node counts.
#[derive(Debug)]
pub(crate) struct NodeMeters {
    pub(crate) held: Gauge,
    pub(crate) leader: Gauge,
    pub(crate) trust: Gauge,
    pub(crate) renewal: Histogram,
    pub(crate) grants: Counter,
    pub(crate) failures: Counter,
    pub(crate) expiries: Counter,
    pub(crate) sessions_lost: Counter,
}

impl NodeMeters {
    pub(crate) fn new(cluster: &ClusterName, node: &NodeId) -> Self {
        let labels = [("cluster", cluster.to_string()), ("node", node.to_string())];
        Self {
            held: gauge!(LEASES_HELD, &labels),
            leader: gauge!(LEADER, &labels),
            trust: gauge!(TRUST, &labels),
            renewal: histogram!(RENEWAL, &labels),
            grants: counter!(GRANTS, &labels),
            failures: counter!(FAILURES, &labels),
            expiries: counter!(EXPIRIES, &labels),
            sessions_lost: counter!(SESSIONS_LOST, &labels),
        }
    }
}

fn labels(lease: &Lease) -> [(&'static str, String); 2] {
    [("cluster", lease.key().cluster.to_string()), ("artifact", lease.artifact().to_string())]
}

/// An attempt of a firing has ended: `outcome` is that of the history. For plugins that fire.
pub fn firing(lease: &Lease, outcome: &'static str) {
    let [cluster, artifact] = labels(lease);
    counter!(FIRINGS, &[cluster, artifact, ("outcome", outcome.to_owned())]).increment(1);
}

/// A slot was fired so late for the first time.
pub fn lateness(lease: &Lease, late: Duration) {
    histogram!(LATENESS, &labels(lease)).record(late);
}

/// What became of the messages of one run.
pub(crate) struct MessageMeters {
    pub(crate) delivered: Counter,
    pub(crate) retried: Counter,
    pub(crate) parked: Counter,
    pub(crate) discarded: Counter,
}

impl MessageMeters {
    pub(crate) fn new(lease: &Lease) -> Self {
        let meter = |outcome: &'static str| {
            let [cluster, artifact] = labels(lease);
            counter!(MESSAGES, &[cluster, artifact, ("outcome", outcome.to_owned())])
        };
        Self {
            delivered: meter("delivered"),
            retried: meter("retried"),
            parked: meter("parked"),
            discarded: meter("discarded"),
        }
    }
}

/// How full a store is, as its reader sees it.
#[allow(clippy::cast_precision_loss, reason = "counted up to 10,000")]
pub fn depth(store: &str, waiting: u64, parked: u64, oldest: Duration) {
    let labels = [("store", store.to_owned())];
    gauge!(WAITING, &labels).set(waiting as f64);
    gauge!(PARKED, &labels).set(parked as f64);
    gauge!(OLDEST, &labels).set(oldest.as_secs_f64());
}
