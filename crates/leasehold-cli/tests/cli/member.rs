//! A node in a process of its own, which dies when a test says so: this very program, started again.

use std::io::BufRead;
use std::process::Stdio;
use std::time::Duration;

use leasehold_core::node::Node;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::bed::{Bed, job, program};

/// Where a process finds what it is to be.
const MEMBER: &str = "LEASEHOLD_TEST_MEMBER";

#[derive(Serialize, Deserialize)]
struct Member {
    url: String,
    cluster: String,
    node: String,
    ttl: Duration,
}

/// How it ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Death {
    Kill,
    Abort,
    Exit,
}

/// A node that deploys `import`, in a process of its own.
pub(crate) struct Process {
    pub(crate) child: Child,
    orders: ChildStdin,
}

impl Process {
    /// Starts it; with `leasehold run` as its parent, if it is supervised.
    pub(crate) fn start(bed: &Bed, node: &str, ttl: Duration, supervised: bool) -> Self {
        let (url, cluster) = (bed.0.url.clone(), bed.0.name.clone());
        let member = Member { url, cluster, node: node.to_owned(), ttl };
        let this = std::env::current_exe().unwrap();
        let mut command = if supervised { program() } else { Command::new(&this) };
        if supervised {
            command.args(["run", "--"]).arg(&this);
        }
        command
            .args(["--exact", "member::this_process_is_a_node", "--nocapture"])
            .env(MEMBER, serde_json::to_string(&member).unwrap())
            .env_remove("LEASEHOLD_SUPERVISOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        Self { child, orders }
    }

    pub(crate) async fn die(&mut self, death: Death) {
        let order = format!("{}\n", serde_json::to_string(&death).unwrap());
        self.orders.write_all(order.as_bytes()).await.unwrap();
    }
}

/// A test of nothing, unless a test has started this process to be a node. It ends with its input, so that it outlives no test.
#[tokio::test]
async fn this_process_is_a_node() {
    let Ok(member) = std::env::var(MEMBER) else { return };
    let member: Member = serde_json::from_str(&member).unwrap();
    let node = Node::builder(member.url).cluster(member.cluster).node_id(member.node).ttl(member.ttl);
    let _node = node.artifact(job("import")).start().await.unwrap();
    tokio::task::spawn_blocking(|| {
        let order = std::io::stdin().lock().lines().next().and_then(Result::ok);
        match order.and_then(|order| serde_json::from_str(&order).ok()) {
            Some(Death::Abort) => std::process::abort(),
            Some(Death::Exit) => std::process::exit(3),
            Some(Death::Kill) | None => kill_process(getpid(), Signal::KILL).unwrap(),
        }
    })
    .await
    .unwrap();
}
