//! What is wrong with a token, as far as that can be told without its issuer's keys.

use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

use countersign_identity::SpiffeId;
use countersign_identity::jwt::Algorithm;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::inspect::{Validity, moment};
use crate::cert::Severity;
use crate::instant::Span;

/// The longest life of a token that is not a finding, in seconds.
const LONGEST_LIFE: u64 = 24 * 3600;
/// The same for JWT-SVIDs, which are made for one call or a few.
const LONGEST_SVID: u64 = 3600;

/// One finding. Its JSON form is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Stable, kebab-case.
    pub(super) code: &'static str,
    pub(super) message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) advice: &'static str,
}

/// What a token is for, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A JWT-SVID: its subject is a SPIFFE ID.
    Svid,
    /// A token of another purpose than to speak for a subject to an audience.
    Special(&'static str),
    Other,
}

impl Kind {
    pub(super) fn of(header: &Map<String, Value>, claims: &Map<String, Value>) -> Self {
        let kind = header.get("typ").and_then(Value::as_str).unwrap_or("");
        let kind = kind.strip_prefix("application/").unwrap_or(kind);
        match kind.to_ascii_lowercase().as_str() {
            "txntoken+jwt" => Self::Special("transaction token"),
            "wit+jwt" => Self::Special("WIT-SVID"),
            "secevent+jwt" => Self::Special("security event token"),
            "logout+jwt" => Self::Special("logout token"),
            "dpop+jwt" => Self::Special("DPoP proof"),
            _ => match claims.get("sub").and_then(Value::as_str) {
                Some(subject) if subject.starts_with("spiffe:") => Self::Svid,
                _ => Self::Other,
            },
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Svid => "JWT-SVID",
            Self::Special(name) => name,
            Self::Other => "JWT",
        }
    }
}

/// The names that an object has twice: two readers can see two tokens (RFC 7519 §4).
pub(super) struct Duplicates(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Duplicates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Duplicates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Duplicates, A::Error> {
                let (mut seen, mut twice) = (HashSet::new(), Vec::new());
                while let Some(name) = map.next_key::<String>()? {
                    map.next_value::<IgnoredAny>()?;
                    if !seen.insert(name.clone()) && !twice.contains(&name) {
                        twice.push(name);
                    }
                }
                Ok(Duplicates(twice))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

/// A token, taken apart.
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) header: &'a Map<String, Value>,
    pub(super) claims: &'a Map<String, Value>,
    pub(super) signature: &'a str,
    pub(super) duplicates: Vec<(&'static str, String)>,
    pub(super) validity: &'a Validity,
}

/// Everything that is found, the worst first.
pub(super) fn findings(token: &Token<'_>, now: SystemTime) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    header(token, &mut findings);
    for (part, name) in &token.duplicates {
        findings.error(
            "duplicate-member",
            format!("its {part} has `{name}` twice: who reads the first sees another token than who reads the last"),
            "do not take it",
        );
    }
    times(token, now, &mut findings);
    claims(token, &mut findings);
    let mut findings = findings.0;
    findings.sort_by_key(|finding| finding.severity);
    findings
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        advice: &'static str,
    ) {
        self.0.push(Finding {
            severity,
            code,
            message: message.into(),
            advice,
        });
    }

    fn error(&mut self, code: &'static str, message: impl Into<String>, advice: &'static str) {
        self.add(Severity::Error, code, message, advice);
    }

    fn warning(&mut self, code: &'static str, message: impl Into<String>, advice: &'static str) {
        self.add(Severity::Warning, code, message, advice);
    }
}

