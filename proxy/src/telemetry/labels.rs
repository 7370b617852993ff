//! The values that metric labels and log fields may have: closed sets, so that no caller can make more time series.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// An enum without fields whose variants have one fixed name each, in metrics, logs and JSON alike.
macro_rules! names {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every variant, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The variant's name in metrics and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

names! {
    /// Which way a call goes, as the workload beside this sidecar sees it.
    pub enum Direction {
        /// From another workload to ours.
        Inbound = "inbound",
        /// From our workload to another.
        Outbound = "outbound",
    }
}

names! {
    /// What a call turned out to be.
    pub enum CallProtocol {
        /// One HTTP/1.1 (or HTTP/1.0) request.
        Http1 = "http/1.1",
        /// One HTTP/2 request.
        Http2 = "http/2",
        /// One gRPC call.
        Grpc = "grpc",
        /// One opaque connection.
        Tcp = "tcp",
    }
}

names! {
    /// Why a TLS handshake on the wire came to nothing.
    pub enum HandshakeFailure {
        /// It was not complete in time.
        Timeout = "timeout",
        /// The bytes that came are not TLS.
        NotTls = "not-tls",
        /// The peer showed no certificate.
        NoCertificate = "no-certificate",
        /// The peer's certificate does not lead to an authority that we trust.
        Untrusted = "untrusted",
        /// The peer's certificate is valid no more, or not yet.
        Expired = "expired",
        /// The peer is trusted, and is not whom we expected.
        WrongIdentity = "wrong-identity",
        /// No common protocol, version, cipher or key exchange.
        Incompatible = "incompatible",
        /// The peer refused us with an alert.
        Refused = "refused",
        /// The connection broke.
        Broken = "broken",
    }
}

names! {
    /// Why a connection of the wire is not there, or there no more.
    pub enum WireFailure {
        /// No TCP connection, or no session on it in time.
        Connect = "connect",
        /// No TLS session; see the handshake failures for why.
        Handshake = "handshake",
        /// The peer broke the rules of HTTP/2.
        Protocol = "protocol",
        /// The connection broke.
        Broken = "broken",
    }
}

names! {
    /// What became of a token that came with a call.
    pub enum TokenOutcome {
        /// Its signature was verified now.
        Verified = "verified",
        /// It was verified before and is still valid.
        Cached = "cached",
        /// It proves nothing; the class says why.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_the_same_everywhere() {
        let names: HashSet<_> = HandshakeFailure::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        assert_eq!(names.len(), HandshakeFailure::ALL.len());
        assert_eq!(CallProtocol::Http1.to_string(), "http/1.1");
        assert_eq!(
            serde_json::to_string(&CallProtocol::Http1).unwrap(),
            "\"http/1.1\""
        );
    }
}
