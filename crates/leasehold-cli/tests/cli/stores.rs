//! Message stores.

use leasehold_core::handler::HandlerError;
use leasehold_processor::{Outgoing, Processor, SqlStore};

use crate::bed::{Bed, on_each};

#[tokio::test]
async fn looked_into_replayed_and_purged() {
    on_each(async |bed: Bed| {
        // Stores belong to the database, not to a cluster.
        let name = format!("outbox-{}", &bed.0.name[5..]);
        let store = SqlStore::new(&bed.0.db, &name).unwrap();
        let refuse = |_, _| async { Err::<(), _>(HandlerError::reject("no such customer\x1b[8m")) };
        let processor = Processor::new("push", store.clone(), refuse).unwrap().attempts(1).park();
        let node = bed.0.builder("a").artifact(processor).start().await.unwrap();
        for text in ["one", "two"] {
            store.append(&bed.0.db, Outgoing::text(text)).await.unwrap();
        }
        let parked = |answer: &serde_json::Value| answer["stores"][0]["parked"] == 2;
        bed.until(&["store", "depth", &name], parked).await;
        node.shutdown().await;

        let listed = bed.json(&["store", "list", &name, "--parked"]).await;
        let message = &listed["messages"][0];
        assert!(message["error"].as_str().unwrap().contains("no such customer"), "{listed}");
        let id = message["id"].to_string();
        let table = bed.ask(&["store", "list", &name, "--parked"]).await.well();
        assert!(table.contains("customer\\u{1b}[8m") && !table.contains('\x1b'), "{table}");
        let held = bed.ask(&["store", "peek", &name, &id]).await.well();
        assert!(held.contains("\none\n"), "{held}");

        let unasked = bed.ask(&["store", "replay", &name, "--all"]).await.badly(4);
        assert!(unasked.contains("delivers again") && unasked.contains("--yes"), "{unasked}");
        let said = bed.json(&["store", "replay", &name, "--id", &id, "--yes"]).await;
        assert_eq!(said, serde_json::json!({ "replayed": 1 }));
        bed.ask(&["store", "replay", &name, "--id", &id, "--yes"]).await.badly(4);
        let said = bed.ask(&["store", "purge", &name, "--parked", "--all", "--yes"]).await.well();
        assert_eq!(said, format!("purged 1 messages of {name}\n"));
        let told = bed.ask(&["events", "--kind", "replayed", "--kind", "purged"]).await.well();
        for what in ["replayed", "purged"] {
            assert!(told.contains(&format!("1 parked messages of {name}")) && told.contains(what), "{told}");
        }
        let depth = bed.json(&["store", "depth", &name]).await;
        assert_eq!((&depth["stores"][0]["waiting"], &depth["stores"][0]["parked"]), (&1.into(), &0.into()));
        let unknown = bed.ask(&["store", "depth", &format!("{name}x")]).await.badly(3);
        assert!(unknown.contains(&format!("did you mean {name}")), "{unknown}");
    })
    .await;
}
