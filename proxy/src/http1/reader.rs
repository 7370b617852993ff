//! A connection as a sequence of messages.

use std::{
    fmt,
    future::poll_fn,
    io::{self, Cursor},
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, Chain},
    time::Instant,
};

use super::{
    body::BodyDecoder,
    deadline::{Deadline, due_after},
    error::{BodyError, HeadError, ReadError},
    framing::Framing,
    limits::Limits,
    request::{RequestHead, RequestSummary},
    response::ResponseHead,
    scan::{Scan, Scanned},
};

/// Room for what a head is expected to need; what an idle connection keeps.
const HEAD_ROOM: usize = 4 * 1024;
/// Room for reads of a body: what one TLS record holds.
const BODY_ROOM: usize = 16 * 1024;
/// Less room than this is not worth a read.
const LEAST_ROOM: usize = 1024;

/// Reads messages from a stream, one after the other: head, body, head, body.
///
/// It knows where the current body ends, and gives the next head only when the body was read to its
/// end; after a message that was refused, it gives nothing more. So what belongs to one message cannot
/// become part of another.
///
/// All futures can be dropped and begun again: what was read is kept.
pub struct MessageReader<R> {
    io: R,
    pub(super) buffer: BytesMut,
    pub(super) body: BodyDecoder,
    pub(super) deadline: Deadline,
    scan: Scan,
    /// An empty line before the request line was skipped (RFC 9112 §2.2).
    skipped_line: bool,
    /// When the head that is being read must be complete.
    head_due: Option<Option<Instant>>,
}

/// Why a buffer was not filled.
#[derive(Debug)]
pub(super) enum FillError {
    Io(io::Error),
    TimedOut,
}

impl<R> MessageReader<R> {
    /// Reads messages from the beginning of `io`.
    pub fn new(io: R) -> Self {
        Self::with_buffered(io, BytesMut::new())
    }

    /// Reads messages from `buffered`, which was read from `io` already, and then from `io`.
    pub fn with_buffered(io: R, buffered: BytesMut) -> Self {
        Self {
            io,
            buffer: buffered,
            body: BodyDecoder::new(Framing::None),
            deadline: Deadline::default(),
            scan: Scan::default(),
            skipped_line: false,
            head_due: None,
        }
    }

    /// What follows the messages that were read, from its first byte: the other protocol after an upgrade.
    pub fn into_stream(self) -> Chain<Cursor<BytesMut>, R>
    where
        R: AsyncRead,
    {
        AsyncReadExt::chain(Cursor::new(self.buffer), self.io)
    }

    /// The stream, for facts about it; not to read from it.
    pub fn get_ref(&self) -> &R {
        &self.io
    }

    /// Whether the body of the current message was read to its end. Only then can the next head be
    /// read.
    pub fn is_body_finished(&self) -> bool {
        self.body.is_finished()
    }

    /// Whether bytes are there that the next read of a head begins with.
    pub fn has_buffered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Moves to `out` what is already there of the current body, as far as it fits `room`; `true` if
    /// the body is finished.
    ///
    /// # Errors
    /// As [`Self::copy_body`].
    pub fn append_buffered_body(
        &mut self,
        out: &mut BytesMut,
        room: usize,
        limits: &Limits,
    ) -> Result<bool, BodyError> {
        let end = out.len().saturating_add(room);
        while !self.body.is_finished() && !self.buffer.is_empty() && out.len() < end {
            let allowed = end.saturating_sub(out.len());
            let input = self.buffer.get(..allowed).unwrap_or(&self.buffer);
            let piece = self.body.decode(input, limits)?;
            out.extend_from_slice(input.get(..piece.forward).unwrap_or_default());
            let used = piece.forward.saturating_add(piece.skip);
            if used == 0 {
                break;
            }
            self.buffer.advance(used);
        }
        Ok(self.body.is_finished())
    }