fn header(token: &Token<'_>, findings: &mut Findings) {
    let text = |name: &str| token.header.get(name).and_then(Value::as_str);
    match text("alg") {
        None => findings.error(
            "alg-missing",
            "it does not say how it is signed",
            "do not take it",
        ),
        Some(algorithm) if algorithm.eq_ignore_ascii_case("none") => findings.error(
            "alg-none",
            "it is not signed: anybody can have made it",
            "never take it, whatever it says",
        ),
        Some(algorithm) if algorithm.starts_with("HS") => findings.error(
            "alg-symmetric",
            format!("it is signed with {algorithm}: whoever can verify it can also make it"),
            "have the issuer sign with ES256, RS256 or EdDSA",
        ),
        Some(algorithm) => match algorithm.parse::<Algorithm>() {
            Ok(Algorithm::EdDsa) if token.kind == Kind::Svid => findings.error(
                "svid-alg",
                "a JWT-SVID is not signed with EdDSA (JWT-SVID §2.1)",
                "have the issuer sign with ES256",
            ),
            Ok(_) => {}
            Err(error) => findings.error("alg-unknown", error.to_string(), ""),
        },
    }
    if token.signature.is_empty() && text("alg").is_none_or(|alg| !alg.eq_ignore_ascii_case("none"))
    {
        findings.error("signature-missing", "it has no signature", "do not take it");
    }
    if token.kind == Kind::Svid
        && let Some(kind) = token.header.get("typ")
        && !kind.as_str().is_some_and(|kind| {
            kind.eq_ignore_ascii_case("jwt") || kind.eq_ignore_ascii_case("jose")
        })
    {
        findings.error(
            "svid-typ",
            format!("the type of a JWT-SVID is JWT or JOSE, this is {kind} (JWT-SVID §2.3)"),
            "",
        );
    }
    if let Kind::Special(name) = token.kind {
        findings.add(
            Severity::Info,
            "special-token",
            format!("it is a {name}, and no token to log in with"),
            "",
        );
    }
    if let Some(critical) = token.header.get("crit") {
        findings.warning(
            "critical-header",
            format!("it demands that {critical} be understood (RFC 7515 §4.1.11)"),
            "who does not understand that has to refuse it; Countersign does",
        );
    }
    for name in ["jwk", "jku", "x5u", "x5c"] {
        if token.header.contains_key(name) {
            findings.warning(
                "key-in-header",
                format!("it brings along the key to verify it with (`{name}`)"),
                "a verifier that uses it believes everybody; Countersign does not",
            );
        }
    }
    if text("kid").is_none() {
        findings.add(
            Severity::Info,
            "kid-missing",
            "it does not say which key signed it",
            "",
        );
    }
}

fn times(token: &Token<'_>, now: SystemTime, findings: &mut Findings) {
    match token.validity.state {
        "expired" => findings.error(
            "expired",
            format!("it {}", token.validity.text),
            "get a new one",
        ),
        "not-yet-valid" => findings.error(
            "not-yet-valid",
            format!("it is {}", token.validity.text),
            "is this machine's clock right? Otherwise wait",
        ),
        "malformed" => findings.error("time-malformed", token.validity.text.clone(), ""),
        "unlimited" if token.kind == Kind::Svid => findings.error(
            "exp-missing",
            "it never expires; a JWT-SVID has `exp` (JWT-SVID §3.3)",
            "",
        ),
        "unlimited" => findings.warning(
            "exp-missing",
            "it never expires: whoever finds it can use it for ever",
            "have the issuer set `exp`; Countersign refuses tokens without",
        ),
        _ => {}
    }
    let time = |name: &str| token.claims.get(name).and_then(moment);
    let start = time("iat").or_else(|| time("nbf")).unwrap_or(now);
    let limit = match token.kind {
        Kind::Svid => LONGEST_SVID,
        _ => LONGEST_LIFE,
    };
    if let Some(life) = time("exp").and_then(|end| end.duration_since(start).ok())
        && life.as_secs() > limit
    {
        findings.warning(
            "lifetime-long",
            format!("it lives for {}", Span(life)),
            "a stolen token is good until it expires; minutes are enough",
        );
    }
}

fn claims(token: &Token<'_>, findings: &mut Findings) {
    let severity = match token.kind {
        Kind::Svid => Severity::Error,
        _ => Severity::Warning,
    };
    let no_audience = match token.claims.get("aud") {
        None => Some("it does not say whom it is for: whoever gets it can use it elsewhere"),
        Some(Value::Array(list)) if list.is_empty() => Some("it is for nobody: `aud` is empty"),
        _ => None,
    };
    if let Some(message) = no_audience {
        findings.add(
            severity,
            "aud-missing",
            message,
            "have the issuer set `aud`",
        );
    }
    if let Some(Value::Array(list)) = token.claims.get("aud")
        && list.len() > 1
        && token.kind == Kind::Svid
    {
        findings.warning(
            "svid-aud-several",
            format!(
                "it is for {} audiences: each can use it with the others (JWT-SVID §3.2)",
                list.len()
            ),
            "ask for one token for each audience",
        );
    }
    if token.kind == Kind::Svid {
        let subject = token
            .claims
            .get("sub")
            .and_then(Value::as_str)
            .unwrap_or("");
        match SpiffeId::parse(subject) {
            Ok(id) if id.path().is_empty() => findings.error(
                "svid-sub",
                "its subject is a trust domain, and no workload",
                "",
            ),
            Ok(_) => {}
            Err(error) => findings.error(
                "svid-sub",
                format!("its subject is not a SPIFFE ID: {error}"),
                "",
            ),
        }
    } else {
        for name in ["iss", "sub"] {
            if !token.claims.contains_key(name) {
                let code = if name == "iss" {
                    "iss-missing"
                } else {
                    "sub-missing"
                };
                findings.warning(code, format!("it has no `{name}`"), "");
            }
        }
    }
}
