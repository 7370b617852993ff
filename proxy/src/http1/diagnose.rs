//! Names the mistake in a head that the parser refused.
//!
//! The parser (`httparse`) says which kind of byte it stumbled over; senders want to know which rule
//! they broke. This only chooses among errors: a head that gets here is refused in any case.

use super::{error::HeadError, name::is_token};

/// The mistake in a request head.
pub(super) fn request(head: &[u8], error: Option<httparse::Error>) -> HeadError {
    start_line(head, error, request_line)
}

/// The mistake in a response head.
pub(super) fn response(head: &[u8], error: Option<httparse::Error>) -> HeadError {
    start_line(head, error, status_line)
}

fn start_line(
    head: &[u8],
    error: Option<httparse::Error>,
    in_line: fn(&[u8]) -> HeadError,
) -> HeadError {
    let (line, rest) = split_line(head);
    match error {
        Some(httparse::Error::TooManyHeaders) => HeadError::TooManyFields,
        _ if line.contains(&b'\r') => HeadError::BareCarriageReturn,
        Some(httparse::Error::HeaderName | httparse::Error::HeaderValue) => fields(rest),
        Some(httparse::Error::NewLine) => first_in_fields(rest).unwrap_or_else(|| in_line(line)),
        _ => in_line(line),
    }
}

fn request_line(line: &[u8]) -> HeadError {
    let mut parts = line.split(|byte| *byte == b' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(b""), None, ..) => HeadError::EmptyLines,
        (Some(method), Some(target), Some(version), None) if !target.is_empty() => {
            if !is_token(method) {
                HeadError::Method
            } else if !target.iter().all(u8::is_ascii_graphic) {
                HeadError::TargetByte
            } else {
                version_or(version, HeadError::RequestLine)
            }
        }
        _ => HeadError::RequestLine,
    }
}

fn status_line(line: &[u8]) -> HeadError {
    let version = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    version_or(version, HeadError::StatusLine)
}

/// A version that is one, but not ours; or else `otherwise`.
fn version_or(version: &[u8], otherwise: HeadError) -> HeadError {
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" => otherwise,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            HeadError::Version
        }
        _ => otherwise,
    }
}

/// The mistake in header lines that the parser refused, also of a trailer section.
pub(super) fn fields(lines: &[u8]) -> HeadError {
    first_in_fields(lines).unwrap_or(HeadError::FieldName)
}

fn first_in_fields(mut lines: &[u8]) -> Option<HeadError> {
    while !lines.is_empty() {
        let (line, rest) = split_line(lines);
        if let Some(error) = in_field(line) {
            return Some(error);
        }
        lines = rest;
    }
    None
}

fn in_field(line: &[u8]) -> Option<HeadError> {
    if line.contains(&b'\r') {
        return Some(HeadError::BareCarriageReturn);
    }
    if line
        .first()
        .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
    {
        return Some(HeadError::ObsoleteFolding);
    }
    if line.is_empty() {
        return None;
    }
    let mut parts = line.splitn(2, |byte| *byte == b':');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
        return Some(HeadError::FieldName);
    };
    if is_token(name) {
        let is_fine = value.iter().copied().all(super::name::is_value_byte);
        (!is_fine).then_some(HeadError::FieldValue)
    } else if is_token(name.trim_ascii_end()) {
        Some(HeadError::SpaceBeforeColon)
    } else {
        Some(HeadError::FieldName)
    }
}

/// The first line, without its CR LF, and what follows it.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let (line, rest) = bytes.split_at(end);
            (
                line.strip_suffix(b"\r").unwrap_or(line),
                rest.get(1..).unwrap_or_default(),
            )
        }
        None => (bytes, &[]),
    }
}
