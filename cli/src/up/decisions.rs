//! The decision lines of sidecars, read for people.

use std::fmt::Write as _;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::event::{Event, Events};

/// How much of a git commit is shown.
const SHORT_REVISION: usize = 7;

/// A decision line: the facts that are shown, and the line as the sidecar wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    facts: Facts,
    /// The line, for programs.
    pub(crate) record: Map<String, Value>,
}

/// What is shown of a decision line; absent facts are left out of it.
#[derive(Clone, Debug, Deserialize)]
struct Facts {
    decision: Verdict,
    time: Option<DateTime<Utc>>,
    reason: Option<String>,
    reason_class: Option<String>,
    rule: Option<String>,
    file: Option<String>,
    line: Option<u64>,
    revision: Option<String>,
    peer: Option<String>,
    subject: Option<Subject>,
    source: Option<String>,
    destination: Option<String>,
    port: Option<u16>,
    protocol: Option<String>,
    method: Option<String>,
    path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Deny,
}

#[derive(Clone, Debug, Deserialize)]
struct Subject {
    sub: Option<String>,
}

impl Decision {
    /// Reads a line; `None` if it is no decision.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let record: Map<String, Value> = serde_json::from_str(line).ok()?;
        let facts: Facts = serde_json::from_value(Value::Object(record.clone())).ok()?;
        Some(Self {
            allowed: facts.decision == Verdict::Allow,
            facts,
            record,
        })
    }

    /// When the sidecar decided.
    pub(crate) fn time(&self) -> Option<SystemTime> {
        self.facts.time.map(SystemTime::from)
    }

    /// Who called whom for what, and why that was allowed or denied, on one line:
    /// `shop/web → shop/orders  POST /orders  "web creates orders" (orders.yaml:12 @3f2c1ab)`
    pub(crate) fn describe(&self, trust_domain: &str) -> String {
        let facts = &self.facts;
        let mut text = caller(facts, trust_domain);
        let _infallible = write!(
            text,
            " → {}  {}",
            facts.destination.as_deref().unwrap_or("?"),
            what(facts)
        );
        if !self.allowed {
            let reason = facts.reason.as_deref().or(facts.reason_class.as_deref());
            let _infallible = write!(text, "  {}", reason.unwrap_or("no reason given"));
        }
        // The reason of a denial by a rule names the rule already.
        let told = |rule: &str| {
            facts
                .reason
                .as_ref()
                .is_some_and(|reason| reason.contains(rule))
        };
        if let Some(rule) = &facts.rule
            && (self.allowed || !told(rule))
        {
            let _infallible = write!(text, "  \"{rule}\"");
        }
        if let Some(origin) = origin(facts) {
            let _infallible = write!(text, " ({origin})");
        }
        text
    }
}

/// A peer of this mesh by its short name, any other in full, and who has shown no identity by address.
fn caller(facts: &Facts, trust_domain: &str) -> String {
    let mut text = match (&facts.peer, &facts.source) {
        (Some(peer), _) => short_id(peer, trust_domain),
        (None, Some(source)) => format!("anonymous at {source}"),
        (None, None) => "anonymous".to_owned(),
    };
    if let Some(subject) = facts
        .subject
        .as_ref()
        .and_then(|subject| subject.sub.as_ref())
    {
        let _infallible = write!(text, " for {subject}");
    }
    text
}

/// `shop/web` for `spiffe://shop.example/ns/shop/sa/web` in shop.example.
fn short_id(id: &str, trust_domain: &str) -> String {
    id.strip_prefix("spiffe://")
        .and_then(|id| id.strip_prefix(trust_domain))
        .and_then(|path| path.strip_prefix("/ns/"))
        .and_then(|rest| rest.split_once("/sa/"))
        .map_or_else(
            || id.to_owned(),
            |(namespace, account)| format!("{namespace}/{account}"),
        )
}

