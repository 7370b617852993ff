//! Writes of an HTTP/2 connection are flushed once per turn of the scheduler, not once per call.
//!
//! `h2` flushes whenever its connection is polled. With many calls in flight that is a system call and a TLS record for
//! each small frame. [`TurnFlush`] sits between `h2` and TLS: the first flush of a turn only asks to be polled again,
//! which the scheduler does after the other runnable tasks have had their say; the flush of the next turn then carries
//! what all of them wrote.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Past this many buffered bytes a write goes through to TLS at once: two full TLS records.
const WRITE_THROUGH: usize = 32 * 1024;

/// Counts the polls of one connection's task. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn(Arc<AtomicU64>);

impl Turn {
    /// To be called by the connection's task each time before it polls the connection.
    pub(crate) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn current(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An I/O object whose flushes are put off to the next [`Turn`].
#[derive(Debug)]
pub(crate) struct TurnFlush<S> {
    inner: S,
    buffer: BytesMut,
    turn: Turn,
    /// The turn in which a flush was first asked for and put off.
    asked_in: Option<u64>,
}

impl<S> TurnFlush<S> {
    pub(crate) fn new(inner: S, turn: Turn) -> Self {
        Self {
            inner,
            buffer: BytesMut::new(),
            turn,
            asked_in: None,
        }
    }
}

impl<S: AsyncWrite + Unpin> TurnFlush<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.buffer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TurnFlush<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TurnFlush<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.buffer.len() >= WRITE_THROUGH {
            ready!(self.poll_drain(cx))?;
        }
        let mut taken = 0;
        for slice in bufs {
            self.buffer.extend_from_slice(slice);
            taken += slice.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = self.turn.current();
        match self.asked_in {
            None if self.buffer.is_empty() => Poll::Ready(Ok(())),
            None => {
                self.asked_in = Some(now);
                cx.waker().wake_by_ref();
                Poll::Ready(Ok(()))
            }
            Some(turn) if turn == now => Poll::Ready(Ok(())),
            Some(_) => {
                ready!(self.poll_drain(cx))?;
                ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
                self.asked_in = None;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_flush_waits_for_the_next_turn_and_carries_what_was_written_meanwhile() {
        let (near, mut far) = tokio::io::duplex(1024);
        let turn = Turn::default();
        let mut io = TurnFlush::new(near, turn.clone());

        turn.advance();
        io.write_all(b"one ").await.unwrap();
        io.flush().await.unwrap();
        io.write_all(b"two").await.unwrap();
        io.flush().await.unwrap();
        assert!(
            nothing_to_read(&mut far).await,
            "flushed within its own turn"
        );

        turn.advance();
        io.flush().await.unwrap();
        let mut read = [0; 16];
        let count = far.read(&mut read).await.unwrap();
        assert_eq!(&read[..count], b"one two");
    }

    #[tokio::test]
    async fn shutting_down_loses_nothing() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut io = TurnFlush::new(near, Turn::default());
        io.write_all(b"more than fits the pipe").await.unwrap();
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        io.shutdown().await.unwrap();
        drop(io);
        assert_eq!(reading.await.unwrap(), b"more than fits the pipe");
    }

    #[tokio::test]
    async fn a_large_write_pushes_back_when_the_peer_does_not_read() {
        let (near, _far) = tokio::io::duplex(8);
        let mut io = TurnFlush::new(near, Turn::default());
        let chunk = vec![0; WRITE_THROUGH];
        io.write_all(&chunk).await.unwrap();
        let second = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, &chunk))).await;
        assert!(second.is_pending());
    }

    async fn nothing_to_read(io: &mut (impl AsyncRead + Unpin)) -> bool {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *io).poll_read(cx, &mut buf).is_pending())).await
    }
}
