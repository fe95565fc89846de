//! What `doctor` finds, and that it goes on after the first finding.

use leasehold_testkit::cluster::Cluster;
use sea_orm::{ConnectionTrait, DbBackend};
use serde_json::Value;

use crate::bed::{Bed, Did, job, on_each, program};

/// Of each check its level.
fn level<'a>(findings: &'a Value, check: &str) -> Option<&'a str> {
    let mut all = findings["findings"].as_array().unwrap().iter();
    all.find(|finding| finding["check"] == check)?["level"].as_str()
}

#[tokio::test]
async fn a_database_in_order_has_nothing_to_mend() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let did = bed.ask(&["doctor", "--json"]).await;
        let findings: Value = serde_json::from_str(&did.out).unwrap();
        for check in ["server", "isolation", "schema", "rights", "incarnation", "versions"] {
            assert_eq!(level(&findings, check), Some("fine"), "{check}: {findings}");
        }
        // How fast this machine is at the moment is not what is asked here.
        assert!(level(&findings, "latency").is_some(), "{findings}");
        let hears = bed.0.db.get_database_backend() == DbBackend::Postgres;
        assert_eq!(level(&findings, "pooler"), hears.then_some("fine"), "{findings}");
        assert_eq!(level(&findings, "replication"), None);
        let errors = findings["findings"].as_array().unwrap().iter();
        let error = errors.clone().any(|finding| finding["level"] == "error");
        assert_eq!(did.code, i32::from(error), "{findings}");
        // What was measured with is gone.
        assert!(!bed.ask(&["events", "-n", "1000"]).await.well().contains("probe"));
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_database_without_nodes_or_tables_is_told() {
    let cluster = Cluster::sqlite().await;
    let bed = Bed(cluster);
    let did = bed.ask(&["doctor", "--json"]).await;
    let findings: Value = serde_json::from_str(&did.out).unwrap();
    assert_eq!(level(&findings, "cluster"), Some("warning"), "{findings}");
    bed.0.db.execute_unprepared("drop table leasehold_file").await.unwrap();
    bed.0.db.execute_unprepared("delete from leasehold_migration where version like '%files'").await.unwrap();
    let did = bed.ask(&["doctor"]).await;
    assert_eq!(did.code, 1);
    assert!(did.out.contains("the schema lacks") && did.out.contains("leasehold migrate up"), "{did:?}");
}

