//! Reads a `TokenIssuer` from YAML.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_identity::jwt::{Algorithm, KeySet};

use super::parse::{Whole, whole};
use super::token_issuer::{KeySource, TokenIssuer, TokenLocation};
use super::{Target, target};
use crate::pattern::{ClaimHeader, HeaderName};
use crate::yaml::{Fields, Value};

const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
/// More would make a token that has expired a token that is valid.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

pub(super) fn read(value: Value<'_>) -> Option<TokenIssuer> {
    let Whole {
        metadata,
        origin,
        spec,
    } = whole(value, spec)?;
    Some(TokenIssuer {
        metadata,
        origin,
        target: spec.target,
        issuer: spec.issuer,
        audiences: spec.audiences,
        algorithms: spec.algorithms,
        keys: spec.keys,
        from: spec.from,
        leeway: spec.leeway,
        forward: spec.forward,
        claim_headers: spec.claim_headers,
        payload_header: spec.payload_header,
    })
}

struct Spec {
    target: Target,
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    keys: KeySource,
    from: Vec<TokenLocation>,
    leeway: Duration,
    forward: bool,
    claim_headers: BTreeMap<ClaimHeader, String>,
    payload_header: Option<ClaimHeader>,
}

fn spec(fields: &mut Fields<'_>) -> Option<Spec> {
    let target = fields.default("target", Target::default(), target::read);
    let issuer = fields.required("issuer", Value::string);
    let audiences = fields.required("audiences", audiences);
    let algorithms = fields.default("algorithms", Algorithm::DEFAULT.to_vec(), |value| {
        value.non_empty_list("signature algorithms", |v| {
            v.parsed("a signature algorithm such as ES256")
        })
    });
    let keys = keys(fields);
    let from = fields.default("from", vec![bearer()], |value| {
        value.non_empty_list("places", location)
    });
    let leeway = fields.default("leeway", DEFAULT_LEEWAY, leeway);
    let forward = fields.default("forward", true, Value::bool);
    let claim_headers = fields.default("claimHeaders", BTreeMap::new(), claim_headers);
    let payload_header = fields.optional("payloadHeader", |value| value.parsed(CLAIM_HEADER));
    let (from, claim_headers, payload_header) = (from?, claim_headers?, payload_header?);
    told_apart(fields, &from, &claim_headers, payload_header.as_ref())?;
    Some(Spec {
        target: target?,
        issuer: issuer?,
        audiences: audiences?,
        algorithms: algorithms?,
        keys: keys?,
        from,
        leeway: leeway?,
        forward: forward?,
        claim_headers,
        payload_header,
    })
}

/// Written in the place of the list: tokens for whomever are accepted.
pub(super) const ANY_AUDIENCE: &str = "*";

fn audiences(value: Value<'_>) -> Option<Vec<String>> {
    match value.is_string() && value.text()? == ANY_AUDIENCE {
        true => Some(Vec::new()),
        false => value.non_empty_list("audiences", Value::string),
    }
}

fn keys(fields: &mut Fields<'_>) -> Option<KeySource> {
    let inline = fields.optional("jwks", inline_keys);
    let uri = fields.optional("jwksUri", https_or_http);
    match (inline?, uri?) {
        (Some(_), Some(_)) => fields
            .value()
            .mistake("`jwks` and `jwksUri` are both given: an issuer's keys come from one place"),
        (Some(keys), None) => Some(KeySource::Inline(keys)),
        (None, Some(uri)) => Some(KeySource::JwksUri(uri)),
        (None, None) => Some(KeySource::Discovery),
    }
}

/// A key set as a YAML mapping, or as JSON in a string.
fn inline_keys(value: Value<'_>) -> Option<String> {
    let text = if value.is_mapping() {
        value.json()?.to_string()
    } else {
        value.string()?
    };
    match KeySet::parse(&text) {
        Ok(_) => Some(text),
        Err(error) => value.mistake(format!("expected a JSON Web Key Set: {error}")),
    }
}

/// Whether plain `http` may be followed is the operator's to say, where keys are fetched.
fn https_or_http(value: Value<'_>) -> Option<String> {
    let uri: http::Uri = value.parsed("a URL such as https://login.example.com/jwks")?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(_)) => value.string(),
        _ => value.expected("a URL such as https://login.example.com/jwks"),
    }
}

/// RFC 6750 §2.1.
fn bearer() -> TokenLocation {
    TokenLocation::Header {
        name: HeaderName::authorization(),
        prefix: "Bearer ".to_owned(),
    }
}

fn location(value: Value<'_>) -> Option<TokenLocation> {
    value.mapping(|fields| {
        let header = fields.optional("header", |v| v.parsed("a header such as authorization"));
        let prefix = fields.optional("prefix", Value::string_or_empty);
        let query = fields.optional("query", Value::string);
        let cookie = fields.optional("cookie", |v| v.parsed("a cookie such as session"));
        match (header?, query?, cookie?) {
            (Some(name), None, None) => Some(TokenLocation::Header {
                name,
                prefix: prefix?.unwrap_or_default(),
            }),
            (None, ..) if prefix?.is_some() => {
                value.mistake("`prefix` stands before a token in a header: missing field `header`")
            }
            (None, Some(name), None) => Some(TokenLocation::Query(name)),
            (None, None, Some(name)) => Some(TokenLocation::Cookie(name)),
            (None, None, None) => value.mistake("expected `header`, `query` or `cookie`"),
            _ => value.mistake(
                "`header`, `query` and `cookie` are places of their own: write an entry for each",
            ),
        }
    })
}

const CLAIM_HEADER: &str = "a header such as x-jwt-sub";

fn claim_headers(value: Value<'_>) -> Option<BTreeMap<ClaimHeader, String>> {
    let mut headers = BTreeMap::new();
    value.entries("claims", |name, value| {
        let claim = value.string();
        let name = match name.parse::<ClaimHeader>() {
            Ok(name) => name,
            Err(error) => {
                return value.mistake(format!("expected {CLAIM_HEADER}, got {name:?}: {error}"));
            }
        };
        if headers.insert(name, claim?).is_some() {
            return value.mistake("this header is given twice: upper and lower case are the same");
        }
        Some(())
    })?;
    Some(headers)
}

/// A header that is filled from a token is emptied of everything else: it cannot carry the token, or another claim, too.
pub(crate) fn told_apart(
    fields: &Fields<'_>,
    from: &[TokenLocation],
    claims: &BTreeMap<ClaimHeader, String>,
    payload: Option<&ClaimHeader>,
) -> Option<()> {
    if let Some(payload) = payload
        && claims.contains_key(payload)
    {
        return fields.value().mistake(format!(
            "{payload} is filled with all claims and with one: a header tells one thing"
        ));
    }
    let carries_token = |header: &&ClaimHeader| {
        from.iter().any(|place| {
            matches!(place, TokenLocation::Header { name, .. } if name.as_str() == header.as_str())
        })
    };
    match claims.keys().chain(payload).find(carries_token) {
        None => Some(()),
        Some(header) => fields.value().mistake(format!(
            "{header} carries the token: it cannot be filled with a claim, too"
        )),
    }
}

fn leeway(value: Value<'_>) -> Option<Duration> {
    let leeway = value.duration()?;
    if leeway > MAX_LEEWAY || leeway.subsec_millis() != 0 {
        return value.expected("whole seconds, at most 5m");
    }
    Some(leeway)
}
