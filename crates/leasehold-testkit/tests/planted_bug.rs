//! A handler with a mistake, how a test finds it, and the same handler without.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test suite")]
#![cfg(all(feature = "conformance", feature = "sqlite"))]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leasehold_core::artifact::ArtifactError;
use leasehold_core::lead::Lead;
use leasehold_core::lease::Lease;
use leasehold_testkit::fake::FakeCluster;
use leasehold_testkit::recorder::Recorder;
use sea_orm::ConnectionTrait;
use tokio::sync::{mpsc, oneshot};

/// What is slow between the decision and the effect: a call over the network, say. The test answers it.
#[derive(Clone)]
struct Slow(mpsc::UnboundedSender<(Lease, oneshot::Sender<()>)>);

impl Slow {
    async fn call(&self, lease: &Lease) -> Result<(), ArtifactError> {
        let (answer, answered) = oneshot::channel();
        self.0.send((lease.clone(), answer)).map_err(|_| ArtifactError::message("the test is over"))?;
        Ok(answered.await?)
    }
}

async fn until(done: impl Fn() -> bool) {
    let looking = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.expect("sooner or later");
}

/// Two nodes that run `work`; the holder is frozen in the middle of its call, which is answered after the other one has billed.
async fn frozen_in_the_middle<F, Fut>(work: F) -> Recorder
where
    F: Fn(Lease, Slow, Recorder) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), ArtifactError>> + Send + 'static,
{
    let (recorder, failed) = (Recorder::default(), Arc::new(AtomicUsize::new(0)));
    let (called, mut calls) = mpsc::unbounded_channel();
    let (slow, effects, failures) = (Slow(called), recorder.clone(), Arc::clone(&failed));
    let cluster = FakeCluster::start(["a", "b"], move |node| {
        let (work, slow, effects, failures) =
            (work.clone(), slow.clone(), effects.clone(), Arc::clone(&failures));
        let lead = Lead::new("billing", move |lease| {
            let (run, failures) = (work(lease, slow.clone(), effects.clone()), Arc::clone(&failures));
            async move {
                let done = run.await;
                failures.fetch_add(usize::from(done.is_err()), Ordering::Relaxed);
                done
            }
        });
        node.artifact(lead.unwrap())
    })
    .await;
    let (first, answer) = calls.recv().await.unwrap();
    let holder = cluster.holder("billing").await;
    cluster.freeze(&holder);
    let (second, answer_second) = calls.recv().await.unwrap();
    assert!(second.token() > first.token());
    assert!(first.is_valid(), "it believes so, as a paused process does");
    answer_second.send(()).unwrap();
    until(|| recorder.effects().len() == 1).await;
    answer.send(()).unwrap();
    until(|| recorder.effects().len() == 2 || failed.load(Ordering::Relaxed) == 1).await;
    cluster.thaw(&holder);
    cluster.stop().await;
    recorder
}

/// The mistake: it looks at the lease, and has its effect later.
async fn checks_early(lease: Lease, slow: Slow, effects: Recorder) -> Result<(), ArtifactError> {
    lease.check()?;
    slow.call(&lease).await?;
    effects.effect(&lease, "billed");
    lease.revoked().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_checks_early_is_found_out() {
    let recorder = frozen_in_the_middle(checks_early).await;
    assert_eq!(recorder.stale().len(), 1, "both have billed: {:?}", recorder.effects());
}

/// The remedy: the effect is fenced. It commits before a higher token is granted, or not at all.
async fn fences(lease: Lease, slow: Slow, effects: Recorder) -> Result<(), ArtifactError> {
    slow.call(&lease).await?;
    let booked = lease.transaction(lease.database(), async |txn| {
        txn.execute_unprepared("create table if not exists bill (id integer)").await?;
        txn.execute_unprepared("insert into bill values (1)").await?;
        Ok::<_, ArtifactError>(())
    });
    booked.await?;
    effects.effect(&lease, "billed");
    lease.revoked().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fences_its_effect_bills_once() {
    let recorder = frozen_in_the_middle(fences).await;
    recorder.assert_no_effect_with_old_token();
    assert_eq!(recorder.effects().len(), 1, "{:?}", recorder.effects());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_cannot_be_fenced_and_fails_over() {
    let (called, mut calls) = mpsc::unbounded_channel();
    let cluster = FakeCluster::start(["a", "b"], move |node| {
        let called = called.clone();
        let lead = Lead::new("billing", move |lease: Lease| {
            let told = called.send(lease.clone());
            async move {
                told?;
                lease.revoked().await;
                Ok(())
            }
        });
        node.artifact(lead.unwrap())
    })
    .await;
    let lease: Lease = calls.recv().await.unwrap();
    cluster.lose("billing").await;
    lease.save("done", 1).await.unwrap_err();
    let before = cluster.holder("billing").await;
    assert_ne!(cluster.fail_over("billing").await, before);
    cluster.advance(Duration::from_secs(3600));
    cluster.holder("billing").await;
    cluster.stop().await;
}
