//! A call as JSON: what `policy decide`, `policy explain` and the tests of a policy are given.
//!
//! ```
//! use countersign_policy::call_json::CallJson;
//!
//! let line = r#"{"peer":"shop/web","destination":{"namespace":"shop","workload":"orders","port":8080}}"#;
//! let call: CallJson = serde_json::from_str(line)?;
//! assert_eq!(call.destination.port, 8080);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! Strings are borrowed from the text where JSON's escapes allow it: streams of calls are read with it.

mod headers;
mod labels;
mod text;
mod time;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_identity::spiffe::system;
use countersign_identity::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::headers::HeaderLines;
pub use self::labels::Labels;
use crate::document::TokenIssuer;
use crate::{Call, Intent, Request, Subject, Workload};

/// A call. What is left out is not there: no peer, no request, no token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a JSON object with the facts of a call"
)]
pub struct CallJson<'a> {
    /// Who calls: a SPIFFE ID, or `namespace/account` of the mesh's own trust domain.
    #[serde(
        borrow,
        default,
        deserialize_with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub peer: Option<Cow<'a, str>>,
    /// The address that the peer's connection comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<IpAddr>,
    /// Who is called.
    #[serde(borrow)]
    pub destination: Destination<'a>,
    /// The server name that the client of an opaque TLS connection asks for.
    #[serde(
        borrow,
        default,
        deserialize_with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub sni: Option<Cow<'a, str>>,
    /// The request; left out for an opaque connection.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestJson<'a>>,
    /// A verified token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectJson>,
    /// Verified tokens, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<SubjectJson>,
    /// What a verified transaction token says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<IntentJson>,
    /// When the call is judged; left out, now.
    #[serde(default, with = "time", skip_serializing_if = "Option::is_none")]
    pub time: Option<SystemTime>,
}

/// The called workload and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination<'a> {
    /// Its namespace.
    #[serde(borrow)]
    pub namespace: Cow<'a, str>,
    /// Its service account.
    #[serde(borrow)]
    pub workload: Cow<'a, str>,
    /// Its labels.
    #[serde(borrow, default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels<'a>,
    /// The called address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The called port.
    pub port: u16,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestJson<'a> {
    /// The method, as it was sent.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// `Host` or `:authority`, as it was sent.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub host: Cow<'a, str>,
    /// The path as it was sent, with its query.
    #[serde(borrow)]
    pub path: Cow<'a, str>,
    /// Name → value, or a list of the values of several lines.
    #[serde(borrow, default, skip_serializing_if = "HeaderLines::is_empty")]
    pub headers: HeaderLines<'a>,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectJson {
    /// The `TokenIssuer` by whose rules it was verified: the name of one of the called workload's namespace or else of
    /// the root namespace, or `namespace/name`.
    pub issuer: String,
    /// Its claims. After the time in `exp`, if there is one, the token does not count.
    #[serde(default)]
    pub claims: Map<String, Value>,
}

/// What a verified transaction token says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentJson {
    /// The scopes that it holds.
    #[serde(default)]
    pub scope: Vec<String>,
    /// The transaction's context.
    #[serde(default)]
    pub tctx: Map<String, Value>,
    /// Who asked for it: a SPIFFE ID, or `namespace/account` of the mesh's own trust domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub requester: String,
    /// From when on it does not count (seconds since 1970); left out, it always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
}

/// Why a call that could be read cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A SPIFFE ID, or the names of a workload, that are none.
    #[error("{field}: expected a SPIFFE ID or namespace/account, got {given:?}: {problem}")]
    Identity {
        /// The field.
        field: &'static str,
        /// What was given.
        given: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A token that nothing of the policy could have verified.
    #[error(
        "subject.issuer: there is no TokenIssuer {given} that {workload} believes{}",
        believed(known)
    )]
    Issuer {
        /// What was given.
        given: String,
        /// The called workload.
        workload: String,
        /// The issuers that it believes, as `namespace/name`.
        known: Vec<String>,
    },
    /// A called workload without a name.
    #[error("destination.{field}: expected a name, got an empty string")]
    Destination {
        /// The field.
        field: &'static str,
    },
    /// Port 0 is no port.
    #[error("destination.port: expected a port from 1 to 65535, got 0")]
    Port,
}

fn believed(known: &[String]) -> String {
    match known {
        [] => String::new(),
        known => format!(", only {}", known.join(", ")),
    }
}

impl Destination<'_> {
    /// The called workload.
    #[must_use]
    pub fn to_workload(&self) -> Workload {
        Workload {
            namespace: self.namespace.clone().into_owned(),
            service_account: self.workload.clone().into_owned(),
            labels: self.labels.to_map(),
        }
    }

    /// Whether it is this workload.
    #[must_use]
    pub fn is(&self, workload: &Workload) -> bool {
        self.namespace == workload.namespace
            && self.workload == workload.service_account
            && self.labels.are(&workload.labels)
    }
}

/// A call with its names resolved; it owns what a [`Call`] borrows.
#[derive(Clone, Debug)]
pub struct ResolvedCall<'a> {
    peer: Option<SpiffeId>,
    source_ip: Option<IpAddr>,
    destination_ip: Option<IpAddr>,
    port: u16,
    sni: Option<Cow<'a, str>>,
    request: Option<RequestJson<'a>>,
    subjects: Vec<Arc<Subject>>,
    intent: Option<Intent>,
    time: SystemTime,
}

