//! What can be wrong with a message, and what to answer.

use std::io;

use thiserror::Error;

/// A head that is refused. One variant for each rule, so that tests and metrics can tell them apart.
///
/// Messages name the rule and never quote the message: header values may be secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[expect(
    missing_docs,
    reason = "the message of each variant says what it means"
)]
pub enum HeadError {
    #[error("a line of the head ends in LF without CR")]
    BareLineFeed,
    #[error("the head contains a CR that is not followed by LF")]
    BareCarriageReturn,
    #[error("more than one empty line before the request line")]
    EmptyLines,
    #[error("the request line is not `method SP target SP HTTP/1.1`")]
    RequestLine,
    #[error("the method is not a token")]
    Method,
    #[error("CONNECT is not served here")]
    Connect,
    #[error("the request target contains a byte that is not visible ASCII")]
    TargetByte,
    #[error("the request target has a fragment")]
    TargetFragment,
    #[error(
        "the request target is neither a path, nor an absolute http URI without user information, \
         nor `*` with OPTIONS"
    )]
    TargetForm,
    #[error("the request line is longer than the limit on heads")]
    TargetTooLong,
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    Version,
    #[error("the status line is not `HTTP/1.1 SP three digits SP reason`")]
    StatusLine,
    #[error("the status code is below 100")]
    StatusCode,
    #[error("a header line begins with white space (obsolete line folding)")]
    ObsoleteFolding,
    #[error("white space between a header name and its colon")]
    SpaceBeforeColon,
    #[error("a header name is empty, is not a token, or has no colon after it")]
    FieldName,
    #[error("a header value contains a control byte")]
    FieldValue,
    #[error("the head is longer than the limit")]
    TooLarge,
    #[error("the head has more header lines than the limit")]
    TooManyFields,
    #[error("a header name imitates Content-Length or Transfer-Encoding by an underscore")]
    ImitatedName,
    #[error("Content-Length, Transfer-Encoding or Host has unusual white space around its value")]
    PaddedValue,
    #[error("an HTTP/1.1 request needs a Host header")]
    HostMissing,
    #[error("more than one Host header")]
    HostRepeated,
    #[error("the host is not a name or address with an optional port")]
    HostInvalid,
    #[error("the Host header and the authority of the request target differ")]
    HostDisagrees,
    #[error("more than one Content-Length header")]
    LengthRepeated,
    #[error("Content-Length is not a decimal number")]
    LengthInvalid,
    #[error("Content-Length is beyond 64 bits")]
    LengthTooLarge,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndTransferEncoding,
    #[error("more than one Transfer-Encoding header")]
    TransferEncodingRepeated,
    #[error("a transfer coding other than `chunked`")]
    TransferEncodingUnsupported,
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    TransferEncodingInHttp10,
    #[error("a response of this status cannot have a body, but its head announces one")]
    BodyNotAllowed,
    #[error("the Connection header is not a short list of tokens")]
    ConnectionOption,
    #[error("the Connection header names Host, Expect, Content-Length or Transfer-Encoding")]
    ConnectionNamesFraming,
    #[error("an expectation other than 100-continue")]
    Expectation,
    #[error("the response switches protocols, which the request did not ask for")]
    UpgradeUnasked,
}

impl HeadError {
    /// The status that tells the sender of a request what was wrong (RFC 9110 §15).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::LengthTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::TooLarge | Self::TooManyFields => 431,
            Self::Connect | Self::TransferEncodingUnsupported => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}

/// A message head could not be had.
#[derive(Debug, Error)]
pub enum ReadError {
    /// What came is not an acceptable head.
    #[error("malformed HTTP/1 head: {0}")]
    Malformed(#[from] HeadError),
    /// The stream ended within a head.
    #[error("the connection was closed in the middle of an HTTP/1 head")]
    Truncated,
    /// The stream ended before the first byte of a response.
    #[error("the connection was closed before the first byte of a response")]
    Closed,
    /// The head began, and did not end in time.
    #[error("an HTTP/1 head did not arrive completely within the time allowed")]
    HeadTimeout,
    /// No request began in time: the connection is idle.
    #[error("no request within the idle time allowed")]
    IdleTimeout,
    /// No response began in time.
    #[error("no response within the time allowed")]
    ResponseTimeout,
    /// The previous message was refused, or its body was not read to its end, so that what
    /// follows on this connection has no meaning.
    #[error("the previous message on this connection was not read to its end")]
    OutOfStep,
    /// The transport failed.
    #[error("reading an HTTP/1 head: {0}")]
    Io(#[from] io::Error),
}

impl ReadError {
    /// What to answer the sender of a *request* that could not be read; `None`: nothing, only
    /// close, since the sender is gone or asked for nothing.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Malformed(error) => Some(error.status()),
            Self::HeadTimeout => Some(408),
            Self::Truncated => Some(400),
            Self::Closed
            | Self::IdleTimeout
            | Self::ResponseTimeout
            | Self::OutOfStep
            | Self::Io(_) => None,
        }
    }

    /// What to answer the one who waits for a *response* that could not be read.
    #[must_use]
    pub fn gateway_status(&self) -> u16 {
        match self {
            Self::HeadTimeout | Self::IdleTimeout | Self::ResponseTimeout => 504,
            _ => 502,
        }
    }
}

/// A body that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[expect(
    missing_docs,
    reason = "the message of each variant says what it means"
)]
pub enum BodySyntaxError {
    #[error("a chunk does not begin with its size in hexadecimal digits, `;` or CR LF")]
    ChunkSize,
    #[error("a chunk size has more than 16 digits")]
    ChunkSizeTooLong,
    #[error("a chunk size line does not end in CR LF")]
    ChunkSizeEnd,
    #[error("a chunk extension contains a control byte")]
    ChunkExtension,
    #[error(
        "a chunk extension is longer than {} bytes",
        super::body::EXTENSION_BYTES
    )]
    ChunkExtensionTooLong,
    #[error("the data of a chunk is not followed by CR LF")]
    ChunkEnd,
    #[error("malformed trailer section: {0}")]
    Trailers(HeadError),
    #[error("a trailer has a name that only a header may have")]
    TrailerForbidden,
}

/// A body could not be passed on to its end.
#[derive(Debug, Error)]
pub enum BodyError {
    /// What came is not an acceptable body.
    #[error("malformed HTTP/1 body: {0}")]
    Malformed(#[from] BodySyntaxError),
    /// The stream ended before the body did.
    #[error("the connection was closed in the middle of a body")]
    Truncated,
    /// The sender was quiet for too long.
    #[error("no byte of the body within the time allowed")]
    Stalled,
    /// The receiver took nothing for too long.
    #[error("the receiver took no byte of the body within the time allowed")]
    ReceiverStalled,
    /// The body of the previous message failed already.
    #[error("this connection failed in an earlier message")]
    OutOfStep,
    /// The transport that the body comes from failed.
    #[error("reading a body: {0}")]
    Read(#[source] io::Error),
    /// The transport that the body goes to failed.
    #[error("writing a body: {0}")]
    Write(#[source] io::Error),
}

impl BodyError {
    /// What to answer the sender of a *request* whose body could not be passed on, if nothing has
    /// been answered yet; `None`: nothing, only close, since the sender is gone.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Malformed(BodySyntaxError::Trailers(error)) => Some(error.status()),
            Self::Malformed(_) | Self::Truncated => Some(400),
            Self::Stalled => Some(408),
            Self::ReceiverStalled => Some(504),
            Self::Write(_) => Some(502),
            Self::OutOfStep | Self::Read(_) => None,
        }
    }
}
