//! Reads a `RequestAuthentication`, each of whose rules is a [`TokenIssuer`].
//!
//! <https://istio.io/latest/docs/reference/config/security/request_authentication/>

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_identity::jwt::{Algorithm, KeySet};

use super::{Reader, metadata, selector};
use crate::document::{
    Document, KeySource, Metadata, Origin, Target, TokenIssuer, TokenLocation, origin, told_apart,
};
use crate::pattern::{ClaimHeader, HeaderName};
use crate::yaml::{Fields, Value};

/// How far clocks may be apart: what Envoy, which verifies tokens for Istio, has.
const LEEWAY: Duration = Duration::from_secs(60);
/// The claims that are lists of words, whatever a rule says.
const ALWAYS_WORDS: [&str; 2] = ["scope", "permission"];

pub(super) fn read(value: Value<'_>, reader: &Reader) -> Option<Vec<Document>> {
    value.mapping(|fields| {
        let header = metadata::read(fields, &reader.options);
        let spec = fields.nullable("spec", |value| value.mapping(|fields| spec(fields, reader)));
        let (metadata, (target, rules)) = (header?.metadata, spec?.unwrap_or_default());
        let several = rules.len() > 1;
        let issuers = rules.into_iter().zip(1_usize..).map(|(rule, number)| {
            let name = match several {
                true => numbered(value, &metadata, number)?,
                false => metadata.name.clone(),
            };
            let metadata = Metadata {
                namespace: metadata.namespace.clone(),
                name,
            };
            Some(Document::TokenIssuer(rule.issuer(metadata, target.clone())))
        });
        issuers.collect()
    })
}

fn numbered(value: Value<'_>, metadata: &Metadata, number: usize) -> Option<crate::pattern::Name> {
    let name = format!("{}-{number}", metadata.name);
    match name.parse() {
        Ok(name) => Some(name),
        Err(error) => value.mistake(format!(
            "{name:?}, as the rule is called, is no name: {error}"
        )),
    }
}

fn spec(fields: &mut Fields<'_>, reader: &Reader) -> Option<(Target, Vec<JwtRule>)> {
    let target = selector::read(fields);
    let rules = fields.nullable("jwtRules", |value| {
        value.list("rules", |value| {
            value.mapping(|fields| jwt_rule(fields, reader))
        })
    });
    Some((target?, rules?.unwrap_or_default()))
}

struct JwtRule {
    origin: Origin,
    issuer: String,
    audiences: Vec<String>,
    keys: KeySource,
    from: Vec<TokenLocation>,
    forward: bool,
    claim_headers: BTreeMap<ClaimHeader, String>,
    payload_header: Option<ClaimHeader>,
}

impl JwtRule {
    fn issuer(self, metadata: Metadata, target: Target) -> TokenIssuer {
        TokenIssuer {
            metadata,
            origin: self.origin,
            target,
            issuer: self.issuer,
            audiences: self.audiences,
            algorithms: Algorithm::ALL.to_vec(),
            keys: self.keys,
            from: self.from,
            leeway: LEEWAY,
            forward: self.forward,
            claim_headers: self.claim_headers,
            payload_header: self.payload_header,
        }
    }
}

fn jwt_rule(fields: &mut Fields<'_>, reader: &Reader) -> Option<JwtRule> {
    let value = fields.value();
    let issuer = fields.required("issuer", Value::string);
    let audiences = fields.default("audiences", Vec::new(), Value::strings);
    let keys = keys(fields);
    let from = locations(fields);
    let claim_headers = fields.default("outputClaimToHeaders", BTreeMap::new(), claim_headers);
    let payload_header = fields.optional("outputPayloadToHeader", |v| v.parsed(CLAIM_HEADER));
    let forward = fields.default("forwardOriginalToken", false, Value::bool);
    let timeout = fields.optional("timeout", |value| {
        reader.note(
            value,
            "how long a fetch of keys may take is the mesh's own configuration here",
        );
        value.text()
    });
    let words = fields.default("spaceDelimitedClaims", Vec::new(), |value| {
        value.list("claims", words)
    });
    timeout?;
    words?;
    let (from, claim_headers, payload_header) = (from?, claim_headers?, payload_header?);
    told_apart(fields, &from, &claim_headers, payload_header.as_ref())?;
    Some(JwtRule {
        origin: origin(value),
        issuer: issuer?,
        audiences: audiences?,
        keys: keys?,
        from,
        forward: forward?,
        claim_headers,
        payload_header,
    })
}

