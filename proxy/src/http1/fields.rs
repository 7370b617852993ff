//! Header lines of one head: where they are, which of them travel on, and what they say.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::{
    edits::HeaderEdits,
    error::HeadError,
    name::{Known, is_token, same_name},
};

/// Options that the Connection headers of one head may have. Real ones have one or two; each is
/// compared with each header line.
const CONNECTION_OPTIONS: usize = 16;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Addressed to the recipient of the message; judged and passed on.
    EndToEnd,
    /// Addressed to this connection (RFC 9110 §7.6.1), but renewed for the next.
    Renewed,
    /// Addressed to this connection, ends here.
    Dropped,
}

/// Offsets of one line into the bytes of its head.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
    fate: Fate,
}

/// What header lines say about the message and its connection.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) content_length: Option<&'a [u8]>,
    pub(super) transfer_encoding: Option<&'a [u8]>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) expect: Option<&'a [u8]>,
    /// The protocol to upgrade to, if both `Upgrade` and `Connection: upgrade` ask for it.
    pub(super) upgrade: Option<&'a [u8]>,
    /// `Connection: close`.
    pub(super) close: bool,
    connection_upgrade: bool,
    /// `Connection: te`.
    connection_te: bool,
    te_trailers: bool,
}

/// Owned header lines, with the head that they are part of.
pub(super) struct Fields {
    bytes: Bytes,
    lines: Vec<Line>,
    /// Connection options that the next hop needs to see.
    renewed: Renewed,
}

/// Connection options that are renewed for the next hop.
#[derive(Debug, Default, Clone, Copy)]
struct Renewed {
    upgrade: bool,
    te: bool,
}

/// Header lines whose places are known, while their head is still borrowed.
pub(super) struct Located {
    lines: Vec<Line>,
    renewed: Renewed,
}

impl Located {
    /// Finds the places and the facts of `headers`, which were parsed from `head`.
    pub(super) fn new<'a>(
        head: &'a [u8],
        headers: &[httparse::Header<'a>],
    ) -> Result<(Self, Facts<'a>), HeadError> {
        let mut facts = Facts::default();
        let mut lines = Vec::with_capacity(headers.len());
        let mut nominations = false;
        for header in headers {
            let mut line = Line::of(head, header)?;
            if let Some(known) = Known::of(header.name) {
                line.fate = facts.note(known, header, || line.is_plain(head))?;
                nominations |= known == Known::Connection && facts.has_nominations(header.value)?;
            }
            lines.push(line);
        }
        if !facts.connection_upgrade {
            facts.upgrade = None;
        }
        let mut located = Self {
            renewed: Renewed {
                upgrade: facts.upgrade.is_some(),
                te: facts.te_trailers && facts.connection_te,
            },
            lines,
        };
        if nominations {
            located.drop_nominated(headers)?;
        }
        Ok((located, facts))
    }

