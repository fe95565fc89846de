//! A connection's socket, within our reach.
//!
//! The client has a thread of its own for each connection, and goes on waiting for the broker when nobody wants the connection
//! any more: for the handshake, and for an answer to its farewell. A broker that falls silent would cost a thread and a
//! socket each time. Whoever gives up shuts the socket, and the thread ends.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

enum State {
    Opening,
    Open(TcpStream),
    Over,
}

/// Dropped, it gives the connection up, if there still is one.
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
