//! On one SQLite file.

use std::time::Duration;

use leasehold_tests::sqlite::database;

use super::TTL;

#[tokio::test]
async fn crash() {
    let (_folder, url) = database();
    super::crash(&url).await;
}

#[tokio::test]
async fn freeze() {
    let (_folder, url) = database();
    super::freeze(&url).await;
}

#[tokio::test]
async fn polite_stop() {
    let (_folder, url) = database();
    super::polite_stop(&url, Duration::ZERO).await;
}

#[tokio::test]
async fn polite_stop_with_work_under_way() {
    let (_folder, url) = database();
    super::polite_stop(&url, TTL * 2).await;
}

#[tokio::test]
async fn two_with_one_node_id() {
    let (_folder, url) = database();
    super::two_with_one_node_id(&url).await;
}
