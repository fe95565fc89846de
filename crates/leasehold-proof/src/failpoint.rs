//! A replica stops itself, or ends, in the middle of something.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leasehold_core::failpoint::{self, Point};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

use crate::node::Options;
use crate::record::{Telling, Told, now_ms};

fn words(point: Point) -> &'static str {
    match point {
        Point::QuerySent => "query sent",
        Point::Answered => "answered",
        Point::Committed => "committed",
        Point::HandlerStarted => "handler started",
        Point::EffectSent => "effect sent",
    }
}

/// What happens there, once: to whoever is there first from so long after its start on, and not too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failpoint {
    pub(crate) at: Point,
    pub(crate) from_ms: u64,
    pub(crate) within_ms: u64,
    /// It stops for so long; without, it ends.
    pub(crate) pause_ms: Option<u64>,
}

/// Arms the failpoint of this replica.
pub(crate) fn arm(options: &Options) {
    let Some(Failpoint { at, from_ms, within_ms, pause_ms }) = options.failpoint else { return };
    let (name, recorder) = (options.name.clone(), options.recorder.clone());
    let from = now_ms() + from_ms;
    let done = AtomicBool::new(false);
    failpoint::set(move |point| {
        let now = now_ms();
        if at != point || now < from || now > from + within_ms || done.swap(true, Ordering::SeqCst) {
            return;
        }
        let what = if pause_ms.is_some() { "stops" } else { "aborts" };
        let told = Told::Fault {
            kind: format!("{what} at: {}", words(at)),
            node: Some(name.clone()),
            artifact: None,
        };
        // Whether the recorder could be told or not.
        let _ = tell(&recorder, Telling { by: name.clone(), told: vec![told] });
        match pause_ms {
            Some(pause) => stop(pause),
            None => std::process::abort(),
        }
    });
}

/// Here and now: this thread is in the middle of something, and no other is to go on with it.
fn tell(recorder: &str, telling: Telling) -> std::io::Result<()> {
    let body = serde_json::to_string(&telling)?;
    let mut stream = TcpStream::connect(recorder)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let length = body.len();
    write!(
        stream,
        "POST /tell HTTP/1.1\r\nHost: {recorder}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.read(&mut [0; 16]).map(drop)
}

/// Somebody else must wake a process that has stopped itself.
fn stop(pause_ms: u64) {
    let id = getpid();
    let script = format!("sleep {}; kill -CONT {}", pause_ms as f64 / 1000.0, id.as_raw_nonzero());
    let waking = Command::new("sh").arg("-c").arg(script).stdin(Stdio::null()).spawn();
    if let Ok(mut waking) = waking {
        // It may be stopped already by the proof, and then goes on with that.
        let _ = kill_process(id, Signal::STOP);
        let _ = waking.try_wait();
    }
}
