//! Names and links that nobody should follow, and files that cannot be read: told, left alone, and the rest goes on.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use leasehold_testkit::cluster::Cluster;
use tokio::sync::mpsc::unbounded_channel;

use super::odd::Odd;
use super::{Drop, names};
use crate::files::Records;
use crate::tests::{condition, impaired, next, start, teller, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_the_folder_or_cannot_be_shown_is_left_alone() {
    let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
    std::fs::write(drop.path("secret"), "outside").unwrap();
    symlink(drop.path("secret"), drop.inbound().join("b-leaves")).unwrap();
    symlink("../secret", drop.inbound().join("c-leaves")).unwrap();
    symlink("nowhere", drop.inbound().join("d-dangles")).unwrap();
    symlink("/", drop.inbound().join("e-folder")).unwrap();
    drop.put("f\nnew\u{1b}[2J", "control");
    std::fs::write(drop.inbound().join(OsStr::from_bytes(b"g-\xff")), "not UTF-8").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, drop.inbound().join("h-pipe"), 0o600.into()).unwrap();
    drop.put("z", "good");
    drop.put("..a", "good too");
    symlink("z", drop.inbound().join("y-inside")).unwrap();
    let (tell, mut told) = unbounded_channel();
    let node =
        start(&cluster, "a", drop.watch(Records::Whole).recursive().handler(teller(tell)).unwrap()).await;
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(next(&mut told).await.0);
    }
    assert_eq!(came, ["good too", "good", "good"]);
    let shown = condition(&node, |shown| !shown.is_working()).await;
    let text = impaired(&shown);
    assert!(text.starts_with("left alone: ") && text.contains(" more"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\n') && !text.contains("outside"), "{text}");
    node.shutdown().await;
    assert_eq!(std::fs::read_to_string(drop.path("secret")).unwrap(), "outside");
    for name in ["b-leaves", "c-leaves", "d-dangles", "e-folder", "h-pipe", "f\nnew\u{1b}[2J"] {
        assert!(drop.inbound().join(name).symlink_metadata().is_ok(), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_is_told_and_left_where_it_is() {
    for records in [Records::Whole, Records::lines()] {
        let (cluster, drop) = (Cluster::sqlite().await, Drop::new());
        for name in ["a", "b", "c"] {
            drop.put(name, name);
        }
        let storage = Odd::new(drop.inbound());
        storage.set(Some(("read b", io::ErrorKind::PermissionDenied)));
        let (tell, mut told) = unbounded_channel();
        let endpoint = drop.watch(records).storage(storage.clone()).handler(teller(tell)).unwrap();
        let node = start(&cluster, "a", endpoint).await;
        assert_eq!(next(&mut told).await.0, "a");
        assert_eq!(next(&mut told).await.0, "c");
        let shown = condition(&node, |shown| impaired(shown).contains("\"b\" cannot be read")).await;
        assert!(impaired(&shown).contains("permission denied"), "{shown:?}");
        until("the others are moved", async || drop.files() == names(["b", "done/a", "done/c"])).await;
        storage.set(None);
        assert_eq!(next(&mut told).await.0, "b");
        condition(&node, leasehold_core::status::Condition::is_working).await;
        node.shutdown().await;
    }
}
