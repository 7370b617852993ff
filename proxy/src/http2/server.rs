//! The accepting side of an HTTP/2 connection.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::turn::{Turn, TurnFlush};
use super::{CONCURRENT_STREAMS, CONNECTION_WINDOW, HEADER_LIST_LIMIT, STREAM_WINDOW};
use crate::problem::Problem;

/// The calls that arrive on one connection.
pub(crate) struct Calls<S> {
    connection: h2::server::Connection<TurnFlush<S>, Bytes>,
    turn: Turn,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Calls<S> {
    /// Reads the connection preface.
    pub(crate) async fn handshake(io: S) -> Result<Self, h2::Error> {
        let turn = Turn::default();
        let connection = h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST_LIMIT)
            .max_concurrent_streams(CONCURRENT_STREAMS)
            .handshake(TurnFlush::new(io, turn.clone()))
            .await?;
        Ok(Self { connection, turn })
    }

    /// Hands each call to `take` until the connection ends. Once `stopping` completes, the peer is told to start no more
    /// calls here (GOAWAY, RFC 9113 §6.8); those in flight go on.
    ///
    /// `take` must not wait: this also drives the calls in flight.
    pub(crate) async fn serve(
        mut self,
        stopping: impl Future<Output = ()>,
        mut take: impl FnMut(Request<RecvStream>, SendResponse<Bytes>),
    ) -> Result<(), h2::Error> {
        let mut stopping = pin!(stopping);
        let mut draining = false;
        loop {
            let next = poll_fn(|cx| {
                self.turn.advance();
                self.connection.poll_accept(cx)
            });
            tokio::select! {
                call = next => match call.transpose()? {
                    Some((request, respond)) => take(request, respond),
                    None => return Ok(()),
                },
                () = &mut stopping, if !draining => {
                    draining = true;
                    self.connection.graceful_shutdown();
                }
            }
        }
    }
}

/// Whether a call is a gRPC call, and so wants its problems as gRPC statuses.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a call in the application's place.
pub(crate) fn answer(mut respond: SendResponse<Bytes>, problem: &Problem, grpc: bool) {
    let (response, content) = problem.to_http2(grpc);
    let sent = respond
        .send_response(response, content.is_none())
        .and_then(|mut stream| content.map_or(Ok(()), |content| stream.send_data(content, true)));
    if let Err(error) = sent {
        // The caller has gone: nobody is left to tell.
        tracing::debug!(%error, "an answer found no caller");
    }
    // Dropping both halves asks the caller to stop sending, once the answer is out (RFC 9113 §8.1).
}
