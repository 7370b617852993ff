//! Passing a body on.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    deadline::{Deadline, due_after},
    error::BodyError,
    limits::Limits,
    reader::MessageReader,
};

/// Pieces are gathered up to this size before they are written; larger ones are written from where
/// they are.
const GATHERED: usize = 8 * 1024;

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Writes `out`, in which the caller has put the head, and the current body to `to`, and empties
    /// `out`. Returns the length of the body as it was passed on, with its chunk framing.
    ///
    /// Memory is bounded by one read and `out`. What is already there is written together with the
    /// head. The body is passed on byte for byte, without chunk extensions, and each part as soon as
    /// it comes: `to` is flushed whenever the sender makes us wait, and at the end.
    ///
    /// # Errors
    /// If the body breaks its framing, ends early, or makes no progress in either direction for
    /// [`Limits::body_timeout`]. The message was then passed on in part, and the connection to the
    /// receiver must be ended so that it does not take the part for the whole.
    pub async fn copy_body<W: AsyncWrite + Unpin>(
        &mut self,
        out: &mut BytesMut,
        to: &mut W,
        limits: &Limits,
    ) -> Result<u64, BodyError> {
        let mut copied = 0_u64;
        loop {
            while !self.body.is_finished() && !self.buffer.is_empty() {
                let piece = self.body.decode(&self.buffer, limits)?;
                let used = piece.forward.saturating_add(piece.skip);
                if used == 0 {
                    break;
                }
                let forward = self.buffer.get(..piece.forward).unwrap_or_default();
                if out.len().saturating_add(forward.len()) <= GATHERED {
                    out.extend_from_slice(forward);
                } else {
                    write_all(&mut self.deadline, to, out, limits).await?;
                    out.clear();
                    write_all(&mut self.deadline, to, forward, limits).await?;
                }
                copied = copied.saturating_add(u64::try_from(piece.forward).unwrap_or(u64::MAX));
                self.buffer.advance(used);
            }
            if !out.is_empty() {
                write_all(&mut self.deadline, to, out, limits).await?;
                out.clear();
            }
            if self.body.is_finished() {
                flush(&mut self.deadline, to, limits).await?;
                return Ok(copied);
            }
            if self.fill_body_flushing(to, limits).await? == 0 {
                self.body.end_of_input()?;
            }
        }
    }

    /// Reads more of the body; if that takes time, what was written is flushed meanwhile.
    async fn fill_body_flushing<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        limits: &Limits,
    ) -> Result<usize, BodyError> {
        self.make_body_room();
        let mut due = None;
        let mut flushed = false;
        poll_fn(|context| {
            let read = self.poll_fill_body(context, &mut due, limits);
            if read.is_pending() && !flushed {
                ready!(Pin::new(&mut *to).poll_flush(context)).map_err(BodyError::Write)?;
                flushed = true;
            }
            read
        })
        .await
    }
}

/// Writes all of `bytes`, unless the receiver takes none of them for too long.
async fn write_all<W: AsyncWrite + Unpin>(
    deadline: &mut Deadline,
    to: &mut W,
    mut bytes: &[u8],
    limits: &Limits,
) -> Result<(), BodyError> {
    while !bytes.is_empty() {
        let mut due = None;
        let written = poll_fn(|context: &mut Context<'_>| {
            if let Poll::Ready(written) = Pin::new(&mut *to).poll_write(context, bytes) {
                return Poll::Ready(written.map_err(BodyError::Write));
            }
            let due = *due.get_or_insert_with(|| due_after(limits.body_timeout));
            ready!(deadline.poll(context, due));
            Poll::Ready(Err(BodyError::ReceiverStalled))
        })
        .await?;
        if written == 0 {
            return Err(BodyError::Write(io::ErrorKind::WriteZero.into()));
        }
        bytes.advance(written);
    }
    Ok(())
}

/// Flushes, unless that takes too long.
async fn flush<W: AsyncWrite + Unpin>(
    deadline: &mut Deadline,
    to: &mut W,
    limits: &Limits,
) -> Result<(), BodyError> {
    let mut due = None;
    poll_fn(|context: &mut Context<'_>| {
        if let Poll::Ready(flushed) = Pin::new(&mut *to).poll_flush(context) {
            return Poll::Ready(flushed.map_err(BodyError::Write));
        }
        let due = *due.get_or_insert_with(|| due_after(limits.body_timeout));
        ready!(deadline.poll(context, due));
        Poll::Ready(Err(BodyError::ReceiverStalled))
    })
    .await
}
