//! Header names: the few that this engine acts upon, and how names are compared.

/// Header names that decide framing, routing or the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Connection,
    ContentLength,
    Expect,
    Host,
    KeepAlive,
    ProxyConnection,
    Te,
    TransferEncoding,
    Upgrade,
}

impl Known {
    /// The known name that `name` spells, in any case and with `_` for `-`.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (known, spelling) = match name.len() {
            2 => (Self::Te, "te"),
            4 => (Self::Host, "host"),
            6 => (Self::Expect, "expect"),
            7 => (Self::Upgrade, "upgrade"),
            10 if same_name(name, "connection") => return Some(Self::Connection),
            10 => (Self::KeepAlive, "keep-alive"),
            14 => (Self::ContentLength, "content-length"),
            16 => (Self::ProxyConnection, "proxy-connection"),
            17 => (Self::TransferEncoding, "transfer-encoding"),
            _ => return None,
        };
        same_name(name, spelling).then_some(known)
    }

    /// Names that the next reader must see as this one did.
    pub(super) fn must_travel(self) -> bool {
        self.decides_framing() || self == Self::Expect
    }

    /// Names whose loss or doubling would change where a message ends or whom it reaches.
    pub(super) fn decides_framing(self) -> bool {
        matches!(
            self,
            Self::ContentLength | Self::Host | Self::TransferEncoding
        )
    }
}

/// Whether two header names are the same to any application that may read them.
///
/// Case does not count (RFC 9110 §5.1). Nor does `_` against `-`: CGI and its descendants (WSGI,
/// Rack, PHP) map both to the same variable, so that `countersign_peer` would otherwise pass for
/// `countersign-peer`.
#[must_use]
pub fn same_name(left: &str, right: &str) -> bool {
    is_name(left.as_bytes(), right)
}

/// [`same_name`], where one of them is not known to be text.
pub(super) fn is_name(name: &[u8], other: &str) -> bool {
    name.len() == other.len() && starts_with_name(name, other)
}

/// Whether `name` begins with `prefix`, compared as by [`same_name`].
pub(super) fn starts_with_name(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len()
        && name
            .iter()
            .zip(prefix.bytes())
            .all(|(left, right)| fold(*left) == fold(right))
}

fn fold(byte: u8) -> u8 {
    if byte == b'_' {
        b'-'
    } else {
        byte.to_ascii_lowercase()
    }
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

/// Whether `byte` may stand in a field value (RFC 9110 §5.5).
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_spelling() {
        for (spelling, known) in [
            ("Connection", Known::Connection),
            ("CONTENT-LENGTH", Known::ContentLength),
            ("content_length", Known::ContentLength),
            ("Expect", Known::Expect),
            ("hOST", Known::Host),
            ("Keep-Alive", Known::KeepAlive),
            ("Proxy-Connection", Known::ProxyConnection),
            ("TE", Known::Te),
            ("Transfer_Encoding", Known::TransferEncoding),
            ("upgrade", Known::Upgrade),
        ] {
            assert_eq!(Known::of(spelling), Some(known), "{spelling}");
        }
        for other in [
            "",
            "tf",
            "hosts",
            "connectio",
            "keep alive",
            "x-content-length",
        ] {
            assert_eq!(Known::of(other), None, "{other}");
        }
    }

    #[test]
    fn a_prefix_is_not_a_name() {
        assert!(starts_with_name(b"Countersign_Peer", "countersign-"));
        assert!(!starts_with_name(b"countersign", "countersign-"));
        assert!(!same_name("countersign-peer", "countersign-"));
    }
}
