//! Heads of responses.

use std::{fmt, mem::MaybeUninit};

use bytes::{Bytes, BytesMut};

use super::{
    diagnose,
    edits::HeaderEdits,
    error::HeadError,
    fields::{Fields, Headers, Located},
    framing::{Framing, Version},
    limits::Limits,
    request::{RequestSummary, can_upgrade_to},
};

/// The head of a response: status line and headers as they were read, checked.
///
/// It keeps the read buffer that it came in alive; drop it when it is passed on.
pub struct ResponseHead {
    fields: Fields,
    status: u16,
    version: Version,
    framing: Framing,
    close: bool,
}

impl ResponseHead {
    /// Parses a complete head, with its empty line, whose lines are known to end in CR LF, of a
    /// response to `request`.
    pub(super) fn parse(
        head: Bytes,
        request: &RequestSummary,
        limits: &Limits,
    ) -> Result<Self, HeadError> {
        let mut headers = [const { MaybeUninit::uninit() }; Limits::MAX_HEADERS];
        let headers = headers.get_mut(..limits.headers.min(Limits::MAX_HEADERS));
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            &head,
            headers.unwrap_or_default(),
        );
        // The parser would skip empty lines, which only a request may have before it.
        if parsed != Ok(httparse::Status::Complete(head.len())) || !head.starts_with(b"HTTP/") {
            return Err(diagnose::response(&head, parsed.err()));
        }
        let status = response.code.ok_or(HeadError::StatusLine)?;
        if status < 100 {
            return Err(HeadError::StatusCode);
        }
        let version = Version::from_minor(response.version);
        let (mut located, facts) = Located::new(&head, response.headers)?;
        let framing = Framing::of_response(version, status, request.head, &facts)?;
        if status == 101 {
            // RFC 9110 §7.8: only to what the client asked for.
            if !request.upgrade || !facts.upgrade.is_some_and(can_upgrade_to) {
                return Err(HeadError::UpgradeUnasked);
            }
        } else {
            located.drop_upgrade();
        }
        let close = facts.close || version == Version::Http10 || framing == Framing::UntilClose;
        Ok(Self {
            fields: located.own(head),
            status,
            version,
            framing,
            close,
        })
    }

    /// The status code, 100 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether another response to the same request follows (1xx other than 101).
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && !self.is_upgrade()
    }

    /// Whether the connection now speaks the protocol that the request asked for (101); what
    /// follows belongs to it, see [`MessageReader::into_stream`](super::MessageReader::into_stream).
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.status == 101
    }

    /// The HTTP version of the status line.
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

    /// Whether the sender ends the connection after this response.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.close
    }

    /// The head as it was read, with its empty line.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.fields.bytes()
    }

    /// Appends the head as it is passed on: byte for byte, without the headers of this connection
    /// and those that `edits` removes, with those that it adds.
    pub fn write_to(&self, out: &mut BytesMut, edits: &HeaderEdits<'_>) {
        self.fields.write_to(out, edits);
    }
}

impl fmt::Debug for ResponseHead {
    /// Without header values, which may be credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("framing", &self.framing)
            .field("headers", &self.fields)
            .finish_non_exhaustive()
    }
}
