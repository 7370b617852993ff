//! Halves of a connection with the application, whose bytes are counted as they pass.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Counts what is read.
#[derive(Debug)]
pub(crate) struct CountedReader<R> {
    reader: R,
    read: Counter,
}

/// Counts what is written.
#[derive(Debug)]
pub(crate) struct CountedWriter<W> {
    writer: W,
    written: Counter,
}

/// What the application says.
pub(crate) type ApplicationReader = CountedReader<OwnedReadHalf>;
/// What the application is told.
pub(crate) type ApplicationWriter = CountedWriter<OwnedWriteHalf>;

/// Both halves of a connection with the application.
pub(crate) fn split(
    tcp: TcpStream,
    read: &Counter,
    written: &Counter,
) -> (ApplicationReader, ApplicationWriter) {
    let (reader, writer) = tcp.into_split();
    let (read, written) = (read.clone(), written.clone());
    (
        CountedReader { reader, read },
        CountedWriter { writer, written },
    )
}

impl ApplicationWriter {
    /// Resets the connection, once its reader is gone, too: the application sees a failure, and not an end.
    pub(crate) fn reset(self) {
        let tcp: &TcpStream = self.writer.as_ref();
        if let Err(error) = tcp.set_zero_linger() {
            tracing::debug!(%error, "a connection could only be closed, not reset");
        }
        // To drop it would send the end first.
        self.writer.forget();
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for CountedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(cx, buffer))?;
        count(&self.read, buffer.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for CountedWriter<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.writer).poll_write(cx, bytes))?;
        count(&self.written, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.writer).poll_write_vectored(cx, slices))?;
        count(&self.written, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

fn count(counter: &Counter, bytes: usize) {
    counter.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
}
