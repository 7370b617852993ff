//! The proof that a call may be forwarded.

use super::Caller;
use super::tokens::{Verified, is_field_value};
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
    /// Headers to be removed besides those of the verified facts.
    remove: Vec<Box<str>>,
    /// Headers to be added besides those of the verified facts.
    add: Vec<(Box<str>, Vec<u8>)>,
    /// The path to be forwarded, where it is not the one that was sent.
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
            remove: verified.remove,
            add: verified.add,
            path,
            new_trace: new_trace.map(|trace| trace.to_string()),
            _live: live,
            _counted: counted,
        }
    }

    /// The path that was judged, with the query less the tokens that stay here, to be forwarded in place of the one that was
    /// sent; `None` if they are the same.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The headers to be removed from the request: those only we may set, and tokens that stay here.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &str> {
        VERIFIED_FACTS
            .into_iter()
            .chain(self.remove.iter().map(|name| &**name))
    }

    /// The headers to be added to the request, in lower case: the verified facts, and what the token's issuer lets the
    /// application know.
    pub(crate) fn added(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let facts = [
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
        ];
        let facts = facts.into_iter().flatten();
        facts
            .map(|(name, value)| (name, value.as_bytes()))
            .chain(self.add.iter().map(|(name, value)| (&**name, &**value)))
    }
}