    /// Drops what `Connection` names (RFC 9110 §7.6.1).
    fn drop_nominated(&mut self, headers: &[httparse::Header<'_>]) -> Result<(), HeadError> {
        let connections = headers
            .iter()
            .filter(|header| Known::of(header.name) == Some(Known::Connection))
            .flat_map(|header| options(header.value));
        for (count, option) in connections.enumerate() {
            let option = str::from_utf8(option).map_err(|_| HeadError::ConnectionOption)?;
            if count >= CONNECTION_OPTIONS {
                return Err(HeadError::ConnectionOption);
            }
            if Known::of(option).is_some_and(Known::must_travel) {
                return Err(HeadError::ConnectionNamesFraming);
            }
            for (line, header) in self.lines.iter_mut().zip(headers) {
                if line.fate == Fate::EndToEnd && same_name(header.name, option) {
                    line.fate = Fate::Dropped;
                }
            }
        }
        Ok(())
    }

    /// Takes the bytes that the places are in.
    pub(super) fn own(self, bytes: Bytes) -> Fields {
        Fields {
            bytes,
            lines: self.lines,
            renewed: self.renewed,
        }
    }

    /// Forgets a wish to upgrade that is not granted.
    pub(super) fn drop_upgrade(&mut self) {
        self.renewed.upgrade = false;
    }
}

impl<'a> Facts<'a> {
    /// Takes note of a known header and tells what becomes of its line. `is_plain`: whether its
    /// value has no unusual white space around it.
    fn note(
        &mut self,
        known: Known,
        header: &httparse::Header<'a>,
        is_plain: impl FnOnce() -> bool,
    ) -> Result<Fate, HeadError> {
        if known.decides_framing() {
            // Only an underscore makes a known name differ from its own spelling by more than case.
            if header.name.contains('_') {
                return Err(HeadError::ImitatedName);
            }
            if !is_plain() {
                return Err(HeadError::PaddedValue);
            }
        }
        let value = header.value;
        let before = match known {
            Known::Host if self.host.is_some() => return Err(HeadError::HostRepeated),
            Known::ContentLength if self.content_length.is_some() => {
                return Err(HeadError::LengthRepeated);
            }
            Known::TransferEncoding if self.transfer_encoding.is_some() => {
                return Err(HeadError::TransferEncodingRepeated);
            }
            Known::Host => &mut self.host,
            Known::ContentLength => &mut self.content_length,
            Known::TransferEncoding => &mut self.transfer_encoding,
            Known::Expect => {
                if self.expect.is_some() {
                    return Err(HeadError::Expectation);
                }
                &mut self.expect
            }
            Known::Upgrade => {
                // A second line makes a list, from which nothing is chosen here.
                self.upgrade = if self.upgrade.is_none() {
                    Some(value)
                } else {
                    Some(b"")
                };
                return Ok(Fate::Renewed);
            }
            Known::Te if value.eq_ignore_ascii_case(b"trailers") => {
                self.te_trailers = true;
                return Ok(Fate::Renewed);
            }
            Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::Te => {
                return Ok(Fate::Dropped);
            }
        };
        *before = Some(value);
        Ok(Fate::EndToEnd)
    }

    /// Reads the options of a Connection header; `true`: some of them name other headers.
    fn has_nominations(&mut self, value: &[u8]) -> Result<bool, HeadError> {
        let mut nominations = false;
        for option in options(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.connection_upgrade = true;
            } else if option.eq_ignore_ascii_case(b"te") {
                self.connection_te = true;
            } else if !is_token(option) {
                return Err(HeadError::ConnectionOption);
            } else if !option.eq_ignore_ascii_case(b"keep-alive") {
                nominations = true;
            }
        }
        Ok(nominations)
    }
}

/// The members of a comma-separated list, without white space and empty members (RFC 9110 §5.6.1).
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

impl Line {
    /// The places of `header`, which is part of `head`.
    fn of(head: &[u8], header: &httparse::Header<'_>) -> Result<Self, HeadError> {
        let name = offset(head, header.name.as_bytes())?;
        let value = offset(head, header.value)?;
        let end = |start: u32, length: usize| {
            u32::try_from(length)
                .ok()
                .and_then(|length| start.checked_add(length))
                .ok_or(HeadError::TooLarge)
        };
        Ok(Self {
            name,
            name_end: end(name, header.name.len())?,
            value,
            value_end: end(value, header.value.len())?,
            fate: Fate::EndToEnd,
        })
    }

    /// Whether the line is `name ":" [SP] value CRLF`, with no other white space: a parser that
    /// does not trim as this one does would read another value.
    fn is_plain(self, head: &[u8]) -> bool {
        let between = slice(head, self.name_end, self.value);
        matches!(between, b":" | b": ")
            && head
                .get(self.value_end as usize..)
                .is_some_and(|rest| rest.starts_with(b"\r\n"))
    }
}

/// The offset of `part` in `whole`, of which it is a part.
fn offset(whole: &[u8], part: &[u8]) -> Result<u32, HeadError> {
    let distance = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    u32::try_from(distance).map_err(|_| HeadError::TooLarge)
}

