//! What was parked is kept for so long, and forgotten then.

use std::time::Duration;

use leasehold_core::handler::HandlerError;
use leasehold_core::lease::Lease;
use leasehold_core::message::Message;
use sea_orm::{ConnectionTrait, Database};
use tokio::sync::mpsc::unbounded_channel;

use super::builder;
use super::sql::{next, on_each};
use crate::Processor;
use crate::outgoing::Outgoing;
use crate::store::MessageStore;

const HOUR_MS: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_long_ago_is_forgotten_and_nothing_else() {
    on_each(async |bed| {
        let (send, mut leases) = unbounded_channel();
        let handler = move |_: Message, lease: Lease| {
            let sent = send.send(lease);
            async move {
                sent.map_err(HandlerError::retry)?;
                Err::<(), _>(HandlerError::reject("no such order"))
            }
        };
        let processor = Processor::new("p", bed.store.clone(), handler).unwrap().park();
        let processor = processor.poll(Duration::from_millis(20));
        let node = builder(&bed, "a").artifact(processor).start().await.unwrap();
        for text in ["old", "older", "recent"] {
            bed.store.append_all(&[Outgoing::text(text).id(text)]).await.unwrap();
        }
        let lease = next(&mut leases).await;
        bed.until_parked(3).await;
        let db = Database::connect(&bed.database).await.unwrap();
        let ages = format!(
            "update leasehold_parked set parked_at = parked_at - 2 * {HOUR_MS} where message <> 'recent' and store = '{}'",
            bed.cluster
        );
        db.execute_unprepared(&ages).await.unwrap();
        bed.store.forget_parked(&lease, 3 * HOUR_MS).await.unwrap();
        bed.until_parked(3).await;
        bed.store.forget_parked(&lease, HOUR_MS).await.unwrap();
        let left = bed.until_parked(1).await;
        assert_eq!(left.iter().map(|parked| parked.message.as_str()).collect::<Vec<_>>(), ["recent"]);
        node.shutdown().await;
    })
    .await;
}
