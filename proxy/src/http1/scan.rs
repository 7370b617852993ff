//! Finding the end of a head while it arrives.
//!
//! Each byte is looked at once, however the head is cut into reads, so that a sender who drips
//! costs no more than one who does not.

use memchr::memchr;

use super::error::HeadError;

/// How far the search has come.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Scan {
    /// Bytes that hold no unseen line end.
    seen: usize,
    /// Where the current line begins.
    line: usize,
}

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    /// The section goes on.
    Partial,
    /// The section ends, with its empty line, after so many bytes; no line but the empty one
    /// means 2.
    Complete(usize),
}

impl Scan {
    /// Looks at what is new in `section`, which always begins at the same byte.
    ///
    /// # Errors
    /// [`HeadError::BareLineFeed`], and [`HeadError::TooLarge`] or [`HeadError::TargetTooLong`]
    /// if the end is not within the first `limit` bytes.
    pub(super) fn advance(&mut self, section: &[u8], limit: usize) -> Result<Scanned, HeadError> {
        let allowed = section.get(..limit).unwrap_or(section);
        while let Some(offset) = allowed.get(self.seen..).and_then(|new| memchr(b'\n', new)) {
            let end = self.seen.saturating_add(offset);
            let line = allowed.get(self.line..end).unwrap_or_default();
            if line.last() != Some(&b'\r') {
                return Err(HeadError::BareLineFeed);
            }
            self.seen = end.saturating_add(1);
            self.line = self.seen;
            if line.len() == 1 {
                return Ok(Scanned::Complete(self.seen));
            }
        }
        self.seen = allowed.len();
        if section.len() < limit {
            Ok(Scanned::Partial)
        } else if self.line == 0 {
            Err(HeadError::TargetTooLong)
        } else {
            Err(HeadError::TooLarge)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(section: &[u8], limit: usize) -> Result<Scanned, HeadError> {
        Scan::default().advance(section, limit)
    }

    #[test]
    fn a_section_ends_with_its_empty_line() {
        assert_eq!(whole(b"a\r\nb\r\n\r\nrest\n", 64), Ok(Scanned::Complete(8)));
        assert_eq!(whole(b"\r\n", 64), Ok(Scanned::Complete(2)));
        assert_eq!(whole(b"a\r\nb\r\n\r", 64), Ok(Scanned::Partial));
        assert_eq!(whole(b"", 64), Ok(Scanned::Partial));
    }

    #[test]
    fn every_line_end_needs_its_carriage_return() {
        for section in [&b"a\nb\r\n\r\n"[..], b"a\r\n\n", b"\n", b"a\r\n\n\r\n"] {
            assert_eq!(
                whole(section, 64),
                Err(HeadError::BareLineFeed),
                "{section:?}"
            );
        }
    }

    #[test]
    fn the_limit_is_exact_and_tells_line_from_section() {
        assert_eq!(whole(b"a\r\nb\r\n\r\n", 8), Ok(Scanned::Complete(8)));
        assert_eq!(whole(b"a\r\nb\r\n\r\n", 7), Err(HeadError::TooLarge));
        assert_eq!(whole(b"aaaaaaaa", 8), Err(HeadError::TargetTooLong));
        assert_eq!(whole(b"aaaaaaa", 8), Ok(Scanned::Partial));
    }

    #[test]
    fn the_answer_does_not_depend_on_how_the_bytes_arrive() {
        for section in [
            &b"a\r\nbc: d\r\n\r\nx"[..],
            b"a\r\nb\n\r\n",
            b"aaaaaaaaaaaaaaaaaaaa\r\n",
        ] {
            let mut scan = Scan::default();
            let dripped = (0..=section.len())
                .map(|length| scan.advance(&section[..length], 16))
                .find(|answer| *answer != Ok(Scanned::Partial));
            assert_eq!(dripped, Some(whole(section, 16)), "{section:?}");
        }
    }
}
