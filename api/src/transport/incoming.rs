//! The server's side: connections whose handshake has been done, as tonic takes them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use countersign_identity::IdentityStore;
use countersign_identity::tls::{
    ClientAuth, PeerIdentity, TlsError, peer_of_accepted, server_config,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::Status;
use tonic::transport::server::Connected;

use super::ALPN;
use crate::x509_proof::ChannelBinding;

/// How long to wait when the system has no more file descriptors or memory for connections.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What strangers may cost a server before they have proved anything.
#[derive(Clone, Copy, Debug)]
pub struct IncomingLimits {
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How many handshakes are under way at once; further connections wait for their turn.
    pub concurrent_handshakes: usize,
    /// How many connections wait, each with an open file; further ones wait in the system's queue, where, when that is full
    /// too, they are not answered, and their system tries again after 1, 3 and 7 s.
    pub waiting: usize,
    /// How long a connection waits. Then whoever made it has given it up, or is told so by its end, and tries again later.
    pub patience: Duration,
}

impl Default for IncomingLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            concurrent_handshakes: 256,
            waiting: 256,
            patience: Duration::from_secs(45),
        }
    }
}

/// Who has made a call, and from where. It is an extension of every request; see [`Caller::of`].
#[derive(Clone, Debug)]
pub struct Caller {
    /// The proved identity, or none where the server takes anonymous clients too. It was good when
    /// the connection was made; [`PeerIdentity::verify`] says whether it still is.
    pub peer: Option<PeerIdentity>,
    /// The other end's address.
    pub remote_addr: SocketAddr,
    /// What only the two ends of the connection know it by.
    pub binding: ChannelBinding,
}

impl Caller {
    /// Who has sent `request`.
    ///
    /// # Errors
    /// The request did not come through [`incoming`]: an internal error of this server.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Status> {
        let caller = request.extensions().get::<Self>();
        caller.ok_or_else(|| Status::internal("the connection has no known caller"))
    }
}

/// The connections of `listener`, each when its handshake is done, for
/// `tonic::transport::Server::serve_with_incoming`.
///
/// Handshakes run side by side, within the limits. One that fails is logged, and concerns nobody
/// else: the stream neither fails nor ends. Dropping it closes the listener.
///
/// # Errors
/// TLS is not possible.
pub fn incoming(
    listener: TcpListener,
    store: &Arc<IdentityStore>,
    auth: ClientAuth,
    limits: IncomingLimits,
) -> Result<Incoming, TlsError> {
    let handshake = Handshake {
        acceptor: TlsAcceptor::from(server_config(store, auth, ALPN)?),
        store: Arc::clone(store),
        limit: limits.handshake,
    };
    let (ready, connections) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    // Not made to yield to the handshakes as one of them: taking a connection off the system's queue costs little, and when
    // many come at once that queue is full in no time.
    tasks.spawn(tokio::task::unconstrained(accept(
        listener, handshake, limits, ready,
    )));
    Ok(Incoming {
        connections,
        _tasks: tasks,
    })
}

/// See [`incoming`].
#[derive(Debug)]
pub struct Incoming {
    connections: mpsc::Receiver<TlsIo>,
    /// Aborted, with all handshakes under way, when this is dropped.
    _tasks: JoinSet<()>,
}

impl Stream for Incoming {
    type Item = io::Result<TlsIo>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections
            .poll_recv(context)
            .map(|connection| connection.map(Ok))
    }
}

async fn accept(
    listener: TcpListener,
    handshake: Handshake,
    limits: IncomingLimits,
    ready: mpsc::Sender<TlsIo>,
) {
    let mut handshakes = JoinSet::new();
    let mut waiting = VecDeque::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        while handshakes.len() < limits.concurrent_handshakes.max(1)
            && let Some((tcp, remote_addr, since)) = waiting.pop_front()
        {
            let since: Instant = since;
            if since.elapsed() < limits.patience {
                handshakes.spawn(handshake.clone().run(tcp, remote_addr, ready.clone()));
            } else {
                // Dropped, and thereby closed: nothing has been spent on it yet.
                tracing::debug!(%remote_addr, limit = ?limits.patience, "connection waited too long");
            }
        }
        let accepted = tokio::select! {
            Some(_) = handshakes.join_next() => continue,
            accepted = listener.accept(), if waiting.len() < limits.waiting.max(1) => accepted,
        };
        match accepted {
            Ok((tcp, remote_addr)) => waiting.push_back((tcp, remote_addr, Instant::now())),
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "connection was gone before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections, trying again");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Whether accept(2) reports what has become of one connection, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

#[derive(Clone)]
struct Handshake {
    acceptor: TlsAcceptor,
    store: Arc<IdentityStore>,
    limit: Duration,
}

impl Handshake {
    async fn run(self, tcp: TcpStream, remote_addr: SocketAddr, ready: mpsc::Sender<TlsIo>) {
        let outcome = tokio::time::timeout(self.limit, self.secure(tcp, remote_addr)).await;
        match outcome {
            // The receiver is gone when the server stops: then nobody wants the connection.
            Ok(Ok(connection)) => drop(ready.send(connection).await),
            Ok(Err(error)) => tracing::debug!(%remote_addr, %error, "handshake failed"),
            Err(_) => tracing::debug!(%remote_addr, limit = ?self.limit, "handshake took too long"),
        }
    }

    async fn secure(&self, tcp: TcpStream, remote_addr: SocketAddr) -> io::Result<TlsIo> {
        tcp.set_nodelay(true)?;
        let stream = self.acceptor.accept(tcp).await?;
        let peer = peer_of_accepted(stream.get_ref().1, &self.store, SystemTime::now())
            .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
        let binding = ChannelBinding::of_accepted(stream.get_ref().1).map_err(io::Error::other)?;
        Ok(TlsIo {
            stream,
            caller: Caller {
                peer,
                remote_addr,
                binding,
            },
        })
    }
}

/// A connection over TLS of which the caller is known.
#[derive(Debug)]
pub struct TlsIo {
    stream: TlsStream<TcpStream>,
    caller: Caller,
}

impl Connected for TlsIo {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
