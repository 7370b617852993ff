//! How long a body is (RFC 9112 §6).
//!
//! RFC 9112 §6.3 orders the rules by precedence, for recipients that must make sense of a message
//! with contradictory fields. Here such a message is refused, so that no order is left to differ in.

use super::{error::HeadError, fields::Facts};

/// The version that a message claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunks, no persistent connections here.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// As `httparse` tells the minor version, which it only does for 0 and 1.
    pub(super) fn from_minor(minor: Option<u8>) -> Self {
        if minor == Some(1) {
            Self::Http11
        } else {
            Self::Http10
        }
    }

    /// As it is written in a start line (RFC 9112 §2.3).
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// Where the body of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, the last of size zero, and trailers.
    Chunked,
    /// The body lasts until the connection ends; responses only.
    UntilClose,
}

impl Framing {
    /// The framing of a request body.
    pub(super) fn of_request(version: Version, facts: &Facts<'_>) -> Result<Self, HeadError> {
        Ok(Self::announced(version, facts)?.unwrap_or(Self::None))
    }

    /// The framing of the body of a response with `status`, to a request that was `HEAD` or not.
    pub(super) fn of_response(
        version: Version,
        status: u16,
        to_head: bool,
        facts: &Facts<'_>,
    ) -> Result<Self, HeadError> {
        let announced = Self::announced(version, facts)?;
        // RFC 9110 §8.6, RFC 9112 §6.1: neither field is allowed in these; `Content-Length: 0` is
        // sent by many and harms nobody.
        if matches!(status, 100..=199 | 204) {
            return match announced {
                None | Some(Self::Length(0)) => Ok(Self::None),
                Some(_) => Err(HeadError::BodyNotAllowed),
            };
        }
        if to_head || status == 304 {
            return Ok(Self::None);
        }
        Ok(announced.unwrap_or(Self::UntilClose))
    }

    /// What the fields announce, if anything.
    fn announced(version: Version, facts: &Facts<'_>) -> Result<Option<Self>, HeadError> {
        match (facts.content_length, facts.transfer_encoding) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(HeadError::LengthAndTransferEncoding),
            (Some(digits), None) => parse_length(digits).map(|length| Some(Self::Length(length))),
            (None, Some(_)) if version == Version::Http10 => {
                Err(HeadError::TransferEncodingInHttp10)
            }
            // Names of codings have no case (RFC 9112 §7), but not every recipient knows; a 501
            // is a permitted answer to a coding that is not understood (§6.1).
            (None, Some(b"chunked")) => Ok(Some(Self::Chunked)),
            (None, Some(_)) => Err(HeadError::TransferEncodingUnsupported),
        }
    }
}

/// `Content-Length = 1*DIGIT` (RFC 9110 §8.6); no sign, no list, nothing that wraps around.
fn parse_length(digits: &[u8]) -> Result<u64, HeadError> {
    if digits.is_empty() {
        return Err(HeadError::LengthInvalid);
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::LengthInvalid);
    }
    digits
        .iter()
        .try_fold(0_u64, |length, digit| {
            length
                .checked_mul(10)?
                .checked_add(u64::from(digit.wrapping_sub(b'0')))
        })
        .ok_or(HeadError::LengthTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_within_64_bits() {
        assert_eq!(parse_length(b"0"), Ok(0));
        assert_eq!(parse_length(b"0042"), Ok(42));
        assert_eq!(parse_length(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(
            parse_length(b"18446744073709551616"),
            Err(HeadError::LengthTooLarge)
        );
        for invalid in [
            &b""[..],
            b"+1",
            b"-1",
            b"1 ",
            b"1,1",
            b"0x1",
            b"1e3",
            "१".as_bytes(),
        ] {
            assert_eq!(
                parse_length(invalid),
                Err(HeadError::LengthInvalid),
                "{invalid:?}"
            );
        }
    }
}