#[tokio::test]
async fn what_does_not_match_is_told_with_what_to_do() {
    on_each(async |bed: Bed| {
        let long = std::time::Duration::from_secs(600);
        let a = bed.0.builder("a").max_ttl(long).artifact(job("import")).start().await.unwrap();
        let b = bed.0.builder("b").artifact(job("import")).start().await.unwrap();
        bed.until(&["status"], |status| status["nodes"] == 2).await;
        let sql = async |sql: &str| bed.0.db.execute_unprepared(sql).await.map(drop).unwrap();
        let cluster = &bed.0.name;
        sql(&format!(
            "update leasehold_node set version = '0.0.1' where node_id = 'b' and cluster = '{cluster}'"
        ))
        .await;
        let told = async |check: &str| {
            let did = bed.ask(&["doctor", "--json"]).await;
            let findings: Value = serde_json::from_str(&did.out).unwrap();
            let found = findings["findings"].as_array().unwrap().iter().find(|one| one["check"] == check);
            let found = found.unwrap_or_else(|| panic!("{check} is not in {findings}")).clone();
            assert!(found["remedy"].is_string() == (found["level"] != "fine"), "with what to do: {found}");
            (found["level"].as_str().unwrap().to_owned(), found["text"].as_str().unwrap().to_owned())
        };
        let (level, text) = told("versions").await;
        assert!(level == "warning" && text.contains("different versions: 0.0.1, "), "{text}");
        // Nobody adopts it meanwhile.
        sql(&format!(
            "update leasehold_cluster set incarnation = concat('x', incarnation) where name = '{cluster}'"
        ))
        .await;
        let (level, text) = told("incarnation").await;
        assert!(level == "warning" && text.contains("another life"), "{text}");
        sql(&format!(
            "update leasehold_cluster set incarnation = substr(incarnation, 2) where name = '{cluster}'"
        ))
        .await;
        a.shutdown().await;
        b.shutdown().await;
        let (level, text) = told("versions").await;
        assert!(level == "warning" && text.contains("no node of the cluster lives"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn what_a_newer_program_has_applied_is_told() {
    let bed = Bed(Cluster::sqlite().await);
    let newer = "insert into leasehold_migration (version, applied_at) values ('leasehold_9999_future', 0)";
    bed.0.db.execute_unprepared(newer).await.unwrap();
    let findings: Value = serde_json::from_str(&bed.ask(&["doctor", "--json"]).await.out).unwrap();
    assert_eq!(level(&findings, "schema"), Some("warning"), "{findings}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    if cfg!(feature = "test-postgres") {
        let url = "postgres://shop:hush@127.0.0.1:1/shop";
        let did: Did = program().args(["--database", url, "doctor"]).output().await.unwrap().into();
        assert_eq!(did.code, 1);
        assert!(did.out.contains("check the URL, the network") && !did.out.contains("hush"), "{did:?}");
    }
}

/// A user who may read, and the URL by which it connects.
async fn reader(bed: &Bed) -> Option<(String, String)> {
    let name = format!("r{}", &bed.0.name.rsplit('-').next()?[12..28]);
    let sql = async |sql: &str| bed.0.db.execute_unprepared(sql).await.map(drop).unwrap();
    let (start, rest) = bed.0.url.split_once("://")?;
    let (_, host) = rest.split_once('@')?;
    match bed.0.db.get_database_backend() {
        DbBackend::Postgres => {
            sql(&format!("create role {name} login password 'hush'")).await;
            sql(&format!("grant select on all tables in schema public to {name}")).await;
        }
        DbBackend::MySql => {
            let mariadb = bed.0.db.execute_unprepared("select json_detailed('[]')").await.is_ok();
            let with = if mariadb { "" } else { "with mysql_native_password " };
            let database = host.rsplit_once('/')?.1.split('?').next()?;
            sql(&format!("create user {name}@'%' identified {with}by 'hush'")).await;
            sql(&format!("grant select on {database}.* to {name}@'%'")).await;
        }
        _ => return None,
    }
    Some((format!("{start}://{name}:hush@{host}"), name))
}

#[tokio::test]
async fn rights_that_are_missing_are_all_told_and_whoever_may_read_may_look() {
    on_each(async |bed: Bed| {
        let Some((url, name)) = reader(&bed).await else { return };
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let ask = async |arguments: &[&str]| -> Did {
            let place = ["--database", &url, "--cluster", &bed.0.name];
            program().args(place).args(arguments).output().await.unwrap().into()
        };
        let did = ask(&["doctor", "--json"]).await;
        let findings: Value = serde_json::from_str(&did.out).unwrap();
        let mut all = findings["findings"].as_array().unwrap().iter();
        let rights = all.find(|finding| finding["check"] == "rights").unwrap();
        for lacking in ["insert leasehold_node", "update leasehold_lease", "delete leasehold_message"] {
            assert!(rights["text"].as_str().unwrap().contains(lacking), "{rights}");
        }
        assert!(!rights["text"].as_str().unwrap().contains("select"), "{rights}");
        assert_eq!((did.code, level(&findings, "versions")), (1, Some("fine")), "it goes on: {findings}");
        assert_eq!(level(&findings, "latency"), Some("error"), "{findings}");
        assert!(!did.out.contains("hush"));

        let explained = ask(&["explain", "import", "--json"]).await.well();
        assert!(explained.contains("\"held\""), "{explained}");
        let refused = ask(&["pause", "import"]).await.badly(1);
        assert!(refused.contains("lacks a right"), "{refused}");
        node.shutdown().await;
        let drop = match bed.0.db.get_database_backend() {
            DbBackend::Postgres => format!("drop owned by {name}; drop role {name}"),
            _ => format!("drop user {name}@'%'"),
        };
        bed.0.db.execute_unprepared(&drop).await.unwrap();
    })
    .await;
}
