//! `leasehold run` as the parent of programs that are no nodes; those that are live in the multi-process suites.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bed::{Bed, Did, job, on_each, program};
use crate::member::{Death, Process};

async fn run(script: &str) -> Did {
    program().args(["run", "--", "sh", "-c", script]).output().await.unwrap().into()
}

#[tokio::test]
async fn exits_as_its_program_does() {
    let did = run("echo out; exit 7").await;
    assert_eq!((did.code, did.out.as_str()), (7, "out\n"));
    assert!(did.err.contains("exited with status 7; it had announced no node"), "{did:?}");
    let killed = run("kill -9 $$").await;
    assert_eq!(killed.code, 128 + 9);
    assert!(killed.err.contains("was killed by signal 9"), "{killed:?}");
    let absent: Did = program().args(["run", "--", "no-such-program"]).output().await.unwrap().into();
    assert!(absent.badly(127).contains("check its name, and PATH"));
}

/// Far longer than this suite waits for anything: whatever happens was not waited out.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn frees_what_its_program_held_however_it_died() {
    on_each(async |bed: Bed| {
        let other = bed.0.builder("b").ttl(LONG).artifact(job("import")).start().await.unwrap();
        bed.until_held("import", "b").await;
        for (death, code, said) in
            [(Death::Kill, 137, "signal 9"), (Death::Abort, 134, "signal 6"), (Death::Exit, 3, "status 3")]
        {
            let mut process = Process::start(&bed, "a", LONG, true);
            bed.until(&["nodes"], |nodes| nodes["nodes"][1]["state"] == "active").await;
            bed.ask(&["move", "import", "--to", "a", "--wait"]).await.well();
            process.die(death).await;
            bed.until_held("import", "b").await;
            let did: Did = process.child.wait_with_output().await.unwrap().into();
            assert_eq!(did.code, code, "{did:?}");
            let last = did.err.lines().last().unwrap();
            assert!(last.contains(said) && last.contains("are free"), "why, and what became of it: {did:?}");
        }
        other.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_program_that_may_not_be_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service");
    std::fs::write(&file, "no program").unwrap();
    let said: Did = program().args(["run", "--"]).arg(&file).output().await.unwrap().into();
    assert!(said.badly(126).contains("check that it may be executed"));
}

#[tokio::test]
async fn passes_signals_on() {
    let script = "trap 'echo heard; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = program();
    command.args(["run", "--", "sh", "-c", script]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "heard");
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn its_own_death_leaves_the_program_alone() {
    let mut command = program();
    command.args(["run", "--", "sh", "-c", "echo $$; read _; echo goes on"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    let input = child.stdin.take().unwrap();
    child.kill().await.unwrap();
    // The end of its input is what it waits for.
    drop(input);
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("goes on"));
}
