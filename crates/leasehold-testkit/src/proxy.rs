//! A TCP proxy that hurts connections on command.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What happens to connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Bytes pass.
    #[default]
    None,
    /// Nothing passes and nothing is closed, as behind a firewall that drops packets. When the fault ends, what was
    /// held back goes on, as a retransmission would.
    BlackHole,
    /// Connections are closed, and new ones with them.
    Refuse,
    /// What clients send passes, and the connection is closed instead of the answer: what was asked for is done, and nobody knows.
    CutAnswers,
    /// Everything passes so much later, in its order.
    Delay(Duration),
    /// Byte by byte, with so much between two.
    Trickle(Duration),
}

/// A proxy on a port of its own, in front of a server. Dropped, it closes everything.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    /// Connections with lower numbers pass nothing.
    held: watch::Sender<u64>,
    /// The number of the next connection.
    next: Arc<AtomicU64>,
    /// Each connection has a share of it.
    open: Arc<()>,
    _accepting: AbortOnDropHandle<()>,
}

impl FaultProxy {
    /// Listens on a free loopback port for connections to `upstream`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), upstream).await
    }

    /// Listens there: for a server that tells its clients where to connect to.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start_at(address: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let ((fault, state), (held, holding)) = (watch::channel(Fault::None), watch::channel(0));
        let (open, next) = (Arc::new(()), Arc::new(AtomicU64::new(0)));
        let (share, numbers) = (Arc::clone(&open), Arc::clone(&next));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let share = Arc::clone(&share);
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                let gate = Gate { fault: state.clone(), held: holding.clone(), number };
                tokio::spawn(async move {
                    serve(client, upstream, gate).await;
                    drop(share);
                });
            }
        });
        Ok(Self { address, fault, held, next, open, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there are at present.
    pub fn connections(&self) -> usize {
        // One share is its own, and one is that of whoever accepts.
        Arc::strong_count(&self.open).saturating_sub(2)
    }

    /// Sets what happens to connections, those that are open and those to come.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// What is on its way on connections that are open now stays there until [`release`](FaultProxy::release); new ones pass.
    pub fn hold(&self) {
        self.held.send_replace(self.next.load(Ordering::SeqCst));
    }

    /// What was held goes on.
    pub fn release(&self) {
        self.held.send_replace(0);
    }
}

/// Who is let through.
#[derive(Clone)]
struct Gate {
    fault: watch::Receiver<Fault>,
    held: watch::Receiver<u64>,
    number: u64,
}

impl Gate {
    /// Waits until something may pass, and tells how; none when the connection is to be closed.
    async fn pass(&mut self) -> Option<Fault> {
        let number = self.number;
        loop {
            self.held.wait_for(|held| *held <= number).await.ok()?;
            let state = *self.fault.wait_for(|fault| *fault != Fault::BlackHole).await.ok()?;
            if state == Fault::Refuse {
                return None;
            }
            if *self.held.borrow() <= number {
                return Some(state);
            }
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Questions,
    Answers,
}

async fn serve(client: TcpStream, upstream: SocketAddr, mut gate: Gate) {
    if gate.pass().await.is_none() {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // The end of either direction, or a fault, ends both.
    tokio::select! {
        () = copy(from_client, to_server, gate.clone(), Way::Questions) => {}
        () = copy(from_server, to_client, gate, Way::Answers) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: Gate, way: Way) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = gate.fault.wait_for(|fault| *fault == Fault::Refuse) => return,
        };
        let Ok(count @ 1..) = read else { return };
        let Some(state) = gate.pass().await else { return };
        let written = match state {
            Fault::CutAnswers if way == Way::Answers => return,
            Fault::Delay(delay) => {
                tokio::time::sleep(delay).await;
                // What is on its way may be held, too.
                if gate.pass().await.is_none() {
                    return;
                }
                to.write_all(&buffer[..count]).await
            }
            Fault::Trickle(pause) => trickle(&mut to, &buffer[..count], pause, &gate).await,
            _ => to.write_all(&buffer[..count]).await,
        };
        if written.is_err() {
            return;
        }
    }
}

/// Until the fault ends: the rest goes at once.
async fn trickle(to: &mut OwnedWriteHalf, bytes: &[u8], pause: Duration, gate: &Gate) -> io::Result<()> {
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(*gate.fault.borrow(), Fault::Trickle(_)) {
            return to.write_all(&bytes[at..]).await;
        }
        to.write_all(&[*byte]).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echo behind a proxy, and a client of it.
    async fn echo() -> (FaultProxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let proxy = FaultProxy::start(upstream).await.unwrap();
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, client)
    }

    async fn asks(client: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        client.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        client.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn what_is_late_or_in_pieces_arrives_whole() {
        let (proxy, mut client) = echo().await;
        for fault in
            [Fault::Delay(Duration::from_millis(5)), Fault::Trickle(Duration::from_millis(1)), Fault::None]
        {
            proxy.set(fault);
            assert_eq!(asks(&mut client, b"hello").await.unwrap(), b"hello");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_ends_the_connection() {
        let (proxy, mut client) = echo().await;
        assert_eq!(asks(&mut client, b"first").await.unwrap(), b"first");
        proxy.set(Fault::CutAnswers);
        asks(&mut client, b"second").await.unwrap_err();
    }

    #[tokio::test]
    async fn held_connections_wait_and_new_ones_pass() {
        let (proxy, mut held) = echo().await;
        assert_eq!(asks(&mut held, b"before").await.unwrap(), b"before");
        proxy.hold();
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        held.write_all(b"held").await.unwrap();
        assert_eq!(asks(&mut new, b"new").await.unwrap(), b"new");
        let mut answer = [0; 4];
        let early = tokio::time::timeout(Duration::from_millis(20), held.read(&mut answer)).await;
        assert!(early.is_err(), "it is not released yet");
        proxy.release();
        held.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"held");
    }
}
