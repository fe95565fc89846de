//! Messages that take effect once.

use std::time::Duration;

use leasehold_core::Error;
use leasehold_core::inbox::Inbox;
use leasehold_core::lease::Lease;
use leasehold_core::message::{Message, MessageId, Parts};
use leasehold_core::store::ErrorKind;

use super::bed::Bed;
use super::schema::{next, worker};

fn message(id: &str) -> Message {
    let parts = Parts {
        id: MessageId::Text(id.into()),
        key: None,
        headers: Vec::new(),
        content_type: None,
        body: None,
        source: "queue".into(),
        progress: None,
        native: None,
    };
    Message::new(parts, 1)
}

/// Whether it was new, in a transaction that commits unless `fails`.
async fn handle(inbox: &Inbox, lease: &Lease, id: &str, fails: bool) -> Result<bool, Error> {
    let (db, message) = (lease.database().clone(), message(id));
    lease
        .transaction(&db, async |txn| {
            let new = inbox.is_new(lease, txn, &message).await?;
            if fails { Err(Error::artifact("job", "its effect failed")) } else { Ok(new) }
        })
        .await
}

pub async fn an_inbox_remembers_what_took_effect_and_nothing_else(bed: Bed) {
    let (a, mut on_a) = worker(&bed.url, &bed, "a").await.unwrap();
    let first = next(&mut on_a).await;
    let inbox = Inbox::new("orders").unwrap();
    assert!(handle(&inbox, &first, "m-1", true).await.is_err());
    assert!(handle(&inbox, &first, "m-1", false).await.unwrap(), "what was rolled back is new");
    assert!(!handle(&inbox, &first, "m-1", false).await.unwrap());
    for other in ["M-1", "m-1 ", "m-1\u{301}"] {
        assert!(handle(&inbox, &first, other, false).await.unwrap(), "{other:?} is another id");
    }
    assert!(handle(&Inbox::new("payments").unwrap(), &first, "m-1", false).await.unwrap());
    let invalid = handle(&inbox, &first, &"x".repeat(256), false).await.unwrap_err();
    assert!(matches!(&invalid, Error::Store(error) if error.kind() == ErrorKind::Invalid), "{invalid}");

    a.shutdown().await;
    let (b, mut on_b) = worker(&bed.url, &bed, "b").await.unwrap();
    let second = next(&mut on_b).await;
    assert!(handle(&inbox, &first, "m-2", false).await.is_err(), "the lease has moved on");
    assert!(handle(&inbox, &second, "m-2", false).await.unwrap());
    assert!(!handle(&inbox, &second, "m-1", false).await.unwrap(), "the next holder knows");
    b.shutdown().await;
}

pub async fn an_inbox_forgets_in_batches_what_is_old(bed: Bed) {
    let (a, mut on_a) = worker(&bed.url, &bed, "a").await.unwrap();
    let lease = next(&mut on_a).await;
    let inbox = Inbox::new("orders").unwrap().keep(Duration::from_secs(3600));
    assert!(handle(&inbox, &lease, "old", false).await.unwrap());
    bed.sql("update leasehold_inbox set seen_at = '2020-01-01 00:00:00'").await;
    let (db, cluster) = (lease.database().clone(), lease.key().cluster.clone());
    let many = lease.transaction(&db, async |txn| {
        for n in 0..300 {
            inbox.is_new(&lease, txn, &message(&format!("m-{n}"))).await?;
        }
        Ok::<_, Error>(())
    });
    many.await.unwrap();
    let count = format!("select count(*) from leasehold_inbox where cluster = '{cluster}'");
    assert_eq!(bed.number(&count).await, 300);
    assert!(handle(&inbox, &lease, "old", false).await.unwrap());
    a.shutdown().await;
}
