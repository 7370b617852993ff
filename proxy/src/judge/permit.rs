//! The proof that a call may be forwarded.

use std::sync::Arc;

use super::Caller;
use super::tokens::Verified;
use crate::drain::CallGuard;
use crate::telemetry::{LiveCall, TraceParent};

/// The headers in which the application is told the verified facts. Whatever a caller sends in them is removed.
const VERIFIED_FACTS: [&str; 4] = [
    "x-forwarded-client-cert",
    "countersign-peer",
    "countersign-subject",
    "countersign-intent",
];

/// A call that was judged and allowed. Forwarding demands it; only the judge makes it; the call is live while it exists.
pub(crate) struct Permit {
    caller: Caller,
    /// `issuer/sub` of the verified token.
    subject: Option<String>,
    strip: Vec<Arc<str>>,
    /// The normal form of the path, where it is not what was sent.
    path: Option<String>,
    /// A trace that begins here, because the caller named none.
    new_trace: Option<String>,
    _live: CallGuard,
    _counted: LiveCall,
}

impl Permit {
    pub(super) fn new(
        caller: Caller,
        verified: Verified,
        path: Option<String>,
        new_trace: Option<TraceParent>,
        live: CallGuard,
        counted: LiveCall,
    ) -> Self {
        let subject = verified.subjects.first().map(|subject| {
            let sub = subject
                .claims
                .get("sub")
                .and_then(|sub| sub.as_str())
                .unwrap_or_default();
            format!("{}/{sub}", subject.issuer)
        });
        Self {
            caller,
            subject: subject.filter(|subject| is_field_value(subject)),
            strip: verified.strip,
            path,
            new_trace: new_trace.map(|trace| trace.to_string()),
            _live: live,
            _counted: counted,
        }
    }

    /// The path that was judged, with the query, to be forwarded in place of the one that was sent; `None` if they are the
    /// same.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The headers to be removed from the request: those only we may set, and tokens that stay here.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &str> {
        VERIFIED_FACTS
            .into_iter()
            .chain(self.strip.iter().map(|name| &**name))
    }

    /// The headers to be added to the request: the verified facts.
    pub(crate) fn added(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            Some((
                "x-forwarded-client-cert",
                self.caller.forwarded_client_cert(),
            )),
            Some(("countersign-peer", self.caller.peer().id().as_str())),
            self.subject
                .as_deref()
                .map(|subject| ("countersign-subject", subject)),
            self.new_trace
                .as_deref()
                .map(|trace| (TraceParent::HEADER, trace)),
        ]
        .into_iter()
        .flatten()
    }
}

/// Whether a text that came in a token may stand in a header: a claim can hold a line break, a header value must not.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_cannot_smuggle_a_header() {
        assert!(is_field_value("shop/corp/alice"));
        assert!(!is_field_value("shop/corp/alice\r\nx-admin: 1"));
        assert!(!is_field_value("shop/corp/\u{e4}"));
    }
}
