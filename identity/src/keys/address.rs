//! Which addresses may be dialled: a guard against being used to reach inside networks (server-side request forgery).
//!
//! The check is of the address that is dialled, after name resolution, so that a name cannot be made to point elsewhere
//! between the check and the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRule {
    /// Addresses of the public internet only.
    PublicOnly,
    /// Every address.
    Any,
}

/// An address that the rule forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is {kind} address, which is not dialled; set `allowPrivateAddresses: true` if what is asked for is meant to be there"
)]
pub struct ForbiddenAddress {
    /// The address.
    pub address: IpAddr,
    /// What it is: "a loopback", "a private", …
    pub kind: &'static str,
}

impl AddressRule {
    /// Checks one resolved address.
    ///
    /// # Errors
    /// When the rule forbids it.
    pub fn check(self, address: IpAddr) -> Result<(), ForbiddenAddress> {
        match (self, special(address)) {
            (Self::Any, _) | (_, None) => Ok(()),
            (Self::PublicOnly, Some(kind)) => Err(ForbiddenAddress { address, kind }),
        }
    }
}

/// What kind of special-purpose address this is (RFC 6890 and the IANA registries that go on from it); none for a public one.
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("an unspecified"),
        [127, ..] => Some("a loopback"),
        [10, ..] | [192, 168, ..] => Some("a private"),
        [172, second, ..] if (16..32).contains(&second) => Some("a private"),
        [169, 254, ..] => Some("a link-local"),
        [100, second, ..] if (64..128).contains(&second) => Some("a carrier-internal"),
        [192, 0, 0, _] | [192, 88, 99, _] => Some("a reserved"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("a documentation"),
        [198, 18 | 19, ..] => Some("a benchmark"),
        [224..=239, ..] => Some("a multicast"),
        [240..=255, ..] => Some("a reserved"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(inner) = embedded_v4(address) {
        return special_v4(inner);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback"),
        [0xfc00..=0xfdff, ..] => Some("a private"),
        [0xfe80..=0xfebf, ..] => Some("a link-local"),
        [0xfec0..=0xfeff, ..] => Some("a site-local"),
        [0xff00..=0xffff, ..] => Some("a multicast"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("a documentation"),
        // Only 2000::/3 is given out; of it, 2001::/23 is for protocols (Teredo, ORCHID, benchmarks).
        [0x2001, 0..=0x01ff, ..] => Some("a reserved"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved"),
    }
}

/// The IPv4 address that an IPv6 address is another form of: mapped (RFC 4291 §2.5.5.2), NAT64 (RFC 6052 §2.1), 6to4
/// (RFC 3056 §2).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(join(high, low))
        }
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_refused_in_every_form() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fdab::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "::127.0.0.1",
            "5f00::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            let error = AddressRule::PublicOnly.check(address).unwrap_err();
            assert!(
                error.to_string().contains("allowPrivateAddresses"),
                "{error}"
            );
            assert_eq!(AddressRule::Any.check(address), Ok(()));
        }
    }

    #[test]
    fn public_addresses_are_dialled() {
        for text in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert_eq!(
                AddressRule::PublicOnly.check(text.parse().unwrap()),
                Ok(()),
                "{text}"
            );
        }
    }
}
