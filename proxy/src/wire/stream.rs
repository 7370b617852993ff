//! One HTTP/2 stream of the wire as a pair of byte streams: what a `CONNECT` tunnel carries (RFC 9113 §8.5).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that one write takes: what fits a TLS record with its frame's header.
const WRITE_CHUNK: usize = 16 * 1024 - 9;

/// The receiving half of a tunnel.
#[derive(Debug)]
pub(crate) struct WireReader {
    state: Reading,
    /// What was received and not yet read.
    chunk: Bytes,
}

#[derive(Debug)]
enum Reading {
    /// The peer has not answered the `CONNECT` yet. Bytes may be sent all the same.
    Unanswered(ResponseFuture),
    Open(RecvStream),
}

/// The sending half of a tunnel. Dropped without [`shutdown`](tokio::io::AsyncWriteExt::shutdown), it resets the stream.
#[derive(Debug)]
pub(crate) struct WireWriter {
    stream: SendStream<Bytes>,
    finished: bool,
}

/// Why a tunnel could not be opened: the peer's answer to the `CONNECT`.
#[derive(Debug, thiserror::Error)]
#[error("the peer's sidecar answered {0} to CONNECT")]
pub(crate) struct ConnectRefused(pub(crate) StatusCode);

/// Answers a `CONNECT` with 200; what follows on its stream is the tunnel.
pub(crate) fn accept_tunnel(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(WireReader, WireWriter), h2::Error> {
    let send = respond.send_response(Response::new(()), false)?;
    let state = Reading::Open(request.into_body());
    Ok((
        WireReader {
            state,
            chunk: Bytes::new(),
        },
        WireWriter::new(send),
    ))
}

/// The tunnel of a `CONNECT` that was sent and need not be answered yet.
pub(super) fn requested(
    response: ResponseFuture,
    send: SendStream<Bytes>,
) -> (WireReader, WireWriter) {
    (
        WireReader {
            state: Reading::Unanswered(response),
            chunk: Bytes::new(),
        },
        WireWriter::new(send),
    )
}

impl WireReader {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                Reading::Unanswered(response) => {
                    let response = ready!(Pin::new(response).poll(cx)).map_err(to_io)?;
                    if !response.status().is_success() {
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::ConnectionRefused,
                            ConnectRefused(response.status()),
                        )));
                    }
                    self.state = Reading::Open(response.into_body());
                }
                Reading::Open(recv) => match ready!(recv.poll_data(cx)) {
                    Some(Ok(chunk)) => {
                        // Given back as soon as it is taken off the connection: what waits here is one chunk.
                        recv.flow_control()
                            .release_capacity(chunk.len())
                            .map_err(to_io)?;
                        self.chunk = chunk;
                        if !self.chunk.is_empty() {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }
}

impl AsyncRead for WireReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.chunk.is_empty() {
            ready!(self.poll_chunk(cx))?;
        }
        let count = self.chunk.len().min(buf.remaining());
        self.chunk.copy_to_slice(buf.initialize_unfilled_to(count));
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl WireWriter {
    fn new(stream: SendStream<Bytes>) -> Self {
        Self {
            stream,
            finished: false,
        }
    }

    /// Resets the stream: the peer sees an error, not an end.
    pub(crate) fn reset(mut self, reason: Reason) {
        self.finished = true;
        self.stream.send_reset(reason);
    }

    /// Waits until `h2` has room for at least one byte; returns for how many.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.stream.reserve_capacity(wanted);
        let room = self.stream.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        loop {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(room)) => return Poll::Ready(Ok(room)),
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
}

impl AsyncWrite for WireWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(cx, buf.len().min(WRITE_CHUNK)))?;
        let (now, _later) = buf.split_at(buf.len().min(room).min(WRITE_CHUNK));
        self.stream
            .send_data(Bytes::copy_from_slice(now), false)
            .map_err(to_io)?;
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task flushes, once per turn for all streams.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.finished = true;
            self.stream.send_data(Bytes::new(), true).map_err(to_io)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for WireWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

fn to_io(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(_) if !error.is_io() => io::Error::new(io::ErrorKind::ConnectionReset, error),
        _ => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
    }
}
