//! The signals that an init passes on to its child.

use std::io;

use rustix::process::{Pid, Signal as Number, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that ask a program for something. What stops or resumes a terminal's job reaches the child by itself, as it is of the
/// same process group.
const PASSED: [(SignalKind, Number); 7] = [
    (SignalKind::terminate(), Number::TERM),
    (SignalKind::interrupt(), Number::INT),
    (SignalKind::quit(), Number::QUIT),
    (SignalKind::hangup(), Number::HUP),
    (SignalKind::user_defined1(), Number::USR1),
    (SignalKind::user_defined2(), Number::USR2),
    (SignalKind::window_change(), Number::WINCH),
];

/// Signals that this process gets instead of ending by them.
#[derive(Debug)]
pub(super) struct Forwarded(Vec<(Signal, Number)>);

impl Forwarded {
    pub(super) fn listen() -> io::Result<Self> {
        let listen = |(kind, number): (SignalKind, Number)| Ok((signal(kind)?, number));
        Ok(Self(PASSED.into_iter().map(listen).collect::<io::Result<_>>()?))
    }

    /// The next one. May be cancelled.
    pub(super) async fn next(&mut self) -> Number {
        std::future::poll_fn(|context| {
            for (signal, number) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Passes a signal on. What is typed at a terminal reaches its whole foreground group: the child has it already then.
pub(super) fn pass(signal: Number, to: Pid) {
    if matches!(signal, Number::INT | Number::QUIT | Number::WINCH) && in_foreground() {
        return;
    }
    // It may have died this moment.
    if let Err(error) = kill_process(to, signal) {
        tracing::debug!(%error, "a signal could not be passed on");
    }
}

/// Whether this process's group is the one that a terminal talks to.
fn in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}
