//! The little of DER (X.690) that the containers of certificates need: elements one after the other.

/// Why bytes are not the DER that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DerError {
    #[error("it ends too early")]
    Truncated,
    #[error("it has lengths of BER that DER does not allow")]
    Ber,
    #[error("expected {0}")]
    Expected(&'static str),
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const CONTEXT_0: u8 = 0x80;
pub(super) const CONSTRUCTED_0: u8 = 0xa0;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// The element with its tag and length.
    pub(super) whole: &'a [u8],
}

/// Elements, read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the element that comes next.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element, whatever it is. Tags of more than one byte are not read.
    pub(super) fn any(&mut self) -> Result<Element<'a>, DerError> {
        let (&tag, rest) = self.0.split_first().ok_or(DerError::Truncated)?;
        let (&first, rest) = rest.split_first().ok_or(DerError::Truncated)?;
        let (length, rest) = match first {
            short @ 0..=0x7f => (usize::from(short), rest),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let bytes = rest.get(..count).ok_or(DerError::Truncated)?;
                let length = bytes
                    .iter()
                    .fold(0_u64, |length, byte| (length << 8) | u64::from(*byte));
                let length = usize::try_from(length).map_err(|_| DerError::Truncated)?;
                (length, rest.get(count..).unwrap_or_default())
            }
            _ => return Err(DerError::Ber),
        };
        let content = rest.get(..length).ok_or(DerError::Truncated)?;
        let after = rest.get(length..).unwrap_or_default();
        let whole = self
            .0
            .get(..self.0.len().saturating_sub(after.len()))
            .unwrap_or_default();
        self.0 = after;
        Ok(Element {
            tag,
            content,
            whole,
        })
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], DerError> {
        if self.peek() != Some(tag) {
            return Err(DerError::Expected(what));
        }
        Ok(self.any()?.content)
    }

    /// The elements within the next one, which must be a SEQUENCE.
    pub(super) fn sequence(&mut self, what: &'static str) -> Result<Self, DerError> {
        self.expect(SEQUENCE, what).map(Elements)
    }

    /// The object identifier that comes next, as its content bytes.
    pub(super) fn oid(&mut self, what: &'static str) -> Result<&'a [u8], DerError> {
        self.expect(OID, what)
    }

    /// A number that is not negative.
    pub(super) fn number(&mut self, what: &'static str) -> Result<u64, DerError> {
        let content = self.expect(INTEGER, what)?;
        let digits = content.strip_prefix(&[0]).unwrap_or(content);
        let negative = content.first().is_some_and(|first| *first >= 0x80);
        if negative || digits.len() > 8 {
            return Err(DerError::Expected(what));
        }
        Ok(digits
            .iter()
            .fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_are_read_one_after_the_other() {
        let bytes = [0x30, 0x03, 0x02, 0x01, 0x05, 0x04, 0x81, 0x01, 0xff];
        let mut elements = Elements::of(&bytes);
        let mut inner = elements.sequence("a sequence").unwrap();
        assert_eq!(inner.number("a number"), Ok(5));
        assert!(inner.is_empty());
        let last = elements.any().unwrap();
        assert_eq!((last.tag, last.content), (OCTET_STRING, &[0xff][..]));
        assert_eq!(last.whole, &bytes[5..]);
        assert_eq!(elements.any(), Err(DerError::Truncated));
    }

    #[test]
    fn what_is_no_der_is_told_apart() {
        assert_eq!(
            Elements::of(&[0x30, 0x05, 0]).any(),
            Err(DerError::Truncated)
        );
        assert_eq!(Elements::of(&[0x30, 0x80, 0, 0]).any(), Err(DerError::Ber));
        assert_eq!(
            Elements::of(&[0x02, 0x01, 0xff]).number("a count"),
            Err(DerError::Expected("a count"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut elements = Elements::of(&bytes);
            while let Ok(element) = elements.any() {
                prop_assert!(element.whole.ends_with(element.content));
            }
        }
    }
}
