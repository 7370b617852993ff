//! Where a request carries tokens, and the request without them.

use std::borrow::Cow;

use countersign_policy::document::TokenLocation;
use countersign_policy::{Headers, Request, TokenIssuer};
use percent_encoding::percent_decode_str;

const COOKIE: &str = "cookie";

/// A place in a request that has a token. Names are as the request spells them, but for the query's, which are decoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'r> {
    /// A header, and what stands before the token in it.
    Header { name: &'r str, before: &'r str },
    /// A parameter of the query.
    Parameter(&'r str),
    /// A cookie.
    Cookie(&'r str),
}

impl Place<'_> {
    /// Whether the issuer's document says that its tokens are here.
    pub(super) fn is_of(&self, issuer: &TokenIssuer) -> bool {
        issuer.from.iter().any(|location| match (self, location) {
            (
                Self::Header { name, before },
                TokenLocation::Header { name: of, prefix },
                // The scheme of `Authorization` is case-insensitive (RFC 9110 §11.1).
            ) => of.as_str().eq_ignore_ascii_case(name) && prefix.eq_ignore_ascii_case(before),
            (Self::Parameter(name), TokenLocation::Query(of)) => of == name,
            (Self::Cookie(name), TokenLocation::Cookie(of)) => of.as_str() == *name,
            _ => false,
        })
    }
}

/// Shows every token that stands where an issuer may have one: first of the headers, in their order, then of the query.
pub(super) fn each_token<'i>(
    issuers: impl Iterator<Item = &'i TokenIssuer> + Clone,
    request: &Request<'_>,
    visit: &mut dyn FnMut(Place<'_>, &str),
) {
    let locations = issuers.flat_map(|issuer| &issuer.from);
    let cookies = locations
        .clone()
        .any(|location| matches!(location, TokenLocation::Cookie(_)));
    request.headers.for_each(&mut |name, value| {
        let Ok(value) = std::str::from_utf8(value) else {
            return;
        };
        if let Some((before, token)) = token_in_header(locations.clone(), name, value) {
            visit(Place::Header { name, before }, token);
        }
        if cookies && name.eq_ignore_ascii_case(COOKIE) {
            for (name, value) in pairs(value).filter_map(cookie) {
                let place = Place::Cookie(name);
                if !value.is_empty() && names(locations.clone(), place) {
                    visit(place, value);
                }
            }
        }
    });
    if !locations
        .clone()
        .any(|location| matches!(location, TokenLocation::Query(_)))
    {
        return;
    }
    let Some((_, query)) = request.path.split_once('?') else {
        return;
    };
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
            continue;
        };
        let place = Place::Parameter(&name);
        if !value.is_empty() && names(locations.clone(), place) {
            visit(place, &value);
        }
    }
}

/// Whether one of the locations is a cookie or a parameter of this name.
fn names<'i>(mut locations: impl Iterator<Item = &'i TokenLocation>, place: Place<'_>) -> bool {
    locations.any(|location| match (location, place) {
        (TokenLocation::Query(of), Place::Parameter(name)) => of == name,
        (TokenLocation::Cookie(of), Place::Cookie(name)) => of.as_str() == name,
        _ => false,
    })
}

/// What stands before a token in a header, and the token. Of several prefixes that fit, the longest is meant.
fn token_in_header<'i, 'v>(
    locations: impl Iterator<Item = &'i TokenLocation>,
    name: &str,
    value: &'v str,
) -> Option<(&'v str, &'v str)> {
    let split = |location: &TokenLocation| {
        let TokenLocation::Header { name: of, prefix } = location else {
            return None;
        };
        if !of.as_str().eq_ignore_ascii_case(name) {
            return None;
        }
        let (before, token) = value.split_at_checked(prefix.len())?;
        before
            .eq_ignore_ascii_case(prefix)
            .then_some((before, token.trim()))
    };
    locations
        .filter_map(split)
        .max_by_key(|(before, _)| before.len())
}

/// The pairs of a `Cookie` header, without the blanks around them (RFC 6265 §4.2.1).
fn pairs(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(';')
        .map(|pair| pair.trim_matches([' ', '\t']))
        .filter(|pair| !pair.is_empty())
}

/// Name and value of a cookie, which may be quoted (RFC 6265 §4.1.1).
fn cookie(pair: &str) -> Option<(&str, &str)> {
    let (name, value) = pair.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let unquoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    Some((name, unquoted.unwrap_or(value)))
}

