//! What only a SQLite file can do.

use leasehold_core::protocol::request::*;
use leasehold_core::store::{ErrorKind, Link, Target, inspect};

use super::bed::Bed;

pub async fn a_replaced_file_is_noticed(bed: Bed) {
    let path = bed.url.strip_prefix("sqlite://").unwrap();
    std::fs::rename(path, format!("{path}.old")).unwrap();
    let error = bed.try_call(Request::Watch { scope: Scope::Heads }).await.unwrap_err();
    assert!(error.is_temporary() && error.kind() == ErrorKind::Unreachable, "{error}");
    std::fs::copy(format!("{path}.old"), path).unwrap();
    let error = bed.try_call(Request::Watch { scope: Scope::Heads }).await.unwrap_err();
    assert!(error.to_string().contains("replaced"), "{error}");
}

pub async fn a_copy_of_the_file_is_another_incarnation(bed: Bed) {
    let me = bed.join("n1").await;
    let path = bed.url.strip_prefix("sqlite://").unwrap();
    bed.sql("pragma wal_checkpoint(truncate)").await;
    std::fs::copy(path, format!("{path}.copy")).unwrap();
    let copy = Target::from_url(&format!("sqlite://{path}.copy")).unwrap();
    let copy = Link::open(&copy).await.unwrap();
    let Answer::Renewed { matched, view } = copy.call(&bed.cluster, &bed.renewal(me, 2)).await.unwrap()
    else {
        panic!()
    };
    assert!(!matched);
    assert!(view.live != bed.live && view.cluster.adopted == bed.live);
}

pub async fn a_missing_folder_is_named_and_nothing_is_made(_bed: Bed) {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let target = Target::from_url(&format!("sqlite://{}", missing.join("x.db").display())).unwrap();
    for error in [inspect(&target).await.unwrap_err(), Link::open(&target).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    }
    let here = folder.path().join("new.db");
    inspect(&Target::from_url(&format!("sqlite://{}", here.display())).unwrap()).await.unwrap();
    assert!(!here.exists(), "an inspection creates nothing");
}
