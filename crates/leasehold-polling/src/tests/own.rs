//! A poller of one's own, under the suite for pollers, and what only an endpoint does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use leasehold_core::lease::Lease;
use leasehold_core::message::MessageId;
use leasehold_testkit::cluster::Cluster;
use tokio::sync::mpsc::unbounded_channel;

use super::{condition, impaired, next, start, teller};
use crate::conformance::{Bed, Polled, Probe};
use crate::poller::{Batch, Cursor, Item};
use crate::{Endpoint, Error, Poller};

/// A list that grows at its end.
#[derive(Clone, Debug, Default)]
struct List(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Poller for List {
    fn place(&self) -> String {
        "a list".to_owned()
    }

    async fn poll(&self, cursor: Option<&Cursor>, room: usize, _: &Lease) -> Result<Batch, Error> {
        let begin = cursor.map_or(0, |cursor| cursor.to_string().parse().unwrap());
        let list = self.0.lock().unwrap();
        let mut batch = Batch::default();
        for (n, text) in list.iter().enumerate().skip(begin).take(room) {
            let item = Item::new(MessageId::Position(n as u64), "list".into(), text.clone());
            batch.items.push(item.at(Cursor::new((n + 1).to_string())));
        }
        batch.more = begin + batch.items.len() < list.len();
        Ok(batch)
    }
}

#[async_trait]
impl Polled for List {
    fn endpoint(&self, probe: Probe) -> Endpoint {
        Endpoint::new("list", self.clone(), probe).unwrap()
    }

    async fn put(&self, texts: Vec<String>) {
        self.0.lock().unwrap().extend(texts);
    }
}

async fn bed() -> Bed<List> {
    let cluster = Cluster::sqlite().await;
    let (database, name) = (cluster.url.clone(), cluster.name.clone());
    Bed { polled: List::default(), database, cluster: name, keep: Some(Box::new(cluster)) }
}

crate::poller_conformance!(bed());

/// Fails until it is mended.
#[derive(Debug)]
struct Broken(Arc<Mutex<bool>>);

#[async_trait]
impl Poller for Broken {
    fn place(&self) -> String {
        "what is broken".to_owned()
    }

    async fn poll(&self, cursor: Option<&Cursor>, _: usize, _: &Lease) -> Result<Batch, Error> {
        if *self.0.lock().unwrap() {
            return Err(Error::refused("what is broken", "it is broken; mend it"));
        }
        let items = match cursor {
            Some(_) => Vec::new(),
            None => vec![Item::new(MessageId::Unknown, "x".into(), "mended").at(Cursor::new("end"))],
        };
        Ok(Batch { items, ..Batch::default() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_shown_and_tried_again() {
    let cluster = Cluster::sqlite().await;
    let (tell, mut told) = unbounded_channel();
    let broken = Arc::new(Mutex::new(true));
    let endpoint = Endpoint::new("broken", Broken(Arc::clone(&broken)), teller(tell)).unwrap();
    let node = start(&cluster, "a", endpoint.every(Duration::from_millis(20))).await;
    let shown = condition(&node, |shown| !shown.is_working()).await;
    assert_eq!(impaired(&shown), "what is broken: it is broken; mend it");
    *broken.lock().unwrap() = false;
    assert_eq!(next(&mut told).await.0, "mended");
    condition(&node, leasehold_core::status::Condition::is_working).await;
    node.shutdown().await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_when_the_node_starts() {
    let cluster = Cluster::sqlite().await;
    let endpoint = Endpoint::new("list", List::default(), teller(unbounded_channel().0)).unwrap().batch(0);
    let error = cluster.builder("a").artifact(endpoint).start().await.unwrap_err().to_string();
    assert!(error.contains("artifact \"list\": batch 0 is out of range"), "{error}");
}
