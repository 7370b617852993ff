//! The calling side of an HTTP/2 connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use super::turn::{Turn, TurnFlush};
use super::{CONNECTION_WINDOW, HEADER_LIST_LIMIT, STREAM_WINDOW};

/// A connection on which calls can be started. When the last clone is dropped, the connection ends with its last call.
#[derive(Clone)]
pub(crate) struct Client {
    send: SendRequest<Bytes>,
    closed: Arc<AtomicBool>,
}

impl Client {
    /// Speaks the connection preface and spawns the task that drives the connection.
    pub(crate) async fn handshake<S>(io: S) -> Result<Self, h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::handshake_until(io, std::future::pending(), drop).await
    }

    /// As [`handshake`](Self::handshake); when `end` completes, the connection is closed with all calls on it. However it
    /// ends, `ended` is told.
    pub(crate) async fn handshake_until<S>(
        io: S,
        end: impl Future<Output = ()> + Send + 'static,
        ended: impl FnOnce(Result<(), h2::Error>) + Send + 'static,
    ) -> Result<Self, h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let turn = Turn::default();
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST_LIMIT)
            .enable_push(false)
            .handshake::<_, Bytes>(TurnFlush::new(io, turn.clone()))
            .await?;
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::clone(&closed);
        tokio::spawn(async move {
            let driven = poll_fn(|cx| {
                turn.advance();
                Pin::new(&mut connection).poll(cx)
            });
            let result = tokio::select! {
                result = driven => result,
                () = end => Ok(()),
            };
            is_closed.store(true, Ordering::Relaxed);
            if let Err(error) = &result {
                tracing::debug!(%error, "http/2 connection ended");
            }
            ended(result);
        });
        Ok(Self { send, closed })
    }

    /// Whether calls may still be started.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// Starts a call; waits while the peer takes no further one.
    ///
    /// # Errors
    /// When the connection takes no more calls (GOAWAY, error). From then on [`is_open`](Self::is_open) is false.
    pub(crate) async fn send(
        &self,
        request: Request<()>,
        end_of_stream: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let result = async {
            let mut send = self.send.clone().ready().await?;
            send.send_request(request, end_of_stream)
        }
        .await;
        // A malformed request is the caller's own fault and says nothing of the connection.
        let gone = |error: &h2::Error| error.is_io() || error.is_go_away();
        if result.as_ref().is_err_and(gone) {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}
