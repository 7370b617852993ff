//! The connections of the socket, as tonic takes them: bounded in number, and with who it is told to the log.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

use super::authority::AuthorityReader;

/// How many connections there may be. More wait: a workload that opens so many has lost them.
const CONNECTIONS: usize = 64;
/// A pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of `listener`. Neither fails nor ends.
pub(super) fn incoming(listener: UnixListener) -> impl Stream<Item = io::Result<Connection>> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    stream::unfold((listener, slots), |(listener, slots)| async {
        let connection = accept(&listener, &slots).await;
        Some((connection, (listener, slots)))
    })
}

async fn accept(listener: &UnixListener, slots: &Arc<Semaphore>) -> io::Result<Connection> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tell(&stream);
                return Ok(Connection {
                    stream,
                    authority: AuthorityReader::new(),
                    _slot: slot,
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept workload api connections, trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Everybody who can open the socket gets the identity; who it was is for whoever looks afterwards.
fn tell(stream: &UnixStream) {
    match stream.peer_cred() {
        Ok(peer) => {
            let (pid, uid, gid) = (peer.pid(), peer.uid(), peer.gid());
            tracing::info!(pid, uid, gid, "workload api connection");
        }
        Err(error) => tracing::info!(%error, "workload api connection of an unknown process"),
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    authority: AuthorityReader,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(come) = buffer.filled_mut().get_mut(before..) {
            self.authority.read(come);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
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
}