impl<'a> CallJson<'a> {
    /// Resolves the names in it: workloads without a trust domain are of `local`, issuers are among those that the
    /// called workload believes. A call without a time is of `now`.
    ///
    /// # Errors
    /// Which name stands for nothing.
    pub fn resolve(
        self,
        local: &TrustDomain,
        issuers: &[Arc<TokenIssuer>],
        now: SystemTime,
    ) -> Result<ResolvedCall<'a>, CallError> {
        let Destination {
            namespace,
            workload,
            ip,
            port,
            ..
        } = &self.destination;
        for (field, name) in [("namespace", namespace), ("workload", workload)] {
            if name.is_empty() {
                return Err(CallError::Destination { field });
            }
        }
        if *port == 0 {
            return Err(CallError::Port);
        }
        let peer = match &self.peer {
            Some(peer) => Some(identity("peer", peer, local)?),
            None => None,
        };
        let mut subjects = Vec::with_capacity(self.subjects.len() + 1);
        for subject in self.subject.into_iter().chain(self.subjects) {
            let issuer = resolve_issuer(&subject.issuer, &self.destination, issuers)?;
            subjects.push(Arc::new(subject.verified_by(issuer)));
        }
        let intent = match self.intent {
            Some(intent) => Some(intent.verified(local)?),
            None => None,
        };
        Ok(ResolvedCall {
            peer,
            source_ip: self.source_ip,
            destination_ip: *ip,
            port: *port,
            sni: self.sni,
            request: self.request,
            subjects,
            intent,
            time: self.time.unwrap_or(now),
        })
    }
}

impl ResolvedCall<'_> {
    /// The call, to be judged.
    #[must_use]
    pub fn as_call(&self) -> Call<'_> {
        Call {
            peer: self.peer.as_ref(),
            source_ip: self.source_ip,
            destination_ip: self.destination_ip,
            port: self.port,
            sni: self.sni.as_deref(),
            request: self.request.as_ref().map(|request| Request {
                method: &request.method,
                host: &request.host,
                path: &request.path,
                headers: &request.headers,
            }),
            subjects: &self.subjects,
            intent: self.intent.as_ref(),
            time: self.time,
        }
    }
}

fn identity(field: &'static str, given: &str, local: &TrustDomain) -> Result<SpiffeId, CallError> {
    let failed = |problem: String| CallError::Identity {
        field,
        given: given.to_owned(),
        problem,
    };
    if given.contains("://") {
        return given
            .parse()
            .map_err(|error: countersign_identity::SpiffeIdError| failed(error.to_string()));
    }
    let Some((namespace, account)) = given.split_once('/') else {
        return Err(failed("there is no / in it".to_owned()));
    };
    SpiffeId::for_workload(local, namespace, account).map_err(|error| failed(error.to_string()))
}

fn resolve_issuer(
    given: &str,
    destination: &Destination<'_>,
    issuers: &[Arc<TokenIssuer>],
) -> Result<String, CallError> {
    let is = |namespace: &str, name: &str| {
        issuers.iter().any(|issuer| {
            let metadata = &issuer.metadata;
            metadata.namespace.as_str() == namespace && metadata.name.as_str() == name
        })
    };
    let full = match given.split_once('/') {
        Some((namespace, name)) => is(namespace, name).then(|| given.to_owned()),
        None => [destination.namespace.as_ref(), system::NAMESPACE]
            .into_iter()
            .find(|namespace| is(namespace, given))
            .map(|namespace| format!("{namespace}/{given}")),
    };
    full.ok_or_else(|| CallError::Issuer {
        given: given.to_owned(),
        workload: format!("{}/{}", destination.namespace, destination.workload),
        known: issuers
            .iter()
            .map(|issuer| issuer.metadata.to_string())
            .collect(),
    })
}

impl SubjectJson {
    fn verified_by(self, issuer: String) -> Subject {
        let expires_at = self.claims.get("exp").and_then(Value::as_f64);
        Subject {
            issuer,
            expires_at: expires_at.map_or(never(), since_1970),
            claims: self.claims,
        }
    }
}

impl IntentJson {
    fn verified(self, local: &TrustDomain) -> Result<Intent, CallError> {
        let req_wl = match self.requester.as_str() {
            "" => String::new(),
            given => identity("intent.requester", given, local)?
                .as_str()
                .to_owned(),
        };
        Ok(Intent {
            scope: self.scope,
            tctx: self.tctx,
            req_wl,
            expires_at: self.exp.map_or(never(), |seconds| {
                UNIX_EPOCH
                    .checked_add(Duration::from_secs(seconds))
                    .unwrap_or(never())
            }),
        })
    }
}

/// A NumericDate (RFC 7519 §2), which may have a fraction.
fn since_1970(seconds: f64) -> SystemTime {
    if seconds < 0.0 {
        return UNIX_EPOCH;
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .unwrap_or(never())
}

/// Later than any call: the year 9999 has ended.
fn never() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(253_402_300_800)
}

#[cfg(test)]
mod tests;