fn slice(bytes: &[u8], start: u32, end: u32) -> &[u8] {
    bytes.get(start as usize..end as usize).unwrap_or_default()
}

impl Fields {
    /// The whole head as it was read, with its empty line.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes from `start` to `end`, which are known to be ASCII.
    pub(super) fn text(&self, start: u32, end: u32) -> &str {
        str::from_utf8(slice(&self.bytes, start, end)).unwrap_or_default()
    }

    /// The headers that travel with the message.
    pub(super) fn iter(&self) -> Headers<'_> {
        Headers {
            fields: self,
            lines: self.lines.iter(),
        }
    }

    /// The value of the only header called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.lines
            .iter()
            .filter(|line| line.fate == Fate::EndToEnd)
            .find(|line| {
                slice(&self.bytes, line.name, line.name_end).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(|line| slice(&self.bytes, line.value, line.value_end))
    }

    /// Writes the head again: start line and the lines that travel on byte for byte, what is
    /// renewed for the next connection, what is added, and the empty line.
    pub(super) fn write_to(&self, out: &mut BytesMut, edits: &HeaderEdits<'_>) {
        self.write_from(0, out, edits);
    }

    /// The same without the start line, in whose place the caller has written another.
    pub(super) fn write_lines_to(&self, out: &mut BytesMut, edits: &HeaderEdits<'_>) {
        let start = self.lines.first().map_or(self.end(), |line| line.name);
        self.write_from(start, out, edits);
    }

    fn write_from(&self, start: u32, out: &mut BytesMut, edits: &HeaderEdits<'_>) {
        out.reserve(
            self.bytes
                .len()
                .saturating_add(edits.added_bytes())
                .saturating_add(64),
        );
        // Lines that stay are copied in runs: with nothing to remove, the head is one copy.
        let mut run = start;
        for (index, line) in self.lines.iter().enumerate() {
            if self.stays(line, edits) {
                continue;
            }
            out.extend_from_slice(slice(&self.bytes, run, line.name));
            run = match self.lines.get(index.saturating_add(1)) {
                Some(next) => next.name,
                None => self.end(),
            };
        }
        out.extend_from_slice(slice(&self.bytes, run, self.end()));
        self.write_connection(out, edits.close);
        out.extend_from_slice(edits.added_lines());
        out.extend_from_slice(b"\r\n");
    }

    fn stays(&self, line: &Line, edits: &HeaderEdits<'_>) -> bool {
        match line.fate {
            Fate::Dropped => false,
            Fate::EndToEnd => !edits.removes(slice(&self.bytes, line.name, line.name_end)),
            Fate::Renewed => match line.name_end.saturating_sub(line.name) {
                2 => self.renewed.te,
                _ => self.renewed.upgrade,
            },
        }
    }

    /// A Connection header for the next hop, if it needs one.
    fn write_connection(&self, out: &mut BytesMut, close: bool) {
        let options = [
            (close, &b"close"[..]),
            (self.renewed.upgrade, b"upgrade"),
            (self.renewed.te, b"te"),
        ];
        let mut lead: &[u8] = b"connection: ";
        for (_, option) in options.iter().filter(|(wanted, _)| *wanted) {
            out.extend_from_slice(lead);
            out.extend_from_slice(option);
            lead = b", ";
        }
        if lead == b", " {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Where the empty line is. Heads end with it, and are no longer than 32 bits can tell.
    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len().saturating_sub(2)).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Fields {
    /// Names only: values may be credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

/// The headers of a head that travel with the message, in their order.
///
/// Headers of the connection itself (RFC 9110 §7.6.1: `Connection`, all that it names, and their
/// kind) are not among them, as they are not passed on either: what is judged is what arrives.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    fields: &'a Fields,
    lines: std::slice::Iter<'a, Line>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.find(|line| line.fate == Fate::EndToEnd)?;
        Some((
            self.fields.text(line.name, line.name_end),
            slice(&self.fields.bytes, line.value, line.value_end),
        ))
    }
}
