//! One HTTP/1.1 exchange through the sidecar: a request one way, its response the other, both as they came.

use std::pin::pin;

use bytes::BytesMut;
use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::http1::{
    BodyError, Framing, HeaderEdits, Limits, MessageReader, ReadError, RequestHead, Version,
};
use crate::problem;

/// One connection, as the two halves of it that an exchange uses at the same time.
pub(crate) struct Side<R, W> {
    pub(crate) reader: MessageReader<R>,
    pub(crate) writer: W,
}

impl<R: AsyncRead, W> Side<R, W> {
    /// Both halves, from the first byte that was no part of a message: for the protocol after an upgrade.
    pub(crate) fn into_streams(self) -> (impl AsyncRead + use<R, W>, W) {
        (self.reader.into_stream(), self.writer)
    }
}

/// What is left after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct After {
    /// The caller's connection can carry another exchange.
    pub(crate) caller_persists: bool,
    /// The callee's connection can carry another exchange.
    pub(crate) callee_persists: bool,
    /// Both now speak the protocol that the request asked for.
    pub(crate) upgraded: bool,
}

impl After {
    /// Part of the request was not carried: neither connection is at the beginning of a message.
    fn last(self) -> Self {
        Self {
            caller_persists: false,
            callee_persists: false,
            ..self
        }
    }
}

/// Why an exchange broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The callee failed before a byte of a final response was passed on: the caller can be told.
    #[error("{0}")]
    Unanswered(CalleeError),
    /// The callee failed in the middle of its response: the caller's connection can only be closed.
    #[error("the response broke off: {0}")]
    BrokenOff(BodyError),
    /// The request's body broke its framing, stalled or ended early, and nothing was answered yet.
    #[error("the request's body: {0}")]
    RequestBody(BodyError),
    /// The caller takes no more.
    #[error("the caller went away: {0}")]
    Caller(std::io::Error),
}

/// What the callee did instead of answering.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CalleeError {
    /// It did not take the request.
    #[error("the request could not be sent: {0}")]
    Send(std::io::Error),
    /// It did not answer, or not in HTTP/1.1.
    #[error(transparent)]
    Receive(ReadError),
}

impl ExchangeError {
    /// Whether the call may be sent again although it may have been received: the callee closed the connection without a
    /// byte in answer, as it may do with one that lay idle; a second time changes nothing; and nothing of the request has
    /// been used up (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
    pub(crate) fn may_repeat(&self, request: &RequestHead) -> bool {
        is_repeatable(request)
            && matches!(
                self,
                Self::Unanswered(
                    CalleeError::Send(_)
                        | CalleeError::Receive(ReadError::Closed | ReadError::Io(_))
                )
            )
    }
}

/// Whether a second time changes nothing, and nothing of the request is used up by the first.
pub(crate) fn is_repeatable(request: &RequestHead) -> bool {
    let idempotent = matches!(
        request.method(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
    );
    idempotent && request.framing() == Framing::None
}

impl CalleeError {
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Receive(ReadError::ResponseTimeout | ReadError::HeadTimeout)
        )
    }
}

/// The next request of a caller's connection. `None` when there is none to be carried: the connection ended or is to end,
/// or what came was no request, and the caller has been told.
pub(crate) async fn next_request<R, W>(
    caller: &mut Side<R, W>,
    limits: &Limits,
    stopping: impl Future<Output = ()>,
) -> Option<RequestHead>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let read = tokio::select! {
        biased;
        read = caller.reader.request_head(limits) => read,
        // Only between calls: a call that has begun is carried to its end.
        () = stopping => Ok(None),
    };
    match read {
        Ok(Some(request)) => Some(request),
        Ok(None) => {
            // An end in order: a tunnel that is merely dropped takes back what of the last response is not out yet.
            let _gone = caller.writer.shutdown().await;
            None
        }
        Err(error) => {
            if let Some(status) = error.status() {
                let problem = problem::malformed(status, &error);
                problem
                    .write_http1(&mut caller.writer, false, problem::After::Close)
                    .await;
            }
            None
        }
    }
}

/// Passes `request`, whose head has been read from `caller`, on to `callee`, and the response back. The request's body and
/// the response flow at the same time, so a callee may answer before it has read everything (RFC 9112 §9.3).
pub(crate) async fn exchange<CR, CW, SR, SW>(
    caller: &mut Side<CR, CW>,
    callee: &mut Side<SR, SW>,
    request: &RequestHead,
    request_edits: &HeaderEdits<'_>,
    limits: &Limits,
) -> Result<After, ExchangeError>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    SR: AsyncRead + Unpin,
    SW: AsyncWrite + Unpin,
{
    let mut out = BytesMut::with_capacity(request.as_bytes().len() + 512);
    request.write_to(&mut out, request_edits);
    let (from_caller, to_caller) = (&mut caller.reader, &mut caller.writer);
    let (from_callee, to_callee) = (&mut callee.reader, &mut callee.writer);

    if request.framing() == Framing::None {
        let sent = async {
            to_callee.write_all(&out).await?;
            to_callee.flush().await
        };
        sent.await
            .map_err(|error| ExchangeError::Unanswered(CalleeError::Send(error)))?;
        return respond(from_callee, to_caller, request, limits).await;
    }

    let upload = pin!(from_caller.copy_body(&mut out, to_callee, limits));
    let answer = pin!(respond(from_callee, to_caller, request, limits));
    match select(upload, answer).await {
        Either::Left((Ok(_), answer)) => answer.await,
        // The callee stopped reading. It may have said why.
        Either::Left((Err(BodyError::Write(_)), answer)) => answer.await.map(After::last),
        Either::Left((Err(error), _)) => Err(ExchangeError::RequestBody(error)),
        // Answered before everything was read.
        Either::Right((answer, _)) => answer.map(After::last),
    }
}

/// Passes the response on, interim ones included.
async fn respond<SR, CW>(
    from_callee: &mut MessageReader<SR>,
    to_caller: &mut CW,
    request: &RequestHead,
    limits: &Limits,
) -> Result<After, ExchangeError>
where
    SR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    let (summary, caller_closes) = (request.summary(), request.wants_close());
    let http10 = request.version() == Version::Http10;
    loop {
        let head = from_callee
            .response_head(&summary, limits)
            .await
            .map_err(|error| ExchangeError::Unanswered(CalleeError::Receive(error)))?;
        let closes = caller_closes || head.framing() == Framing::UntilClose;
        let close = closes && !head.is_interim() && !head.is_upgrade();
        head.write_to(
            &mut out,
            &HeaderEdits {
                close,
                ..HeaderEdits::default()
            },
        );
        let after = After {
            caller_persists: !closes,
            // What makes an HTTP/1.0 caller's connection close travels on with the version; `Connection` does not.
            callee_persists: !head.wants_close() && !http10,
            upgraded: head.is_upgrade(),
        };
        let interim = head.is_interim();
        // The head keeps the read buffer alive.
        drop(head);
        from_callee
            .copy_body(&mut out, to_caller, limits)
            .await
            .map_err(|error| match error {
                BodyError::Write(error) => ExchangeError::Caller(error),
                error => ExchangeError::BrokenOff(error),
            })?;
        if !interim {
            return Ok(after);
        }
    }
}
