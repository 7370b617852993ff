//! Reads a `TokenIssuer` from YAML.

use std::time::Duration;

use countersign_identity::jwt::{Algorithm, KeySet};

use super::parse::{header, origin};
use super::token_issuer::{KeySource, TokenIssuer, TokenLocation};
use super::{Target, target};
use crate::yaml::{Fields, Value};

const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
/// More would make a token that has expired a token that is valid.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

pub(super) fn read(value: Value<'_>) -> Option<TokenIssuer> {
    value.mapping(|fields| {
        let metadata = header(fields);
        let spec = fields.required("spec", |value| value.mapping(spec));
        let (metadata, spec) = (metadata?, spec?);
        Some(TokenIssuer {
            metadata,
            origin: origin(value),
            target: spec.target,
            issuer: spec.issuer,
            audiences: spec.audiences,
            algorithms: spec.algorithms,
            keys: spec.keys,
            from: spec.from,
            leeway: spec.leeway,
            forward: spec.forward,
        })
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
}

fn spec(fields: &mut Fields<'_>) -> Option<Spec> {
    let target = fields.default("target", Target::default(), target::read);
    let issuer = fields.required("issuer", Value::string);
    let audiences = fields.required("audiences", |v| {
        v.non_empty_list("audiences", Value::string)
    });
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
    Some(Spec {
        target: target?,
        issuer: issuer?,
        audiences: audiences?,
        algorithms: algorithms?,
        keys: keys?,
        from: from?,
        leeway: leeway?,
        forward: forward?,
    })
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
    TokenLocation {
        header: crate::pattern::HeaderName::authorization(),
        prefix: "Bearer ".to_owned(),
    }
}

fn location(value: Value<'_>) -> Option<TokenLocation> {
    value.mapping(|fields| {
        let header = fields.required("header", |v| v.parsed("a header such as authorization"));
        let prefix = fields.default("prefix", String::new(), Value::string_or_empty);
        Some(TokenLocation {
            header: header?,
            prefix: prefix?,
        })
    })
}

fn leeway(value: Value<'_>) -> Option<Duration> {
    let leeway = value.duration()?;
    if leeway > MAX_LEEWAY || leeway.subsec_millis() != 0 {
        return value.expected("whole seconds, at most 5m");
    }
    Some(leeway)
}
