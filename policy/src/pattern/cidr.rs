//! Ranges of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, `10.0.0.0/8` or `2001:db8::/32` (RFC 4632, RFC 4291 §2.3); a single
/// address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The part before the slash.
    #[error("{0:?} is not an IP address")]
    Address(String),
    /// The part behind the slash.
    #[error("{found:?} is not a prefix length from 0 to {max}")]
    Prefix {
        /// What came.
        found: String,
        /// The bits of an address of this family.
        max: u8,
    },
    /// Bits are set behind the prefix: either the address or the length is not what was meant.
    #[error("the address has bits behind its prefix; the range that it is in is {0}")]
    HostBits(Cidr),
}

impl Cidr {
    /// Whether the address is in the range. An IPv4 address that is mapped into IPv6
    /// (RFC 4291 §2.5.5.2) is that IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                Self::containing(address.to_canonical(), self.prefix).first == self.first
            }
            _ => false,
        }
    }

    /// The first address of the range.
    #[cfg(feature = "tools")]
    pub(crate) fn first(&self) -> IpAddr {
        self.first
    }

    /// The address behind the range; `None` behind the last of all.
    #[cfg(feature = "tools")]
    pub(crate) fn next_after(&self) -> Option<IpAddr> {
        match self.first {
            IpAddr::V4(first) => {
                let free = 32_u32.saturating_sub(self.prefix.into());
                let size = 1_u32.checked_shl(free)?;
                let next = first.to_bits().checked_add(size)?;
                Some(IpAddr::V4(Ipv4Addr::from_bits(next)))
            }
            IpAddr::V6(first) => {
                let free = 128_u32.saturating_sub(self.prefix.into());
                let size = 1_u128.checked_shl(free)?;
                let next = first.to_bits().checked_add(size)?;
                Some(IpAddr::V6(Ipv6Addr::from_bits(next)))
            }
        }
    }

    /// The addresses that are in both ranges: one of them, or none.
    pub(crate) fn overlap(&self, other: &Self) -> Option<Self> {
        let (outer, inner) = match self.prefix <= other.prefix {
            true => (self, other),
            false => (other, self),
        };
        outer.contains(inner.first).then_some(*inner)
    }

    fn containing(address: IpAddr, prefix: u8) -> Self {
        let first = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX
                    .checked_shl(32_u32.saturating_sub(prefix.into()))
                    .unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let free = 128_u32.saturating_sub(prefix.into());
                let mask = u128::MAX.checked_shl(free).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { first, prefix }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| CidrError::Address(address.to_owned()))?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => max,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|&prefix| prefix <= max && digits.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| CidrError::Prefix {
                    found: digits.to_owned(),
                    max,
                })?,
        };
        let range = Self::containing(address, prefix);
        if range.first == address {
            Ok(range)
        } else {
            Err(CidrError::HostBits(range))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: &str, address: &str) -> bool {
        range
            .parse::<Cidr>()
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn a_range_has_its_addresses_and_no_other() {
        assert!(contains("10.0.0.0/8", "10.255.255.255"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.7"));
        assert!(contains("10.0.0.7", "10.0.0.7"));
        assert!(!contains("10.0.0.7", "10.0.0.8"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(contains("::/0", "::1"));
        assert!(!contains("::/0", "10.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
    }

    #[test]
    fn ranges_overlap_as_a_whole_or_not_at_all() {
        let overlap = |one: &str, other: &str| {
            let (one, other): (Cidr, Cidr) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.overlap(&other), other.overlap(&one));
            one.overlap(&other).map(|range| range.to_string())
        };
        assert_eq!(
            overlap("10.0.0.0/8", "10.1.0.0/16").as_deref(),
            Some("10.1.0.0/16")
        );
        assert_eq!(overlap("10.0.0.0/8", "11.0.0.0/8"), None);
        assert_eq!(overlap("0.0.0.0/0", "::/0"), None);
        assert_eq!(
            overlap("::/0", "2001:db8::1").as_deref(),
            Some("2001:db8::1/128")
        );
    }

    #[test]
    fn mistakes_say_what_to_write() {
        assert_eq!(
            "10.1.2.3/8".parse::<Cidr>().unwrap_err().to_string(),
            "the address has bits behind its prefix; the range that it is in is 10.0.0.0/8"
        );
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "10.0.0/8",
            "x",
        ] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }
}
