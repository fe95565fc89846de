//! Being the parent of a service's process, so that its death is known at once.
//!
//! A process that is cut off must be waited for, because it may live and trust its session. One that has died need not:
//! whoever *knows* that it is dead may end its session at once, and the next holder runs in milliseconds instead of a ttl.
//! [`Parent`] starts the service; its node announces each session to it **before** it joins, and when the kernel reports
//! the process's death, the parent deletes that session's row and wakes the cluster.
//!
//! # Why it is safe
//!
//! - **Only the kernel's word counts.** A process is dead when `waitpid` says so of the child that this process itself has
//!   started: all its threads have ended then, its sockets are closed, and it renews and trusts nothing any more. A closed
//!   connection, a silent port, or a pid that is gone from another host's view prove nothing, and are not looked at.
//! - **A session announced is the one that joins.** It is announced before its row is inserted, each time anew, and has
//!   an id that is never used again: what is deleted is that very session, or nothing. An insert that the dead process had
//!   under way may arrive later; it is a session that never renews, is granted nothing, and expires.
//! - **The announcer is the very child.** The kernel tells the peer's pid (SO_PEERCRED), and the child is reaped while nobody can
//!   announce, and nobody is heard afterwards, so that its pid cannot be another's. Whoever else announces is refused, and told why.
//! - **No incarnation is checked**, unlike by an expiry, which goes by beats that another life of the database may have
//!   forgotten: a dead process is dead in all of them. What is granted then is granted by the rules that always hold.
//! - **A transaction that the dead process had open** may still be open on the server, until that notices. It keeps the
//!   lease's row locked, so nobody is granted a higher token before it has ended; if its commit had arrived, it commits
//!   before that grant. What the process had handed to the kernel for other systems may still reach those: the token that
//!   goes along tells them.
//!
//! # What it does not cover
//!
//! - The death of the parent: the child goes on, and the ttl applies again, as without one.
//! - Work that the child forks away: a process that goes on with it is not waited for. Connections of such a process are refused.
//! - A machine that is copied while it runs, memory and all: in each copy the kernel speaks of its own child only.

mod door;
mod free;
pub(crate) mod heralds;
mod lock;
mod signals;
mod wire;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, WaitOptions, wait, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::door::Door;
pub use self::free::{Freed, Outcome};
pub(crate) use self::lock::LockFile;
use self::signals::Forwarded;
pub(crate) use self::wire::Reach;
pub use self::wire::SUPERVISOR;
use crate::error::Error;

/// The parent of one service's process.
///
/// Dropped, it lets the child go on, unsupervised: its death is then known by its ttl.
#[derive(Debug)]
pub struct Parent {
    pid: Pid,
    door: Door,
    deaths: Signal,
    /// Of an init: what it passes on.
    forwarded: Option<Forwarded>,
}

/// How a child ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// As the kernel says.
    pub status: ExitStatus,
    /// What became of the sessions that it had announced, by cluster and database.
    pub freed: Vec<Freed>,
}

impl Parent {
    /// Starts a child and waits for it alone; other children of this process are not touched. Call it on a tokio runtime with
    /// I/O and time.
    ///
    /// # Errors
    /// [`Error::System`] when there is no such program, or the machine gives no socket or signals.
    pub fn start(command: Command) -> Result<Self, Error> {
        Self::start_as(command, None)
    }

    /// The same as an init would: passes on the signals that this process gets, and reaps orphans that the kernel makes its
    /// children. For a process that does nothing else.
    ///
    /// # Errors
    /// As [`start`](Parent::start).
    pub fn start_as_init(command: Command) -> Result<Self, Error> {
        let forwarded = Forwarded::listen().map_err(system("listen for signals"))?;
        Self::start_as(command, Some(forwarded))
    }

    fn start_as(mut command: Command, forwarded: Option<Forwarded>) -> Result<Self, Error> {
        // Before there is a child: its death must not be missed.
        let deaths = signal(SignalKind::child()).map_err(system("listen for the end of children"))?;
        let door = Door::open().map_err(system("open the supervisor's socket"))?;
        command.env(SUPERVISOR, door.path());
        let child =
            command.spawn().map_err(|source| Error::System { operation: "start the program", source })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid =
            pid.ok_or_else(|| system("start the program")(io::Error::other("a process without an id")))?;
        door.admit(pid);
        Ok(Self { pid, door, deaths, forwarded })
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for the child's end, and then frees what it held: for some seconds at most, after which the ttl does. Dropping the
    /// future before lets the child go on, unsupervised.
    ///
    /// # Errors
    /// [`Error::System`] when somebody else in this process has waited for the child: then nothing is known, and nothing freed.
    pub async fn wait(mut self) -> Result<Ended, Error> {
        let status = loop {
            if let Some(status) = self.look()? {
                break status;
            }
            tokio::select! {
                _ = self.deaths.recv() => {}
                signal = forwarded(&mut self.forwarded) => signals::pass(signal, self.pid),
            }
        };
        let announced = self.door.close();
        let freed = free::free(announced, status).await;
        Ok(Ended { status, freed })
    }

    /// The child's status, if it is dead. It is reaped while nobody can announce, so that no other process gets its pid and is
    /// taken for it.
    fn look(&mut self) -> Result<Option<ExitStatus>, Error> {
        let (pid, everyone) = (self.pid, self.forwarded.is_some());
        self.door.while_shut(|| {
            loop {
                let found = match everyone {
                    true => wait(WaitOptions::NOHANG),
                    false => waitpid(Some(pid), WaitOptions::NOHANG),
                };
                match found {
                    Ok(Some((ended, status))) if ended == pid => {
                        return Ok(Some(ExitStatus::from_raw(status.as_raw())));
                    }
                    // An orphan.
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(None),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(system("wait for the program")(error.into())),
                }
            }
        })
    }
}

async fn forwarded(forwarded: &mut Option<Forwarded>) -> rustix::process::Signal {
    match forwarded {
        Some(forwarded) => forwarded.next().await,
        None => std::future::pending().await,
    }
}

fn system(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System { operation, source }
}
