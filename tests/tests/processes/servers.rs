//! On PostgreSQL servers of the suite's own, one per test, to restart and to roll back.

use leasehold_tests::event::Event;
use leasehold_tests::postgres::Server;

use super::{NO_WORK, TTL, three};

fn server() -> (Server, String) {
    let server = Server::start();
    let url = server.url();
    (server, url)
}

#[tokio::test]
async fn a_restarted_database_is_adopted_and_everything_runs_again() {
    let (server, url) = server();
    let (mut replicas, _) = three(&url, NO_WORK).await;
    server.crash();
    replicas.listen(TTL).await;
    server.up();
    replicas.holder("").await;
    replicas.finish().await;
}

#[tokio::test]
async fn a_failover_that_lost_commits_reuses_no_token() {
    let (server, url) = server();
    let (mut replicas, holder) = three(&url, NO_WORK).await;
    server.down();
    server.back_up();
    server.up();
    replicas.holder("").await;
    // Grants that the copy knows nothing of.
    replicas.signal(&holder, rustix::process::Signal::KILL);
    replicas.reap(&holder).await;
    replicas.holder(&holder).await;
    server.crash();
    server.roll_back();
    server.up();
    // A node that starts only now has seen nothing of what was lost.
    replicas.start("late", &url, NO_WORK).unwrap();
    replicas.holder("").await;
    replicas.listen(TTL).await;
    let mut tokens: Vec<i64> = Vec::new();
    for (_, event) in replicas.said() {
        if let Event::Valid { artifact, token, .. } = event
            && artifact == "import"
            && tokens.last() != Some(token)
        {
            tokens.push(*token);
        }
    }
    assert!(tokens.len() >= 3 && tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    replicas.finish().await;
}
