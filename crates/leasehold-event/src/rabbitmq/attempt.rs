//! A connection that is being made.
//!
//! The client makes it on a thread of its own, and goes on waiting for the broker when nobody waits for the client any more: a
//! broker that accepts and says nothing would cost a thread and a socket with every attempt. Whoever gives up shuts the
//! socket, and the thread ends.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

enum State {
    Opening,
    Open(TcpStream),
    Over,
}

/// Dropped before it is [`made`](Attempt::made), it gives the connection up.
pub(super) struct Attempt(Socket);

/// The same, for whoever opens the socket.
#[derive(Clone)]
pub(super) struct Socket(Arc<Mutex<State>>);

impl Attempt {
    pub(super) fn new() -> Self {
        Self(Socket(Arc::new(Mutex::new(State::Opening))))
    }

    pub(super) fn socket(&self) -> Socket {
        self.0.clone()
    }

    /// The connection is somebody's.
    pub(super) fn made(self) {
        *self.0.state() = State::Over;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let State::Open(socket) = std::mem::replace(&mut *self.0.state(), State::Over) {
            // The broker may have closed it by now.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Socket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps this socket within reach.
    ///
    /// # Errors
    /// Nobody waits for it any more; the process has no more descriptors.
    pub(super) fn opened(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut state = self.state();
        if matches!(*state, State::Over) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *state = State::Open(socket.try_clone_to_owned()?.into());
        Ok(())
    }
}
