//! What is judged: a call, by what it has proved.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use countersign_identity::SpiffeId;

/// A workload that is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// One HTTP request or gRPC call, or one opaque connection.
///
/// Everything in it but the request is proved: who makes it has verified it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Who calls, by the SVID of the connection.
    pub peer: Option<&'a SpiffeId>,
    /// The address that the peer's connection comes from.
    pub source_ip: Option<IpAddr>,
    /// The address that is called; `None` where it is not known.
    pub destination_ip: Option<IpAddr>,
    /// The port of the called workload, as the caller named it.
    pub port: u16,
    /// The server name that the client of an opaque TLS connection asks for (RFC 6066 §3).
    pub sni: Option<&'a str>,
    /// The request; `None` for an opaque connection.
    pub request: Option<Request<'a>>,
    /// The verified tokens of the request.
    pub subjects: &'a [Arc<Subject>],
    /// What the request's verified transaction token says.
    pub intent: Option<&'a Intent>,
    /// When the call is judged. Subjects and intents whose time is over do not count.
    pub time: SystemTime,
}

/// The head of an HTTP request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method, as it was sent.
    pub method: &'a str,
    /// `Host` or `:authority`, as it was sent; empty if there is none.
    pub host: &'a str,
    /// The path as it was sent, with its query.
    pub path: &'a str,
    /// The header fields.
    pub headers: &'a dyn Headers,
}

/// Without the headers and the query: both carry secrets.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("path", &self.path.split('?').next().unwrap_or_default())
            .finish_non_exhaustive()
    }
}

/// The header fields of a request, whatever holds them.
pub trait Headers {
    /// Shows every field line: its name, in any case, and its value.
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8]));
}

/// No header fields.
impl Headers for () {
    fn for_each(&self, _: &mut dyn FnMut(&str, &[u8])) {}
}

impl Headers for http::HeaderMap {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self {
            visit(name.as_str(), value.as_bytes());
        }
    }
}

/// Name → value, as the calls of the command line have them.
impl Headers for BTreeMap<String, String> {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self {
            visit(name, value.as_bytes());
        }
    }
}

/// On whose behalf a call is made: what a verified token says.
#[derive(Clone, PartialEq)]
pub struct Subject {
    /// The [`TokenIssuer`](crate::TokenIssuer) document by whose rules the token was verified, as
    /// `namespace/name`.
    pub issuer: String,
    /// The token's claims.
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// From when on the token does not count, the issuer's leeway included.
    pub expires_at: SystemTime,
}

/// Without the claims: they may be private.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("issuer", &self.issuer)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What for a call is made: what a verified transaction token says
/// (draft-ietf-oauth-transaction-tokens).
#[derive(Clone, PartialEq)]
pub struct Intent {
    /// The scopes that it holds (`scope`, taken apart).
    pub scope: Vec<String>,
    /// The transaction's context (`tctx`).
    pub tctx: serde_json::Map<String, serde_json::Value>,
    /// Who asked for the token (`req_wl`): a SPIFFE ID.
    pub req_wl: String,
    /// From when on the token does not count.
    pub expires_at: SystemTime,
}

/// Without the context: it may be private.
impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intent")
            .field("scope", &self.scope)
            .field("req_wl", &self.req_wl)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
