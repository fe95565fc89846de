//! A TCP proxy that hurts connections on command.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

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
}

/// A proxy on a port of its own, in front of a server. Dropped, it closes everything.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
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
        let (fault, state) = watch::channel(Fault::None);
        let open = Arc::new(());
        let share = Arc::clone(&open);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (share, state) = (Arc::clone(&share), state.clone());
                tokio::spawn(async move {
                    serve(client, upstream, state).await;
                    drop(share);
                });
            }
        });
        Ok(Self { address, fault, open, _accepting: AbortOnDropHandle::new(accepting) })
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
}

async fn serve(client: TcpStream, upstream: SocketAddr, mut fault: watch::Receiver<Fault>) {
    if passable(&mut fault).await.is_none() {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // The end of either direction, or a fault, ends both.
    tokio::select! {
        () = copy(from_client, to_server, fault.clone()) => {}
        () = copy(from_server, to_client, fault) => {}
    }
}

/// Waits out a black hole; none when the connection is to be closed.
async fn passable(fault: &mut watch::Receiver<Fault>) -> Option<()> {
    let state = *fault.wait_for(|fault| *fault != Fault::BlackHole).await.ok()?;
    (state == Fault::None).then_some(())
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut fault: watch::Receiver<Fault>) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = fault.wait_for(|fault| *fault == Fault::Refuse) => return,
        };
        let Ok(count @ 1..) = read else { return };
        if passable(&mut fault).await.is_none() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
