//! What is removed from a head and added to it on its way.

use thiserror::Error;

use super::name::{Known, is_name, is_token, is_value_byte, starts_with_name};

/// How a head is changed when it is passed on, besides the headers of the connection, which
/// always end here (RFC 9110 §7.6.1).
#[derive(Debug, Default, Clone, Copy)]
pub struct HeaderEdits<'a> {
    /// Headers to remove, compared as by [`same_name`](super::same_name).
    pub remove: &'a [&'a str],
    /// Headers to remove if their names begin so, compared likewise.
    pub remove_prefixes: &'a [&'a str],
    /// Header lines to add after all others.
    pub add: Option<&'a AddedHeaders>,
    /// Tell the next hop that the connection ends with this message.
    pub close: bool,
    /// What a request asks for instead of its target: path and query, or `*` (RFC 9112 §3.2.1). Without it, the target
    /// stays as it was sent. For responses it means nothing.
    pub target: Option<&'a str>,
}

impl HeaderEdits<'_> {
    pub(super) fn removes(&self, name: &[u8]) -> bool {
        self.remove.iter().any(|removed| is_name(name, removed))
            || self
                .remove_prefixes
                .iter()
                .any(|prefix| starts_with_name(name, prefix))
    }

    pub(super) fn added_lines(&self) -> &[u8] {
        self.add.map_or(&[], |added| &added.lines)
    }

    pub(super) fn added_bytes(&self) -> usize {
        self.added_lines().len()
    }
}

/// Header lines to add to heads, checked and serialised once, so that they can be made per
/// connection and used for each message on it.
#[derive(Default, Clone, PartialEq, Eq)]
pub struct AddedHeaders {
    lines: Vec<u8>,
}

/// A header that cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[expect(
    missing_docs,
    reason = "the message of each variant says what it means"
)]
pub enum InvalidHeader {
    #[error("the name of an added header is not a token")]
    Name,
    #[error("the value of an added header contains a control byte")]
    Value,
    #[error("Connection, Content-Length, Transfer-Encoding and Host cannot be added")]
    Framing,
}

impl AddedHeaders {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header line.
    ///
    /// # Errors
    /// If the line would not be one header line, or would change the framing of the message. A
    /// value with a line end would smuggle a header of its own (RFC 9110 §5.5).
    pub fn push(&mut self, name: &str, value: &[u8]) -> Result<(), InvalidHeader> {
        if !is_token(name.as_bytes()) {
            return Err(InvalidHeader::Name);
        }
        if Known::of(name)
            .is_some_and(|known| known.decides_framing() || known == Known::Connection)
        {
            return Err(InvalidHeader::Framing);
        }
        if !value.iter().copied().all(is_value_byte) {
            return Err(InvalidHeader::Value);
        }
        for part in [name.as_bytes(), b": ", value.trim_ascii(), b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
        Ok(())
    }

    /// Appends the lines of `other`.
    pub fn append(&mut self, other: &Self) {
        self.lines.extend_from_slice(&other.lines);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Removes all lines and keeps the memory, to be filled for another message.
    pub fn clear(&mut self) {
        self.lines.clear();
    }
}

impl std::fmt::Debug for AddedHeaders {
    /// Names only: values may be credentials.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self
            .lines
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.split(|byte| *byte == b':').next())
            .filter(|name| !name.is_empty())
            .map(String::from_utf8_lossy);
        formatter.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_header_is_one_line() {
        let mut added = AddedHeaders::new();
        added
            .push("countersign-peer", b" spiffe://td/ns/a/sa/b ")
            .unwrap();
        assert_eq!(added.lines, b"countersign-peer: spiffe://td/ns/a/sa/b\r\n");
        for value in [&b"a\r\nb: c"[..], b"a\nb", b"a\rb", b"a\0b", b"a\x7f"] {
            assert_eq!(added.push("a", value), Err(InvalidHeader::Value));
        }
        for name in ["", "a b", "a:", "a\r\nb", "ä"] {
            assert_eq!(added.push(name, b"a"), Err(InvalidHeader::Name));
        }
        for name in ["Content-Length", "transfer_encoding", "HOST", "connection"] {
            assert_eq!(added.push(name, b"1"), Err(InvalidHeader::Framing));
        }
    }

    #[test]
    fn debug_shows_no_values() {
        let mut added = AddedHeaders::new();
        added.push("countersign-subject", b"secret").unwrap();
        assert_eq!(format!("{added:?}"), r#"["countersign-subject"]"#);
    }
}