/// The request, or of an opaque connection the port.
fn what(facts: &Facts) -> String {
    match (&facts.method, &facts.path, facts.port) {
        (Some(method), Some(path), _) => format!("{method} {path}"),
        (_, _, Some(port)) => {
            format!(
                "{} port {port}",
                facts.protocol.as_deref().unwrap_or("connection to")
            )
        }
        _ => facts.protocol.clone().unwrap_or_else(|| "call".to_owned()),
    }
}

/// `orders.yaml:12 @3f2c1ab`
fn origin(facts: &Facts) -> Option<String> {
    let revision = facts
        .revision
        .as_deref()
        .map(|revision| format!("@{}", short(revision)));
    let place = match (&facts.file, facts.line) {
        (Some(file), Some(line)) => Some(format!("{file}:{line}")),
        (Some(file), None) => Some(file.clone()),
        _ => None,
    };
    let parts: Vec<_> = place.into_iter().chain(revision).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// A revision as short as people know it: `3f2c1ab`, `sha256:3f2c1ab`.
pub(crate) fn short(revision: &str) -> &str {
    let start = revision.find(':').map_or(0, |colon| colon + 1);
    revision.get(..start + SHORT_REVISION).unwrap_or(revision)
}

/// Tells the decisions among the lines of a sidecar's standard output.
pub(crate) async fn follow(
    workload: String,
    mut lines: mpsc::UnboundedReceiver<String>,
    events: Events,
) {
    while let Some(line) = lines.recv().await {
        if let Some(decision) = Decision::parse(&line) {
            events.tell(Event::Decided {
                workload: workload.clone(),
                decision: Box::new(decision),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(line: &str) -> String {
        Decision::parse(line).unwrap().describe("shop.example")
    }

    #[test]
    fn an_allowed_call_names_its_rule() {
        assert_eq!(
            described(
                r#"{"time":"2026-11-23T12:00:01.5Z","decision_id":"d1","decision":"allow","reason":"allowed",
                "reason_class":"allowed","policy":"shop/orders","rule":"web creates orders","file":"orders.yaml",
                "line":12,"revision":"3f2c1ab5e5a9f0c1","peer":"spiffe://shop.example/ns/shop/sa/web",
                "subject":{"issuer":"shop/corp","sub":"alice"},"source":"127.1.2.10:4711",
                "destination":"shop/orders","port":8080,"protocol":"http/1.1","method":"POST","path":"/orders"}"#
            ),
            "shop/web for alice → shop/orders  POST /orders  \"web creates orders\" (orders.yaml:12 @3f2c1ab)"
        );
    }

    #[test]
    fn a_denied_call_says_why() {
        assert_eq!(
            described(
                r#"{"decision":"deny","reason":"no rule matches; closest is `web creates orders`: method DELETE",
                "reason_class":"no-rule-matched","revision":"sha256:0123456789abcdef",
                "peer":"spiffe://other.example/ns/shop/sa/web","destination":"shop/orders","port":8080,
                "method":"DELETE","path":"/orders"}"#
            ),
            "spiffe://other.example/ns/shop/sa/web → shop/orders  DELETE /orders  \
             no rule matches; closest is `web creates orders`: method DELETE (@sha256:0123456)"
        );
    }

    #[test]
    fn an_opaque_connection_of_a_stranger_is_described_too() {
        assert_eq!(
            described(
                r#"{"decision":"deny","reason_class":"no-peer","source":"127.0.0.1:5","destination":"shop/store","port":7070,"protocol":"tcp"}"#
            ),
            "anonymous at 127.0.0.1:5 → shop/store  tcp port 7070  no-peer"
        );
    }

    #[test]
    fn what_is_no_decision_is_left_alone() {
        for line in [
            "",
            "listening",
            "{}",
            r#"{"decision":"maybe"}"#,
            r#"{"level":"info"}"#,
        ] {
            assert!(Decision::parse(line).is_none(), "{line}");
        }
    }
}
