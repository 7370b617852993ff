//! Heads of requests.

use std::{fmt, mem::MaybeUninit};

use bytes::{Bytes, BytesMut};

use super::{
    diagnose,
    edits::HeaderEdits,
    error::HeadError,
    fields::{Facts, Fields, Headers, Located},
    framing::{Framing, Version},
    limits::Limits,
    target::{Target, check_host},
};

/// A part of a head, as offsets into it.
type Span = (u32, u32);

/// The head of a request: request line and headers as they were read, checked.
///
/// It keeps the read buffer that it came in alive; drop it when it is passed on and logged.
pub struct RequestHead {
    fields: Fields,
    method: Span,
    target: Span,
    path_and_query: Span,
    host: Option<Span>,
    upgrade: Option<Span>,
    version: Version,
    framing: Framing,
    close: bool,
    expects_continue: bool,
}

/// What must be known of a request to read its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSummary {
    /// The method was HEAD, so that the response has no body.
    pub head: bool,
    /// The request asked for an upgrade of the connection.
    pub upgrade: bool,
}

impl RequestHead {
    /// Parses a complete head, with its empty line, whose lines are known to end in CR LF.
    pub(super) fn parse(head: Bytes, limits: &Limits) -> Result<Self, HeadError> {
        let mut headers = [const { MaybeUninit::uninit() }; Limits::MAX_HEADERS];
        let headers = headers.get_mut(..limits.headers.min(Limits::MAX_HEADERS));
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(&head, headers.unwrap_or_default());
        // The parser would skip empty lines, of which the reader has already taken the one allowed.
        if parsed != Ok(httparse::Status::Complete(head.len())) || head.starts_with(b"\r") {
            return Err(diagnose::request(&head, parsed.err()));
        }
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(HeadError::RequestLine);
        };
        let version = Version::from_minor(request.version);
        let parts = Target::parse(method, target)?;
        let (mut located, facts) = Located::new(&head, request.headers)?;
        let authority = parts.authority.clone().and_then(|range| target.get(range));
        let host = effective_host(version, authority, &facts)?;
        let framing = Framing::of_request(version, &facts)?;
        let upgrade = facts.upgrade.filter(|wish| {
            version == Version::Http11 && framing == Framing::None && can_upgrade_to(wish)
        });
        if upgrade.is_none() {
            located.drop_upgrade();
        }
        let expects_continue = match facts.expect {
            None => false,
            Some(expect) if expect.eq_ignore_ascii_case(b"100-continue") => {
                // RFC 9110 §10.1.1: of an HTTP/1.0 client it means nothing.
                version == Version::Http11
            }
            Some(_) => return Err(HeadError::Expectation),
        };
        let span = |part: &[u8]| span(&head, part);
        let path = target.get(parts.path_and_query).unwrap_or_default();
        let (method, target) = (span(method.as_bytes()), span(target.as_bytes()));
        let (path_and_query, host) = (span(path.as_bytes()), host.map(span));
        let upgrade = upgrade.map(span);
        let close = facts.close || version == Version::Http10;
        Ok(Self {
            fields: located.own(head),
            method,
            target,
            path_and_query,
            host,
            upgrade,
            version,
            framing,
            close,
            expects_continue,
        })
    }

    /// The method, as sent; methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text(self.method)
    }

    /// The request target, as sent.
    #[must_use]
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// Path and query of the target, as sent; `*` for `OPTIONS *`.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        match self.text(self.path_and_query) {
            // RFC 9112 §3.2.4.
            "" if self.method() == "OPTIONS" => "*",
            "" => "/",
            path => path,
        }
    }

    /// Host and port that the request is for, as sent. Empty only if an HTTP/1.0 request names none.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.map_or("", |span| self.text(span))
    }

    /// The HTTP version of the request line.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The headers that travel with the message; see [`Headers`].
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.fields.iter()
    }

    /// The value of the first header `name` among [`Self::headers`]; case does not count.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// How long the body is.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the connection ends with the response to this request. Persistence of HTTP/1.0
    /// connections (`Connection: keep-alive`) is not offered.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.close
    }

    /// The protocol to switch to, if the request asks for one that is passed on: `websocket`.
    ///
    /// Wishes for others are not passed on, which a proxy is free to do (RFC 9110 §7.8). In
    /// particular `h2c` would open a channel for requests that nobody judges.
    #[must_use]
    pub fn upgrade(&self) -> Option<&str> {
        self.upgrade.map(|span| self.text(span))
    }

    /// Whether the sender waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The head as it was read, with its empty line.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.fields.bytes()
    }

    /// What the reader of the response must know.
    #[must_use]
    pub fn summary(&self) -> RequestSummary {
        RequestSummary {
            head: self.method() == "HEAD",
            upgrade: self.upgrade.is_some(),
        }
    }

    /// Appends the head as it is passed on: byte for byte, without the headers of this connection
    /// and those that `edits` removes, with those that it adds.
    pub fn write_to(&self, out: &mut BytesMut, edits: &HeaderEdits<'_>) {
        let Some(target) = edits.target else {
            return self.fields.write_to(out, edits);
        };
        for part in [
            self.method(),
            " ",
            target,
            " ",
            self.version.as_str(),
            "\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        // An absolute target took the name of the host along.
        if let Some(host) = self.host
            && host.0 < self.target.1
        {
            for part in ["host: ", self.text(host), "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        self.fields.write_lines_to(out, edits);
    }

    fn text(&self, (start, end): Span) -> &str {
        self.fields.text(start, end)
    }
}

impl fmt::Debug for RequestHead {
    /// Without query and header values, which may be credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query();
        formatter
            .debug_struct("RequestHead")
            .field("method", &self.method())
            .field("host", &self.host())
            .field("path", &path.split('?').next().unwrap_or(path))
            .field("framing", &self.framing)
            .field("headers", &self.fields)
            .finish_non_exhaustive()
    }
}

/// The host that a request is for (RFC 9112 §3.2): the authority of an absolute target, with which
/// Host must agree, or else Host, which HTTP/1.1 requires in any case.
fn effective_host<'a>(
    version: Version,
    authority: Option<&'a str>,
    facts: &Facts<'a>,
) -> Result<Option<&'a [u8]>, HeadError> {
    let authority = authority.map(str::as_bytes);
    match (facts.host, authority) {
        (None, _) if version == Version::Http11 => Err(HeadError::HostMissing),
        (None, authority) => Ok(authority),
        (Some(host), None) => check_host(host).map(|()| Some(host)),
        (Some(host), Some(authority)) if host.eq_ignore_ascii_case(authority) => Ok(Some(host)),
        (Some(_), Some(_)) => Err(HeadError::HostDisagrees),
    }
}

/// Protocols that a connection may be switched to.
pub(super) fn can_upgrade_to(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}

/// The place of `part` in `head`, of which it is a part that was found to fit 32 bits.
fn span(head: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
    let end = start.wrapping_add(part.len());
    (
        u32::try_from(start).unwrap_or(u32::MAX),
        u32::try_from(end).unwrap_or(u32::MAX),
    )
}
