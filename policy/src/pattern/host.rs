//! Hosts of requests.

use std::fmt;
use std::str::FromStr;

/// A host, exactly, or `*.suffix`: every host that ends in `.suffix`. Case does not count
/// (RFC 9110 §4.2.3), nor does a port, nor a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    /// In lower case; with its leading dot if it is a suffix.
    text: Box<str>,
    suffix: bool,
}

/// Why a text is not a [`HostPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternError {
    /// Ports are matched by `ports`.
    #[error("a host is written without a port: use `ports`")]
    Port,
    /// A star stands for whole labels, at the start.
    #[error("a `*` may only stand at the start, as in *.example.com")]
    Star,
    /// Not a host name.
    #[error("it is not a host name")]
    Name,
}

impl HostPattern {
    /// The host in lower case, or the end of it with its leading dot, and whether it is an end.
    pub(crate) fn text(&self) -> (&str, bool) {
        (&self.text, self.suffix)
    }

    /// Whether `host`, as [`normal_host`] returns it, is accepted.
    pub(crate) fn matches(&self, host: &str) -> bool {
        if !self.suffix {
            return host.eq_ignore_ascii_case(&self.text);
        }
        // Something must stand before the dot: `.example.com` is no host of example.com.
        host.len() > self.text.len()
            && host
                .len()
                .checked_sub(self.text.len())
                .and_then(|start| host.get(start..))
                .is_some_and(|end| end.eq_ignore_ascii_case(&self.text))
    }
}

/// The host of a `Host` or `:authority` value (RFC 9110 §7.2): without port and final dot, in its
/// own case. `None` if it is not a host: then nobody can say which one is meant.
pub(crate) fn normal_host(authority: &str) -> Option<&str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if after.is_empty() {
            None
        } else {
            Some(after.strip_prefix(':')?)
        };
        (address, port)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    (!host.is_empty() && host.bytes().all(allowed)).then_some(host)
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let lower = text.to_ascii_lowercase();
        let (name, suffix) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (lower.as_str(), false),
        };
        if name.contains('*') {
            return Err(HostPatternError::Star);
        }
        let address = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let name = match address {
            Some(address) if !suffix && address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            _ if name.contains(':') => return Err(HostPatternError::Port),
            _ => name,
        };
        if address.is_none() && normal_host(name) != Some(name) {
            return Err(HostPatternError::Name);
        }
        let text = if suffix {
            format!(".{name}")
        } else {
            name.to_owned()
        };
        Ok(Self {
            text: text.into(),
            suffix,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.suffix, self.text.contains(':')) {
            (true, _) => write!(f, "*{}", self.text),
            (false, true) => write!(f, "[{}]", self.text),
            (false, false) => f.write_str(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, authority: &str) -> bool {
        let pattern: HostPattern = pattern.parse().unwrap();
        assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
        normal_host(authority).is_some_and(|host| pattern.matches(host))
    }

    #[test]
    fn hosts_match_exactly_or_by_suffix() {
        assert!(matches("orders.shop", "orders.shop"));
        assert!(matches("Orders.Shop", "ORDERS.shop:8080"));
        assert!(matches("orders.shop", "orders.shop.:80"));
        assert!(!matches("orders.shop", "xorders.shop"));
        assert!(matches("*.shop", "a.b.shop"));
        assert!(!matches("*.shop", "shop"));
        assert!(!matches("*.shop", ".shop"));
        assert!(!matches("*.shop", "eshop"));
        assert!(matches("[::1]", "[::1]:8080"));
        assert!(matches("127.0.0.1", "127.0.0.1:80"));
    }

    #[test]
    fn what_is_not_a_host_is_none() {
        for wrong in [
            "",
            ".",
            ":80",
            "a:b",
            "user@shop",
            "a b",
            "[::1",
            "[::1]x",
            "[x]",
            "shop/x",
        ] {
            assert_eq!(normal_host(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        assert_eq!(
            "shop:80".parse::<HostPattern>(),
            Err(HostPatternError::Port)
        );
        assert_eq!(
            "a*.shop".parse::<HostPattern>(),
            Err(HostPatternError::Star)
        );
        assert_eq!("*".parse::<HostPattern>(), Err(HostPatternError::Star));
        assert_eq!("shop/x".parse::<HostPattern>(), Err(HostPatternError::Name));
    }
}
