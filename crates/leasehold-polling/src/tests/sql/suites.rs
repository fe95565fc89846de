//! The suite for pollers, by a watermark and by a claim, on each database.

use async_trait::async_trait;
use leasehold_testkit::cluster::Cluster;
use sea_orm::DbBackend;
use tokio::sync::mpsc::unbounded_channel;

use super::{run, serial, table};
use crate::conformance::{Bed, Polled, Probe};
use crate::sql::{Column, Kind, Late, Watermark};
use crate::tests::{SOON, next, on_each, start, teller};
use crate::{Endpoint, Sql};

struct Rows {
    cluster: Cluster,
    table: String,
    claims: bool,
}

#[async_trait]
impl Polled for Rows {
    fn endpoint(&self, probe: Probe) -> Endpoint {
        let (db, table) = (&self.cluster.db, &self.table);
        let sql = if self.claims {
            let mark = format!("update {table} set done = 1 where id = {{id}}");
            Sql::by_claim(
                "rows",
                db,
                format!("select id, body from {table} where done = 0"),
                Column::integer("id"),
                mark,
            )
        } else {
            let watermark = Watermark::new(Column::integer("id"), Late::Never);
            Sql::by_watermark("rows", db, format!("select * from {table}"), watermark)
        };
        sql.unwrap().handler(probe).unwrap()
    }

    async fn put(&self, texts: Vec<String>) {
        let values: Vec<String> = texts.iter().map(|text| format!("('{text}')")).collect();
        run(&self.cluster, &format!("insert into {} (body) values {}", self.table, values.join(", "))).await;
    }
}

async fn bed(cluster: Cluster, claims: bool) -> Bed<Rows> {
    let columns =
        format!("{}, body varchar(100) not null, done integer not null default 0", serial(&cluster));
    let table = table(&cluster, &columns).await;
    let (database, name) = (cluster.url.clone(), cluster.name.clone());
    Bed { polled: Rows { cluster, table, claims }, database, cluster: name, keep: None }
}

macro_rules! suites {
    ($module:ident, $cluster:expr) => {
        mod $module {
            mod watermark {
                crate::poller_conformance!(async { super::super::bed($cluster.await, false).await });
            }
            mod claim {
                crate::poller_conformance!(async { super::super::bed($cluster.await, true).await });
            }
        }
    };
}

suites!(sqlite, leasehold_testkit::cluster::Cluster::sqlite());
#[cfg(feature = "test-postgres")]
suites!(postgres, leasehold_testkit::cluster::Cluster::on("LEASEHOLD_TEST_POSTGRES"));
#[cfg(feature = "test-mariadb")]
suites!(mariadb, leasehold_testkit::cluster::Cluster::on("LEASEHOLD_TEST_MARIADB"));
#[cfg(feature = "test-mysql")]
suites!(mysql, leasehold_testkit::cluster::Cluster::on("LEASEHOLD_TEST_MYSQL"));

/// Rows of one watermark, across pages and holders; the columns of a row, and one of them as the payload.
#[tokio::test(flavor = "multi_thread")]
async fn ties_are_told_apart_and_a_row_is_an_object() {
    on_each(async |cluster| {
        let backend = cluster.db.get_database_backend();
        let at = match backend {
            DbBackend::Postgres => "timestamptz",
            DbBackend::MySql => "datetime(6)",
            _ => "text",
        };
        let table = table(&cluster, &format!("name varchar(20), at {at}, payload varchar(50)")).await;
        let insert = async |name: &str, at: &str| {
            run(
                &cluster,
                &format!("insert into {table} values ('{name}', '2026-01-0{at} 10:00:00.123456', 'p{name}')"),
            )
            .await;
        };
        // Upper case sorts before lower case, bytewise.
        for name in ["b", "B", "a", "c", "A"] {
            insert(name, "1").await;
        }
        let (tell, mut told) = unbounded_channel();
        let watermark =
            || Watermark::new(Column::timestamp("at"), Late::Never).tie(Column::new("name", Kind::Text));
        let query = format!("select name, at, payload from {table}");
        let sql = || {
            Sql::by_watermark("rows", &cluster.db, query.as_str(), watermark()).unwrap().every(SOON).batch(2)
        };
        let node = start(&cluster, "a", sql().body("payload").handler(teller(tell.clone())).unwrap()).await;
        for name in ["A", "B", "a", "b", "c"] {
            assert_eq!(next(&mut told).await.0, format!("p{name}"));
        }
        node.shutdown().await;
        insert("Z", "1").await;
        insert("d", "1").await;
        insert("a", "2").await;
        let node = start(&cluster, "b", sql().handler(teller(tell)).unwrap()).await;
        for name in ["d", "a"] {
            let row: serde_json::Value = serde_json::from_str(&next(&mut told).await.0).unwrap();
            assert_eq!((&row["name"], &row["payload"]), (&name.into(), &format!("p{name}").into()));
            assert!(row["at"].as_str().unwrap().contains("10:00:00.123456"), "{row}");
        }
        node.shutdown().await;
    })
    .await;
}
