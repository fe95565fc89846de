//! `leasehold run` as the parent of programs that are no nodes; those that are live in the multi-process suites.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bed::{Did, program};

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
