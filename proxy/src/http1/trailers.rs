//! Trailer sections (RFC 9110 §6.5).

use super::{
    diagnose,
    error::{BodySyntaxError, HeadError},
    limits::Limits,
    name::{same_name, starts_with_name},
};

/// Names that mean something in a header section only: framing, routing, authentication, request
/// modifiers, response control and how to read the content (RFC 9110 §6.5.1). Recipients that merge
/// trailers into headers would take them for what was judged.
const FORBIDDEN: [&str; 43] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "txn-token",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-http-method-override",
    "x-original-url",
    "x-real-ip",
];

/// Beginnings of names that state facts about the call.
const FORBIDDEN_PREFIXES: [&str; 3] = ["countersign-", "x-forwarded-", "sec-"];

/// Checks a complete trailer section, with its empty line, whose lines are known to end in CR LF.
pub(super) fn check(section: &[u8], limits: &Limits) -> Result<(), BodySyntaxError> {
    if section == b"\r\n" {
        return Ok(());
    }
    let mut space = [httparse::EMPTY_HEADER; Limits::MAX_HEADERS];
    let space = space
        .get_mut(..limits.headers.min(Limits::MAX_HEADERS))
        .unwrap_or_default();
    let trailers = match httparse::parse_headers(section, space) {
        Ok(httparse::Status::Complete((_, trailers))) => trailers,
        Ok(httparse::Status::Partial) => {
            return Err(BodySyntaxError::Trailers(HeadError::FieldName));
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Err(BodySyntaxError::Trailers(HeadError::TooManyFields));
        }
        Err(_) => return Err(BodySyntaxError::Trailers(diagnose::fields(section))),
    };
    if trailers.iter().any(|trailer| is_forbidden(trailer.name)) {
        return Err(BodySyntaxError::TrailerForbidden);
    }
    Ok(())
}

fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.iter().any(|forbidden| same_name(name, forbidden))
        || FORBIDDEN_PREFIXES
            .iter()
            .any(|prefix| starts_with_name(name.as_bytes(), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_checked_like_headers() {
        let limits = Limits {
            headers: 2,
            ..Limits::default()
        };
        let check = |section: &str| check(section.as_bytes(), &limits);
        assert_eq!(check("\r\n"), Ok(()));
        assert_eq!(check("grpc-status: 0\r\ndigest: x\r\n\r\n"), Ok(()));
        for (section, error) in [
            ("a : b\r\n\r\n", HeadError::SpaceBeforeColon),
            (" a: b\r\n\r\n", HeadError::ObsoleteFolding),
            ("a: b\rc\r\n\r\n", HeadError::BareCarriageReturn),
            ("a: \0\r\n\r\n", HeadError::FieldValue),
            ("a\r\n\r\n", HeadError::FieldName),
            ("a: 1\r\nb: 2\r\nc: 3\r\n\r\n", HeadError::TooManyFields),
        ] {
            assert_eq!(
                check(section),
                Err(BodySyntaxError::Trailers(error)),
                "{section:?}"
            );
        }
    }

    #[test]
    fn names_that_only_headers_may_have_are_refused() {
        for name in [
            "Host",
            "content-length",
            "TRANSFER_ENCODING",
            "Authorization",
            "cookie",
            "countersign-peer",
            "Countersign_Subject",
            "x-forwarded-client-cert",
            "sec-fetch-mode",
        ] {
            let section = format!("a: b\r\n{name}: x\r\n\r\n");
            let refused = check(section.as_bytes(), &Limits::default());
            assert_eq!(refused, Err(BodySyntaxError::TrailerForbidden), "{name}");
        }
    }
}
