//! The contract of docs/metrics.md: each metric and each span in its table is told, with its labels and fields.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold::prelude::*;
use leasehold::processor::MessageStore;
use leasehold_core::protocol::ids::SessionId;
use leasehold_core::protocol::request::{Answer, Deployment, NewNode, Request};
use leasehold_core::store::{Link, Target};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::span::Attributes;
use tracing::{Id, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

const CONTRACT: &str = include_str!("../../docs/metrics.md");
const TTL: Duration = Duration::from_millis(800);
/// Only a hang takes longer.
const HANG: Duration = Duration::from_secs(60);

/// The rows of a table of the contract: the words in code marks of these two columns.
fn rows(head: &str, first: usize, second: usize) -> Vec<(Vec<String>, Vec<String>)> {
    let table = CONTRACT.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let marked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    table
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').collect::<Vec<_>>())
        .map(|cells| (marked(cells[first]), marked(cells[second])))
        .collect()
}

/// The fields of each span that begins, by its name.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>);

impl<S: Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let span = attributes.metadata();
        let fields = span.fields().iter().map(|field| field.name().to_owned()).collect();
        self.0.lock().unwrap().insert(span.name().to_owned(), fields);
    }
}

/// The node, with everything that tells something: tasks and messages that end in each way, and a run that fails.
async fn everything(url: &str) -> Node {
    Node::builder(url).cluster("orders").start().await.unwrap().shutdown().await;
    let db = sea_orm::Database::connect(url).await.unwrap();
    let (outbox, scraps) = (SqlStore::new(&db, "outbox").unwrap(), SqlStore::new(&db, "scraps").unwrap());
    let handler = |message: Message, _: Lease| async move {
        match message.text()? {
            "again" if message.attempt() == 1 => Err(HandlerError::retry("busy")),
            "never" => Err(HandlerError::reject("no such order")),
            _ => Ok(()),
        }
    };
    outbox.append_all(&["well", "again", "never"].map(Outgoing::text)).await.unwrap();
    scraps.append_all(&["never"].map(Outgoing::text)).await.unwrap();
    let quick = Duration::from_millis(10);
    let push = Processor::new("push", outbox, handler).unwrap().park().backoff(quick, quick);
    let shred = Processor::new("shred", scraps, handler).unwrap().drop_exhausted();

    let hourly = |name: &str| Task::fixed_rate(name, Duration::from_secs(3600)).unwrap();
    let well = hourly("well").handler(|_| async { Ok(()) });
    let fails = hourly("fails").handler(|_| async { Err(ArtifactError::message("no paper")) });
    let late = hourly("late").timeout(quick).handler(|_| std::future::pending::<Result<(), ArtifactError>>());
    let broken = Lead::new("broken", |_| async { Err::<(), _>(ArtifactError::message("no such queue")) });
    let steady = Lead::new("steady", |lease: Lease| async move {
        lease.revoked().await;
        Ok(())
    });
    let node = Node::builder(url).cluster("orders").node_id("a").ttl(TTL);
    let node = node.artifact(push).artifact(shred).artifact(well).artifact(fails).artifact(late);
    node.artifact(broken.unwrap()).artifact(steady.unwrap()).start().await.unwrap()
}

/// A session that joins and never renews, as that of a process which died right then.
async fn dies(url: &str) {
    let link = Link::open(&Target::from_url(url).unwrap()).await.unwrap();
    let (cluster, node) = ("orders".try_into().unwrap(), "b".try_into().unwrap());
    let open = Request::Open { node, max_ttl: TTL };
    let Answer::Opened { live, .. } = link.call(&cluster, &open).await.unwrap() else { panic!() };
    let node = NewNode {
        session: SessionId::fresh(),
        node: "b".try_into().unwrap(),
        ttl: TTL,
        labels: Arc::default(),
        deployment: Deployment::new(BTreeMap::new()).id,
        draining: false,
    };
    link.call(&cluster, &Request::Join { node, incarnation: live }).await.unwrap();
    link.close().await;
}

async fn until(shown: &PrometheusHandle, wanted: &str) {
    let look = async {
        while !shown.render().lines().any(|line| line.starts_with(wanted) && !line.ends_with(" 0")) {
            // A recorder tells nobody when it is told something.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(HANG, look).await;
    found.unwrap_or_else(|_| panic!("{wanted} was never told: {}", shown.render()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_promised_is_told() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    leasehold::telemetry::describe();
    let spans = Spans::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans.clone())).unwrap();

    let (_folder, url) = leasehold_tests::sqlite::database();
    let node = everything(&url).await;
    dies(&url).await;
    let of_node = "{cluster=\"orders\",node=\"a\"}";
    until(&shown, &format!("leasehold_expiries_total{of_node}")).await;
    until(&shown, &format!("leasehold_leases_held{of_node}")).await;
    until(&shown, &format!("leasehold_leader{of_node} 1")).await;
    until(&shown, &format!("leasehold_trust_remaining_seconds{of_node}")).await;
    until(&shown, &format!("leasehold_grants_total{of_node}")).await;
    until(&shown, &format!("leasehold_run_failures_total{of_node}")).await;
    for (artifact, outcome) in [("well", "succeeded"), ("fails", "failed"), ("late", "timed-out")] {
        let firings = "leasehold_firings_total{cluster=\"orders\"";
        until(&shown, &format!("{firings},artifact=\"{artifact}\",outcome=\"{outcome}\"}}")).await;
    }
    for (artifact, outcome) in
        [("push", "delivered"), ("push", "retried"), ("push", "parked"), ("shred", "discarded")]
    {
        let messages = "leasehold_messages_total{cluster=\"orders\"";
        until(&shown, &format!("{messages},artifact=\"{artifact}\",outcome=\"{outcome}\"}}")).await;
    }
    // Its own session ends.
    let id = "a".try_into().unwrap();
    node.control().evict(&id).await.unwrap();
    node.control().readmit(&id).await.unwrap();
    until(&shown, &format!("leasehold_sessions_lost_total{of_node}")).await;
    node.shutdown().await;

    let told = shown.render();
    for (names, labels) in rows("| name | kind", 1, 4) {
        for name in names {
            let with = |line: &&str| {
                line.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(['{', '_']))
                    && labels.iter().all(|label| line.contains(&format!("{label}=\"")))
            };
            assert!(told.lines().any(|line| with(&line)), "{name} with {labels:?} is not in {told}");
            assert!(told.contains(&format!("# HELP {name} ")), "{name} is not described: {told}");
        }
    }
    let begun = spans.0.lock().unwrap().clone();
    for (names, fields) in rows("| span | level", 1, 3) {
        let found = begun.get(&names[0]).unwrap_or_else(|| panic!("{names:?} is not in {begun:?}"));
        assert_eq!(found, &fields.into_iter().collect(), "{names:?}");
    }
    // What is told and not promised would be a contract that nobody has read.
    let promised: BTreeSet<_> =
        rows("| name | kind", 1, 4).into_iter().flat_map(|(names, _)| names).collect();
    let types = told.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let unknown = types.map(|line| line.split(' ').next().unwrap()).filter(|name| !promised.contains(*name));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&str>::new());
    let names: BTreeSet<_> = rows("| span | level", 1, 3).into_iter().flat_map(|(names, _)| names).collect();
    let ours = begun.keys().filter(|name| name.starts_with("leasehold"));
    assert_eq!(ours.cloned().collect::<BTreeSet<_>>(), names);
}