/// A part of a query, decoded once; `None` if that is no text.
fn decoded(part: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(part).decode_utf8().ok()
}

/// The cookies that are not called `removed`, as the value of one header (RFC 9113 §8.2.3): each as it was sent. `None` if
/// none is left.
pub(super) fn other_cookies(headers: &dyn Headers, removed: &[String]) -> Option<Vec<u8>> {
    let mut others = Vec::new();
    headers.for_each(&mut |name, value| {
        if !name.eq_ignore_ascii_case(COOKIE) {
            return;
        }
        let sent = value
            .split(|byte| *byte == b';')
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !pair.is_empty());
        for pair in sent {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            let is_removed = |removed: &String| removed.as_bytes() == name.trim_ascii();
            if removed.iter().any(is_removed) {
                continue;
            }
            if !others.is_empty() {
                others.extend_from_slice(b"; ");
            }
            others.extend_from_slice(pair);
        }
    });
    (!others.is_empty()).then_some(others)
}

/// A path with the query's parameters that are not called `removed`: each as it was sent.
pub(super) fn without_parameters(path: &str, removed: &[String]) -> String {
    let Some((path, query)) = path.split_once('?') else {
        return path.to_owned();
    };
    let stays = |part: &&str| {
        let name = part.split('=').next().unwrap_or_default();
        !decoded(name).is_some_and(|name| removed.iter().any(|removed| *removed == name))
    };
    let mut kept = path.to_owned();
    let mut lead = '?';
    for part in query.split('&').filter(stays) {
        kept.push(lead);
        kept.push_str(part);
        lead = '&';
    }
    kept
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};
    use proptest::prelude::*;

    use super::*;

    fn removed(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_the_named_parameters_are_removed() {
        for (path, expected) in [
            ("/a?token=1", "/a"),
            ("/a?token", "/a"),
            ("/a?b=%2e&token=1&c==&&", "/a?b=%2e&c==&&"),
            ("/a?tok%65n=1&Token=2&token=3&b", "/a?Token=2&b"),
            ("/a?tokens=1&x=token", "/a?tokens=1&x=token"),
            ("/token=1", "/token=1"),
            ("/a?b?token=1", "/a?b?token=1"),
            ("/a?", "/a?"),
        ] {
            assert_eq!(without_parameters(path, &removed(&["token"])), expected);
        }
    }

    #[test]
    fn only_the_named_cookies_are_removed() {
        let mut headers = HeaderMap::new();
        for value in [
            &b"a=1; session=x;b=\"2\" ;  c"[..],
            b"session = y ; Session=z",
            b"d=\xff",
        ] {
            headers.append(header::COOKIE, HeaderValue::from_bytes(value).unwrap());
        }
        let others = other_cookies(&headers, &removed(&["session"])).unwrap();
        assert_eq!(others, b"a=1; b=\"2\"; c; Session=z; d=\xff");
        headers.clear();
        headers.append(header::COOKIE, HeaderValue::from_static("session=1;"));
        assert_eq!(other_cookies(&headers, &removed(&["session"])), None);
    }

    #[test]
    fn cookies_are_read_as_the_standard_has_them() {
        let found: Vec<_> = pairs(" a=1;b = \"2\";c=\"; d;; e==f=\t")
            .filter_map(cookie)
            .collect();
        assert_eq!(found, [("a", "1"), ("b", "2"), ("c", "\""), ("e", "=f=")]);
    }

    proptest! {
        #[test]
        fn a_removed_parameter_leaves_nothing_and_takes_nothing_along(
            query in "([a-c]|%6[1-3]|=|&|%|\\?){0,12}",
            name in "[a-c]",
        ) {
            let sent = format!("/p?{query}");
            let kept = without_parameters(&sent, std::slice::from_ref(&name));
            let parts = |path: &str| -> Vec<String> {
                let query = path.split_once('?').map(|(_, query)| query.to_owned());
                query.into_iter().flat_map(|query| query.split('&').map(str::to_owned).collect::<Vec<_>>()).collect()
            };
            let is_named = |part: &String| {
                let written = part.split('=').next().unwrap();
                written.replace("%61", "a").replace("%62", "b").replace("%63", "c") == name
            };
            let expected: Vec<_> = parts(&sent).into_iter().filter(|part| !is_named(part)).collect();
            prop_assert_eq!(parts(&kept), expected);
        }
    }
}
