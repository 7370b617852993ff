//! Request targets (RFC 9112 §3.2) and hosts (RFC 3986 §3.2.2, RFC 9110 §7.2).

use std::{net::Ipv6Addr, ops::Range};

use super::error::HeadError;

/// Where the parts of a request target are, as offsets into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Host and port of an absolute URI.
    pub(super) authority: Option<Range<usize>>,
    /// Path and query; empty for an absolute URI without either, which means `/`.
    pub(super) path_and_query: Range<usize>,
}

impl Target {
    /// Takes a target apart.
    pub(super) fn parse(method: &str, target: &str) -> Result<Self, HeadError> {
        if method == "CONNECT" {
            return Err(HeadError::Connect);
        }
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HeadError::TargetByte);
        }
        if target.contains('#') {
            return Err(HeadError::TargetFragment);
        }
        if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
            return Ok(Self {
                authority: None,
                path_and_query: 0..target.len(),
            });
        }
        Self::absolute(target).ok_or(HeadError::TargetForm)?
    }

    /// `http://authority/path?query`; `None` if it is not of that form.
    fn absolute(target: &str) -> Option<Result<Self, HeadError>> {
        let (scheme, rest) = target.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let start = target.len().checked_sub(rest.len())?;
        let length = rest.find(['/', '?']).unwrap_or(rest.len());
        let end = start.checked_add(length)?;
        // A query right behind the authority has no path that could be judged as it stands.
        if target.get(end..)?.starts_with('?') {
            return None;
        }
        let authority = target.get(start..end)?;
        // User information in a target is a credential or a trick, and never needed (RFC 9110 §4.2.4).
        if authority.contains('@') {
            return None;
        }
        Some(check_host(authority.as_bytes()).map(|()| Self {
            authority: Some(start..end),
            path_and_query: end..target.len(),
        }))
    }
}

/// Checks `uri-host [ ":" port ]`, stricter than the grammar: a DNS name, an IPv4 address or a
/// bracketed IPv6 address, without percent-encoding, and a port within 16 bits.
///
/// What the grammar would allow besides (`a,b`, `a;b`, `%2e`) serves only to be understood
/// differently by the next reader.
pub(super) fn check_host(host: &[u8]) -> Result<(), HeadError> {
    is_host(host).then_some(()).ok_or(HeadError::HostInvalid)
}

fn is_host(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else {
        return false;
    };
    let (name_is_valid, port) = if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        (!name.is_empty() && name.bytes().all(is_name_byte), port)
    };
    name_is_valid && (port.is_empty() || is_port(port))
}

/// `":" 1*5DIGIT`, within 16 bits.
fn is_port(port: &str) -> bool {
    port.strip_prefix(':').is_some_and(|digits| {
        digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.len() <= 5
            && digits.parse::<u16>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(method: &str, target: &'a str) -> Result<(Option<&'a str>, &'a str), HeadError> {
        Target::parse(method, target).map(|parts| {
            (
                parts.authority.map(|range| &target[range]),
                &target[parts.path_and_query],
            )
        })
    }

    #[test]
    fn targets_come_in_three_forms() {
        assert_eq!(parts("GET", "/a?b=//c"), Ok((None, "/a?b=//c")));
        assert_eq!(parts("GET", "//a"), Ok((None, "//a")));
        assert_eq!(parts("OPTIONS", "*"), Ok((None, "*")));
        assert_eq!(parts("GET", "http://h:1/a?b"), Ok((Some("h:1"), "/a?b")));
        assert_eq!(parts("GET", "HTTPS://[::1]"), Ok((Some("[::1]"), "")));
    }

    #[test]
    fn other_targets_are_refused() {
        for (method, target, error) in [
            ("GET", "*", HeadError::TargetForm),
            ("OPTIONS", "**", HeadError::TargetForm),
            ("GET", "a", HeadError::TargetForm),
            ("GET", "h:80", HeadError::TargetForm),
            ("GET", "ftp://h/", HeadError::TargetForm),
            ("GET", "://h/", HeadError::TargetForm),
            ("GET", "http:/h/", HeadError::TargetForm),
            ("GET", "http://u:p@h/", HeadError::TargetForm),
            ("GET", "http://h?q", HeadError::TargetForm),
            ("GET", "http:///p", HeadError::HostInvalid),
            ("GET", "http://h:99999/p", HeadError::HostInvalid),
            ("GET", "/a#b", HeadError::TargetFragment),
            ("GET", "/ä", HeadError::TargetByte),
            ("GET", "/a\u{7f}", HeadError::TargetByte),
            ("GET", "/a\tb", HeadError::TargetByte),
            ("CONNECT", "h:443", HeadError::Connect),
        ] {
            assert_eq!(parts(method, target), Err(error), "{method} {target}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for host in [
            "a",
            "orders.shop",
            "orders.shop:8080",
            "127.0.0.1:1",
            "[::1]",
            "[fe80::1]:80",
            "under_score",
            "a:0",
            "a:65535",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "a:",
            "a:65536",
            "a:+1",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[a]",
            "[]",
            "[fe80::1%eth0]",
            "a,b",
            "a b",
            "a/b",
            "a@b",
            "a%2eb",
            "ä",
            "a:000080",
            "a;b",
            "a\\b",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
