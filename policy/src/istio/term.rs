//! What a rule of Istio asks for, one attribute at a time.

use crate::pattern::{Cidr, HeaderName, Name, TextPattern};

use super::path::PathTest;

/// One attribute and the values that it may have and may not have. It holds if the attribute has one of the first,
/// if there are any, and none of the second.
#[derive(Clone, Debug)]
pub(super) struct Values<T> {
    pub(super) any_of: Vec<T>,
    pub(super) none_of: Vec<T>,
}

impl<T> Values<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }
}

/// An attribute with its values. All terms of a source, of an operation and of `when` have to hold.
#[derive(Clone, Debug)]
pub(super) enum Term {
    /// The peer's SPIFFE ID, without `spiffe://`.
    Principal(Values<TextPattern>),
    /// The peer's namespace, in whichever trust domain.
    Namespace(Values<TextPattern>),
    /// The peer's namespace and service account, in whichever trust domain.
    ServiceAccount(Values<Account>),
    /// The peer's trust domain.
    TrustDomain(Values<TextPattern>),
    /// The address that the connection comes from.
    SourceIp(Values<Cidr>),
    /// The address that the peer says it forwards for.
    RemoteIp(Values<Cidr>),
    /// Issuer and subject of the token, `issuer/subject`.
    RequestPrincipal(Values<TextPattern>),
    /// A claim of the token, by the names on the way to it.
    Claim(Vec<String>, Values<TextPattern>),
    /// The host as it was sent, with its port, in lower case.
    Host(Values<TextPattern>),
    /// The called port.
    Port(Values<u16>),
    /// The method.
    Method(Values<TextPattern>),
    /// The path, without the query.
    Path(Values<PathTest>),
    /// A header.
    Header(HeaderName, Values<TextPattern>),
    /// The called address.
    DestinationIp(Values<Cidr>),
    /// The server name that a TLS client asks for.
    Sni(Values<TextPattern>),
}

impl Term {
    /// Whether it asks for nothing.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Principal(values)
            | Self::Namespace(values)
            | Self::TrustDomain(values)
            | Self::RequestPrincipal(values)
            | Self::Claim(_, values)
            | Self::Host(values)
            | Self::Method(values)
            | Self::Header(_, values)
            | Self::Sni(values) => values.is_empty(),
            Self::ServiceAccount(values) => values.is_empty(),
            Self::SourceIp(values) | Self::RemoteIp(values) | Self::DestinationIp(values) => {
                values.is_empty()
            }
            Self::Port(values) => values.is_empty(),
            Self::Path(values) => values.is_empty(),
        }
    }

    /// Whether only an HTTP request can answer. On an opaque connection, such a term keeps an ALLOW rule from
    /// matching, and is left out of a DENY or AUDIT rule.
    pub(super) fn is_http(&self) -> bool {
        match self {
            Self::RequestPrincipal(_)
            | Self::Claim(..)
            | Self::Host(_)
            | Self::Method(_)
            | Self::Path(_)
            | Self::Header(..) => true,
            Self::Principal(_)
            | Self::Namespace(_)
            | Self::ServiceAccount(_)
            | Self::TrustDomain(_)
            | Self::SourceIp(_)
            | Self::RemoteIp(_)
            | Self::Port(_)
            | Self::DestinationIp(_)
            | Self::Sni(_) => false,
        }
    }

    /// Whether it is about who calls, rather than about what is called.
    pub(super) fn is_about_the_caller(&self) -> bool {
        match self {
            Self::Principal(_)
            | Self::Namespace(_)
            | Self::ServiceAccount(_)
            | Self::TrustDomain(_)
            | Self::SourceIp(_)
            | Self::RemoteIp(_)
            | Self::RequestPrincipal(_)
            | Self::Claim(..) => true,
            Self::Host(_)
            | Self::Port(_)
            | Self::Method(_)
            | Self::Path(_)
            | Self::Header(..)
            | Self::DestinationIp(_)
            | Self::Sni(_) => false,
        }
    }
}

/// `namespace/service-account`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) namespace: Name,
    pub(super) service_account: Name,
}

/// A range or an address; Istio takes bits behind the prefix for zero.
pub(super) fn cidr(text: &str) -> Result<Cidr, crate::pattern::CidrError> {
    match text.parse() {
        Err(crate::pattern::CidrError::HostBits(range)) => Ok(range),
        other => other,
    }
}

/// A port as Istio writes it, in a string.
pub(super) fn port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
        .filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_behind_a_prefix_do_not_count() {
        assert_eq!(cidr("10.1.2.3/8"), "10.0.0.0/8".parse());
        assert!(cidr("10.1.2").is_err());
    }

    #[test]
    fn ports_are_strings_of_digits() {
        assert_eq!(port("8080"), Some(8080));
        for wrong in ["", "0", "+80", "65536", "80a"] {
            assert_eq!(port(wrong), None, "{wrong}");
        }
    }
}
