//! On a server, each test in a database of its own.

use leasehold_testkit::proxy::{Fault, FaultProxy};
use leasehold_tests::event::Event;
use leasehold_tests::scratch::Scratch;

use super::{NO_WORK, TTL, replicas};

/// The keeper's calls and those that overrun, the listener, the pool of four for fenced writes, the runtime's own.
const MOST_SOCKETS: usize = 20;

async fn cut_off(server: &str, fault: Fault) {
    let scratch = Scratch::create(server).await;
    let proxy = FaultProxy::start(scratch.address()).await.unwrap();
    let mut replicas = replicas();
    // Alone at first, so that the one behind the proxy is the holder.
    replicas.start("cut", &scratch.url_by(proxy.address()), NO_WORK).unwrap();
    replicas.holder("").await;
    replicas.start("other", scratch.url(), NO_WORK).unwrap();
    replicas
        .hear("the other joins", |name, event| name == "other" && matches!(event, Event::Joined { .. }))
        .await;
    let before = replicas.sockets("cut");
    proxy.set(fault);
    replicas.holder("cut").await;
    // A call a renewal interval, each into the hole: their connections must not pile up.
    replicas.listen(TTL * 8).await;
    let open = replicas.sockets("cut");
    assert!(open <= MOST_SOCKETS, "{open} sockets into the hole");
    proxy.set(Fault::None);
    let rejoined = |name: &str, event: &Event| name == "cut" && matches!(event, Event::Joined { .. });
    replicas.hear("it comes back without a restart", rejoined).await;
    replicas.listen(TTL * 2).await;
    let open = replicas.sockets("cut");
    assert!(open <= before + 2, "{open} sockets are left of an outage, {before} were open before");
    replicas.finish().await;
}

macro_rules! on_server {
    ($database:ident, $variable:literal) => {
        mod $database {
            use std::time::Duration;

            use leasehold_testkit::proxy::Fault;
            use leasehold_tests::scratch::Scratch;

            use super::super::TTL;

            const SERVER: &str = $variable;

            #[tokio::test]
            async fn crash() {
                super::super::crash(Scratch::create(SERVER).await.url()).await;
            }

            #[tokio::test]
            async fn freeze() {
                super::super::freeze(Scratch::create(SERVER).await.url()).await;
            }

            #[tokio::test]
            async fn polite_stop() {
                super::super::polite_stop(Scratch::create(SERVER).await.url(), Duration::ZERO).await;
            }

            #[tokio::test]
            async fn polite_stop_with_work_under_way() {
                super::super::polite_stop(Scratch::create(SERVER).await.url(), TTL * 2).await;
            }

            #[tokio::test]
            async fn two_with_one_node_id() {
                super::super::two_with_one_node_id(Scratch::create(SERVER).await.url()).await;
            }

            #[tokio::test]
            async fn a_node_whose_database_is_unreachable_stops_by_its_own_clock() {
                super::cut_off(SERVER, Fault::Refuse).await;
            }

            #[tokio::test]
            async fn a_node_whose_connections_are_a_black_hole_stops_by_its_own_clock() {
                super::cut_off(SERVER, Fault::BlackHole).await;
            }
        }
    };
}

#[cfg(feature = "postgres")]
on_server!(postgres, "LEASEHOLD_TEST_POSTGRES");
#[cfg(feature = "mariadb")]
on_server!(mariadb, "LEASEHOLD_TEST_MARIADB");
#[cfg(feature = "mysql")]
on_server!(mysql, "LEASEHOLD_TEST_MYSQL");
