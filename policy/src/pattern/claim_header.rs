//! Headers in which an application is told what a token says.

use std::fmt;
use std::str::FromStr;

use super::{HeaderName, NameError};

/// Headers that say where a message ends, where it goes and what becomes of its connection (RFC 9110 §7.6.1, RFC 9112 §6);
/// those that a sidecar itself reads or sets; and `Cookie`, which would lose all others.
const TAKEN: [&str; 15] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "traceparent",
    "tracestate",
    "txn-token",
    "x-forwarded-client-cert",
];

/// All that begins so is a sidecar's own.
const TAKEN_PREFIX: &str = "countersign-";

/// The name of a header field in which a sidecar may tell the application a claim, in lower case. Whatever comes in under
/// this name is removed, so it is none that a message or a sidecar needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimHeader(HeaderName);

/// Why a text is not a [`ClaimHeader`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimHeaderError {
    /// No header at all.
    #[error(transparent)]
    Name(#[from] NameError),
    /// One that a message or a sidecar needs.
    #[error(
        "it is a header of the connection or of the sidecar's own; choose another, such as x-jwt-sub"
    )]
    Taken,
}

impl ClaimHeader {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ClaimHeader {
    type Err = ClaimHeaderError;

    fn from_str(text: &str) -> Result<Self, ClaimHeaderError> {
        let name: HeaderName = text.parse()?;
        // To many applications `_` and `-` are the same (CGI, RFC 3875 §4.1.18).
        let read = name.as_str().replace('_', "-");
        if TAKEN.contains(&read.as_str()) || read.starts_with(TAKEN_PREFIX) {
            return Err(ClaimHeaderError::Taken);
        }
        Ok(Self(name))
    }
}

impl fmt::Display for ClaimHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_others_rely_on_are_refused_in_every_spelling() {
        for taken in [
            "Host",
            "content_length",
            "Transfer-Encoding",
            "X_Forwarded-Client_Cert",
            "Cookie",
            "countersign-peer",
            "COUNTERSIGN_anything",
            "Txn-Token",
        ] {
            let refused = taken.parse::<ClaimHeader>();
            assert_eq!(refused, Err(ClaimHeaderError::Taken), "{taken}");
        }
        let header: ClaimHeader = "X-User".parse().unwrap();
        assert_eq!(header.as_str(), "x-user");
        assert!("authorization".parse::<ClaimHeader>().is_ok());
        assert!("x y".parse::<ClaimHeader>().is_err());
    }
}