    /// Takes a complete section of the head off the buffer.
    fn scan_head(&mut self, limits: &Limits) -> Result<Option<Bytes>, HeadError> {
        match self.scan.advance(&self.buffer, limits.head_bytes)? {
            Scanned::Partial => Ok(None),
            Scanned::Complete(length) => {
                self.scan = Scan::default();
                Ok(Some(self.buffer.split_to(length).freeze()))
            }
        }
    }

    /// Makes what follows unreadable, if `result` is an error.
    fn poison_on_error<T, E>(&mut self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.body.fail();
        }
        result
    }

    /// Begins the body of a message whose head is complete.
    fn begin_body(&mut self, framing: Framing) {
        self.body = BodyDecoder::new(framing);
        self.skipped_line = false;
        self.head_due = None;
    }
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// The next request; `None` if the stream ended where a request could have begun.
    ///
    /// # Errors
    /// If no acceptable head comes in time; see [`ReadError::status`] for what to answer.
    pub async fn request_head(
        &mut self,
        limits: &Limits,
    ) -> Result<Option<RequestHead>, ReadError> {
        if !self.body.is_finished() {
            return Err(ReadError::OutOfStep);
        }
        loop {
            let scanned = self.scan_head(limits);
            match self.poison_on_error(scanned)? {
                Some(line) if line.len() == 2 && !self.skipped_line => self.skipped_line = true,
                Some(head) => {
                    let parsed = RequestHead::parse(head, limits);
                    let head = self.poison_on_error(parsed)?;
                    self.begin_body(head.framing());
                    return Ok(Some(head));
                }
                None => {
                    let idle = (limits.idle_timeout, ReadError::IdleTimeout);
                    if self.fill_head(idle, limits).await? == 0 {
                        return if self.buffer.is_empty() {
                            Ok(None)
                        } else {
                            Err(ReadError::Truncated)
                        };
                    }
                }
            }
        }
    }

    /// The next response to `request`. Interim responses (1xx) are given one by one.
    ///
    /// # Errors
    /// If no acceptable head comes in time; see [`ReadError::gateway_status`] for what to answer.
    /// [`ReadError::Closed`] if not a byte of it came.
    pub async fn response_head(
        &mut self,
        request: &RequestSummary,
        limits: &Limits,
    ) -> Result<ResponseHead, ReadError> {
        if !self.body.is_finished() {
            return Err(ReadError::OutOfStep);
        }
        loop {
            let scanned = self.scan_head(limits);
            if let Some(head) = self.poison_on_error(scanned)? {
                let parsed = ResponseHead::parse(head, request, limits);
                let head = self.poison_on_error(parsed)?;
                self.begin_body(head.framing());
                return Ok(head);
            }
            let quiet = (limits.response_timeout, ReadError::ResponseTimeout);
            if self.fill_head(quiet, limits).await? == 0 {
                return Err(if self.buffer.is_empty() {
                    ReadError::Closed
                } else {
                    ReadError::Truncated
                });
            }
        }
    }

    /// The next piece of the current body, as it is passed on; `None` if the body is finished. A
    /// piece is a part of the read buffer and not a copy.
    ///
    /// # Errors
    /// As [`Self::copy_body`].
    pub async fn body_piece(&mut self, limits: &Limits) -> Result<Option<Bytes>, BodyError> {
        while !self.body.is_finished() {
            let piece = self.body.decode(&self.buffer, limits)?;
            let forward = self.buffer.split_to(piece.forward.min(self.buffer.len()));
            self.buffer.advance(piece.skip.min(self.buffer.len()));
            if !forward.is_empty() {
                return Ok(Some(forward.freeze()));
            }
            if piece.skip == 0 && !self.body.is_finished() {
                self.fill_body(limits).await?;
            }
        }
        Ok(None)
    }

    /// Reads the current body to its end and drops it, if it is no longer than about `at_most` bytes,
    /// so that the connection can be used for another message. `false`: it goes on, and the
    /// connection should be closed.
    ///
    /// # Errors
    /// As [`Self::copy_body`].
    pub async fn skip_body(&mut self, at_most: u64, limits: &Limits) -> Result<bool, BodyError> {
        let mut skipped = 0_u64;
        while self.body.expected().saturating_add(skipped) <= at_most {
            match self.body_piece(limits).await? {
                Some(piece) => {
                    skipped =
                        skipped.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                }
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Reads more of a head; 0 at the end of the stream. `quiet`: how long its first byte may take.
    async fn fill_head(
        &mut self,
        (quiet, too_quiet): (Duration, ReadError),
        limits: &Limits,
    ) -> Result<usize, ReadError> {
        let began = !self.buffer.is_empty() || self.skipped_line;
        self.make_room(HEAD_ROOM);
        let mut quiet_due = None;
        let filled = poll_fn(|context| {
            if let Poll::Ready(read) = self.poll_read(context) {
                return Poll::Ready(read.map_err(FillError::Io));
            }
            // Only who waits looks at the clock.
            let due = if began {
                *self
                    .head_due
                    .get_or_insert_with(|| due_after(limits.head_timeout))
            } else {
                *quiet_due.get_or_insert_with(|| due_after(quiet))
            };
            ready!(self.deadline.poll(context, due));
            Poll::Ready(Err(FillError::TimedOut))
        })
        .await;
        match self.poison_on_error(filled) {
            Ok(read) => Ok(read),
            Err(FillError::Io(error)) => Err(ReadError::Io(error)),
            Err(FillError::TimedOut) if began => Err(ReadError::HeadTimeout),
            Err(FillError::TimedOut) => Err(too_quiet),
        }
    }

    /// Reads more of a body, or ends it with the stream.
    async fn fill_body(&mut self, limits: &Limits) -> Result<(), BodyError> {
        self.make_body_room();
        let mut due = None;
        let read = poll_fn(|context| self.poll_fill_body(context, &mut due, limits)).await?;
        if read == 0 {
            self.body.end_of_input()
        } else {
            Ok(())
        }
    }

    /// One attempt to read more of a body. `due`: when this wait must end, once that is known.
    pub(super) fn poll_fill_body(
        &mut self,
        context: &mut Context<'_>,
        due: &mut Option<Option<Instant>>,
        limits: &Limits,
    ) -> Poll<Result<usize, BodyError>> {
        let result = if let Poll::Ready(read) = self.poll_read(context) {
            read.map_err(BodyError::Read)
        } else {
            let due = *due.get_or_insert_with(|| due_after(limits.body_timeout));
            ready!(self.deadline.poll(context, due));
            Err(BodyError::Stalled)
        };
        Poll::Ready(self.poison_on_error(result))
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        pin!(self.io.read_buf(&mut self.buffer)).poll(context)
    }

    /// Room for more of the current body: no more than it needs, if that is known.
    pub(super) fn make_body_room(&mut self) {
        let expected = usize::try_from(self.body.expected()).unwrap_or(usize::MAX);
        let known = expected > 0;
        self.make_room(if known {
            expected.clamp(HEAD_ROOM, BODY_ROOM)
        } else {
            BODY_ROOM
        });
    }

    /// Makes room for a read of up to `room` bytes.
    fn make_room(&mut self, room: usize) {
        if !self.buffer.is_empty() {
            if self.buffer.capacity().saturating_sub(self.buffer.len()) < LEAST_ROOM {
                self.buffer.reserve(room);
            }
            return;
        }
        // Takes back what heads and pieces had of the buffer, if they are gone.
        self.buffer.reserve(room);
        if room <= HEAD_ROOM && self.buffer.capacity() > 2 * HEAD_ROOM {
            // What a large body needed is not kept while the connection waits for the next message.
            self.buffer = BytesMut::with_capacity(HEAD_ROOM);
        }
    }
}

impl<R> fmt::Debug for MessageReader<R> {
    /// Without the bytes, which may be credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MessageReader")
            .field("buffered", &self.buffer.len())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}