const CLAIM_HEADER: &str = "a header such as x-jwt-sub";

/// Where a token is looked for: if nothing is said, in `Authorization` and in the parameter `access_token` of the query
/// (RFC 6750 §2.1 and §2.3).
fn locations(fields: &mut Fields<'_>) -> Option<Vec<TokenLocation>> {
    let headers = fields.default("fromHeaders", Vec::new(), |value| {
        value.list("places", location)
    });
    let params = fields.default("fromParams", Vec::new(), Value::strings);
    let cookies = fields.default("fromCookies", Vec::new(), |value| {
        value.list("cookies", |v| v.parsed("a cookie such as session"))
    });
    let (headers, params, cookies) = (headers?, params?, cookies?);
    let given: Vec<TokenLocation> = headers
        .into_iter()
        .chain(params.into_iter().map(TokenLocation::Query))
        .chain(cookies.into_iter().map(TokenLocation::Cookie))
        .collect();
    Some(match given.is_empty() {
        true => vec![
            TokenLocation::Header {
                name: HeaderName::authorization(),
                prefix: "Bearer ".to_owned(),
            },
            TokenLocation::Query("access_token".to_owned()),
        ],
        false => given,
    })
}

fn location(value: Value<'_>) -> Option<TokenLocation> {
    value.mapping(|fields| {
        let name = fields.required("name", |v| v.parsed("a header such as authorization"));
        let prefix = fields.default("prefix", String::new(), Value::string_or_empty);
        Some(TokenLocation::Header {
            name: name?,
            prefix: prefix?,
        })
    })
}

fn claim_headers(value: Value<'_>) -> Option<BTreeMap<ClaimHeader, String>> {
    let mut headers = BTreeMap::new();
    value.list("headers", |value| {
        let (header, claim) = value.mapping(|fields| {
            let header = fields.required("header", |v| v.parsed(CLAIM_HEADER));
            let claim = fields.required("claim", Value::string);
            Some((header?, claim?))
        })?;
        match headers.insert(header, claim) {
            None => Some(()),
            Some(_) => {
                value.mistake("this header is given twice: upper and lower case are the same")
            }
        }
    })?;
    Some(headers)
}

fn keys(fields: &mut Fields<'_>) -> Option<KeySource> {
    let inline = fields.default("jwks", None, |value| {
        let text = value.string_or_empty()?;
        if text.is_empty() {
            return Some(None);
        }
        match KeySet::parse(&text) {
            Ok(_) => Some(Some(text)),
            Err(error) => value.mistake(format!("expected a JSON Web Key Set: {error}")),
        }
    });
    // The API has both spellings.
    let uris = ["jwksUri", "jwks_uri"].map(|name| fields.optional(name, url));
    let [uri, other] = uris;
    match (inline?, uri?.or(other?)) {
        (Some(_), Some(_)) => fields
            .value()
            .mistake("`jwks` and `jwksUri` are both given: an issuer's keys come from one place"),
        (Some(keys), None) => Some(KeySource::Inline(keys)),
        (None, Some(uri)) => Some(KeySource::JwksUri(uri)),
        (None, None) => Some(KeySource::Discovery),
    }
}

fn url(value: Value<'_>) -> Option<String> {
    let example = "a URL such as https://login.example.com/jwks";
    let uri: http::Uri = value.parsed(example)?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(_)) => value.string(),
        _ => value.expected(example),
    }
}

fn words(value: Value<'_>) -> Option<()> {
    match value.text()? {
        name if ALWAYS_WORDS.contains(&name) => Some(()),
        name => value.mistake(format!(
            "the claim {name:?} cannot be taken for a list of words: only {} are",
            ALWAYS_WORDS.join(" and ")
        )),
    }
}
