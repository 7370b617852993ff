//! The facts of a call as CEL variables. A fact that the call does not have is `null`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use cel::{Context, Value};
use chrono::DateTime;

use super::Roots;
use crate::call::{Intent, Request, Subject, Workload};
use countersign_identity::{SpiffeId, TrustDomain};

/// What a condition may ask about.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) peer: Option<&'a SpiffeId>,
    pub(crate) source_ip: Option<IpAddr>,
    pub(crate) sni: Option<&'a str>,
    pub(crate) subject: Option<&'a Subject>,
    pub(crate) intent: Option<&'a Intent>,
    pub(crate) request: Option<Request<'a>>,
    /// The reading of the path that the rule was matched with.
    pub(crate) path: Option<&'a str>,
    pub(crate) captures: &'a [(&'a str, &'a str)],
    pub(crate) destination: &'a Workload,
    pub(crate) destination_ip: Option<IpAddr>,
    /// The mesh's own trust domain.
    pub(crate) local: &'a TrustDomain,
    pub(crate) port: u16,
    pub(crate) time: SystemTime,
}

impl Facts<'_> {
    /// Adds the variables that are asked for; making one costs its size.
    pub(super) fn add_to(&self, context: &mut Context<'_, '_>, roots: Roots) {
        if roots.peer {
            context.add_variable_from_value("peer", self.peer());
        }
        if roots.connection {
            let connection = map([("sni", self.sni.into())]);
            context.add_variable_from_value("connection", connection);
        }
        if roots.subject {
            context.add_variable_from_value("subject", self.subject());
        }
        if roots.intent {
            context.add_variable_from_value("intent", self.intent());
        }
        if roots.request {
            context.add_variable_from_value("request", self.request());
        }
        if roots.destination {
            context.add_variable_from_value("destination", self.destination());
        }
        if roots.path {
            let captures = self
                .captures
                .iter()
                .map(|(name, segment)| (*name, Value::from(*segment)));
            context.add_variable_from_value("path", map(captures));
        }
        if roots.time {
            context.add_variable_from_value("time", timestamp(self.time));
        }
    }

    fn peer(&self) -> Value {
        let Some(peer) = self.peer else {
            return Value::Null;
        };
        let workload = peer.workload();
        map([
            ("id", peer.as_str().into()),
            ("trustDomain", peer.trust_domain().as_str().into()),
            (
                "namespace",
                workload.map(|workload| workload.namespace).into(),
            ),
            (
                "workload",
                workload.map(|workload| workload.service_account).into(),
            ),
            ("address", address(self.source_ip)),
        ])
    }

    fn subject(&self) -> Value {
        let Some(subject) = self.subject else {
            return Value::Null;
        };
        map([
            ("issuer", subject.issuer.as_str().into()),
            ("claims", object(&subject.claims)),
        ])
    }

    fn intent(&self) -> Value {
        let Some(intent) = self.intent else {
            return Value::Null;
        };
        let scope: Vec<Value> = intent.scope.iter().map(|s| s.as_str().into()).collect();
        map([
            ("scope", scope.into()),
            ("tctx", object(&intent.tctx)),
            ("requester", intent.req_wl.as_str().into()),
        ])
    }

    fn request(&self) -> Value {
        let Some(request) = self.request else {
            return Value::Null;
        };
        let query = request.path.split_once('?').map(|(_, query)| query);
        map([
            ("method", request.method.into()),
            (
                "host",
                crate::pattern::normal_host(request.host)
                    .map(str::to_ascii_lowercase)
                    .into(),
            ),
            ("authority", request.host.to_ascii_lowercase().into()),
            ("path", self.path.into()),
            ("query", query.into()),
            ("headers", headers(request)),
        ])
    }

    fn destination(&self) -> Value {
        let Workload {
            namespace,
            service_account,
            labels,
        } = self.destination;
        let labels = labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().into()));
        map([
            ("trustDomain", self.local.as_str().into()),
            ("namespace", namespace.as_str().into()),
            ("workload", service_account.as_str().into()),
            ("address", address(self.destination_ip)),
            ("labels", map(labels)),
            ("port", Value::Int(self.port.into())),
        ])
    }
}

/// By lower-case name; several lines of one name are joined (RFC 9110 §5.3). Bytes that are not UTF-8
/// become U+FFFD.
fn headers(request: Request<'_>) -> Value {
    let mut joined: HashMap<String, String> = HashMap::new();
    request.headers.for_each(&mut |name, value| {
        let value = String::from_utf8_lossy(value);
        joined
            .entry(name.to_ascii_lowercase())
            .and_modify(|before| {
                before.push_str(", ");
                before.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    });
    joined.into()
}

fn address(ip: Option<IpAddr>) -> Value {
    ip.map(|ip| ip.to_canonical().to_string()).into()
}

fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    entries.into_iter().collect::<HashMap<&str, Value>>().into()
}

/// A time that no calendar has is unknown.
fn timestamp(time: SystemTime) -> Value {
    let known = || {
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        DateTime::from_timestamp(i64::try_from(since.as_secs()).ok()?, since.subsec_nanos())
    };
    known().map_or(Value::Null, |time| Value::Timestamp(time.fixed_offset()))
}

/// An object of JSON as a map. Depth is bounded by the JSON reader's limit of 128.
pub(super) fn object(fields: &serde_json::Map<String, serde_json::Value>) -> Value {
    map(fields
        .iter()
        .map(|(name, value)| (name.as_str(), json(value))))
}

/// Depth is bounded by the JSON reader's limit of 128.
fn json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => number.as_f64().map_or(Value::Null, Value::Float),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => items.iter().map(json).collect::<Vec<_>>().into(),
        serde_json::Value::Object(fields) => object(fields),
    }
}
