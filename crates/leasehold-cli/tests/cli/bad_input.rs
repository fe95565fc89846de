//! What cannot be meant, and what the state forbids: one line, a code, and nothing changed.

use leasehold_task::Task;

use crate::bed::{Bed, Did, job, on_each, program};

async fn plain(arguments: &[&str]) -> Did {
    program().args(arguments).output().await.unwrap().into()
}

#[tokio::test]
async fn a_wrong_database() {
    let none = plain(&["status"]).await.badly(2);
    assert!(none.contains("--database URL") && none.contains("LEASEHOLD_DATABASE_URL"), "{none}");
    let scheme = plain(&["status", "--database", "oracle://bob:s3cret@h/d"]).await.badly(2);
    assert!(scheme.contains("postgres://") && !scheme.contains("s3cret"), "{scheme}");
    let folder = plain(&["status", "--database", "sqlite:///no/such/folder/x.db"]).await.badly(2);
    assert!(folder.contains("does not exist"), "{folder}");
}

#[tokio::test]
async fn the_database_and_the_cluster_may_be_named_by_the_environment() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("a").artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "a").await;
        let mut command = program();
        command.env("LEASEHOLD_DATABASE_URL", &bed.0.url).env("LEASEHOLD_CLUSTER", &bed.0.name).arg("status");
        let told = Did::from(command.output().await.unwrap()).well();
        assert!(told.contains(&bed.0.name) && told.contains("a leads"), "{told}");
        node.shutdown().await;
    })
    .await;
}

#[cfg(any(feature = "test-postgres", feature = "test-mariadb", feature = "test-mysql"))]
#[tokio::test]
async fn wrong_credentials() {
    on_each(async |bed: Bed| {
        let Some((before, after)) = bed.0.url.split_once('@') else { return };
        let (scheme, _) = before.split_once("://").unwrap();
        // A server of tests may trust whoever it knows.
        let url = format!("{scheme}://nobody_of_that_name:s3cret@{after}");
        let refused = plain(&["status", "--database", &url]).await.badly(2);
        assert!(!refused.contains("s3cret") && refused.contains("check the user, the password"), "{refused}");
    })
    .await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_server_that_is_not_there() {
    let refused = plain(&["status", "--database", "postgres://bob:s3cret@127.0.0.1:1/d"]).await.badly(1);
    assert!(refused.contains("check the URL") && !refused.contains("s3cret"), "{refused}");
}

#[tokio::test]
async fn a_schema_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (file, url) =
        (folder.path().join("empty.db"), format!("sqlite://{}/empty.db", folder.path().display()));
    let absent = plain(&["status", "--database", &url]).await.badly(1);
    assert!(absent.contains("check the URL") && !file.exists(), "looking makes no file: {absent}");
    std::fs::write(&file, "").unwrap();
    let lacking = plain(&["status", "--database", &url]).await.badly(1);
    assert!(
        lacking.contains("leasehold_0001_tables") && lacking.contains("leasehold migrate up"),
        "{lacking}"
    );
    let status = plain(&["migrate", "status", "--database", &url]).await.well();
    assert!(status.contains("the schema lacks"), "{status}");
    plain(&["migrate", "up", "--database", &url]).await.well();
    assert_eq!(plain(&["migrate", "status", "--database", &url]).await.well(), "the schema is complete\n");
    let none = plain(&["status", "--database", &url]).await.badly(3);
    assert!(none.contains("nor any other"), "{none}");
    let sql = plain(&["migrate", "sql", "--database", &url]).await.well();
    assert!(sql.starts_with("begin;") && sql.contains("create table leasehold_lease"), "{sql}");
    let after = plain(&["migrate", "sql", "--after", "nonsense", "--database", &url]).await.badly(2);
    assert!(after.contains("leasehold_0001_tables"), "{after}");
}

#[tokio::test]
async fn unknown_names_with_the_nearest_offered() {
    on_each(async |bed: Bed| {
        let node = bed.0.builder("batch-1").artifact(job("nightly-invoices")).start().await.unwrap();
        for asked in [
            &["explain", "nightly-invoice"][..],
            &["show", "nightly-invoices2"],
            &["pause", "nightly-invocies"],
            &["history", "invoices"],
        ] {
            let unknown = bed.ask(asked).await.badly(3);
            assert!(unknown.contains("did you mean nightly-invoices?"), "{asked:?}: {unknown}");
        }
        for asked in [&["drain", "batch-2"][..], &["move", "nightly-invoices", "--to", "batch"]] {
            let unknown = bed.ask(asked).await.badly(3);
            assert!(unknown.contains("did you mean batch-1?"), "{asked:?}: {unknown}");
        }
        let near = format!("{}x", bed.0.name);
        let cluster = plain(&["status", "--database", &bed.0.url, "--cluster", &near]).await.badly(3);
        assert!(cluster.contains("did you mean") && cluster.contains(&bed.0.name), "{cluster}");
        node.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn what_the_state_forbids_changes_nothing() {
    on_each(async |bed: Bed| {
        let task = Task::fixed_rate("report", std::time::Duration::from_secs(3600)).unwrap();
        let task = task.handler(|_| async { Ok(()) });
        let node = bed.0.builder("a").artifact(job("import")).artifact(task).start().await.unwrap();
        bed.until_held("import", "a").await;
        let unasked = bed.ask(&["evict", "a"]).await.badly(4);
        assert!(unasked.contains("add --yes") && unasked.contains("nothing was changed"), "{unasked}");
        let kind = bed.ask(&["fire", "import"]).await.badly(4);
        assert!(kind.contains("of kind lead, and only tasks fire"), "{kind}");
        bed.until_held("import", "a").await;

        node.shutdown().await;
        for asked in
            [&["fire", "report"][..], &["move", "import", "--to", "a"], &["resume", "import", "--wait"]]
        {
            let nobody = bed.ask(asked).await.badly(4);
            assert!(nobody.contains("lives, so nobody would do it; start one"), "{asked:?}: {nobody}");
        }
    })
    .await;
}

#[tokio::test]
async fn arguments_that_cannot_be_meant() {
    let unknown = plain(&["statsu"]).await.badly(2);
    assert!(unknown.contains("'status'") && unknown.contains("leasehold --help"), "{unknown}");
    let time = plain(&["timeline", "--since", "2 fortnights", "--svg", "-"]).await.badly(2);
    assert!(time.contains("is no duration"), "{time}");
    assert!(plain(&["move", "import"]).await.badly(2).contains("--to"));
    assert_eq!(plain(&["--help"]).await.code, 0);
    let script = plain(&["completions", "bash"]).await.well();
    assert!(script.contains("_leasehold"));
}
