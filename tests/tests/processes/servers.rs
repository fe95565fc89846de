//! On servers of the suite's own, one per test, to restart and to roll back.

macro_rules! on_servers_of {
    ($database:ident, $start:path) => {
        mod $database {
            use rustix::process::Signal;

            use super::super::{NO_WORK, TTL, three};

            #[tokio::test]
            async fn a_restarted_database_is_adopted_and_everything_runs_again() {
                let server = $start();
                let (mut replicas, _) = three(&server.url(), NO_WORK).await;
                server.crash();
                replicas.listen(TTL).await;
                server.up();
                replicas.holder("").await;
                replicas.finish().await;
            }

            #[tokio::test]
            async fn a_failover_that_lost_commits_reuses_no_token() {
                let server = $start();
                let url = server.url();
                let (mut replicas, holder) = three(&url, NO_WORK).await;
                let first = replicas.token_above(0).await;
                server.down();
                server.back_up();
                server.up();
                let second = replicas.token_above(first).await;
                // Grants that the copy knows nothing of.
                replicas.signal(&holder, Signal::KILL);
                replicas.reap(&holder).await;
                replicas.holder(&holder).await;
                let third = replicas.token_above(second - 1).await;
                server.crash();
                server.roll_back();
                server.up();
                // A node that starts only now has seen nothing of what was lost.
                replicas.start("late", &url, NO_WORK).unwrap();
                replicas.token_above(third).await;
                replicas.listen(TTL).await;
                replicas.finish().await;
            }
        }
    };
}

#[cfg(feature = "postgres-servers")]
on_servers_of!(postgres, leasehold_tests::postgres::Server::start);
#[cfg(feature = "mariadb-servers")]
on_servers_of!(mariadb, leasehold_tests::mysql::Server::mariadb);
#[cfg(feature = "mysql-servers")]
on_servers_of!(mysql, leasehold_tests::mysql::Server::mysql);
