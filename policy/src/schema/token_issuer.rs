//! `TokenIssuer`.

#![expect(dead_code, reason = "of these types there is only the schema")]

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::blocks::{List, Metadata, Target};
use super::text::{AlgorithmName, DurationText, Text, Url};
use super::{ApiVersion, kind};
use crate::pattern::{ClaimHeader, CookieName, HeaderName};

kind!(Kind, "TokenIssuer");

/// An issuer of JSON Web Tokens whose tokens are believed: by the workloads of its namespace, in `countersign-system` by
/// all.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TokenIssuer {
    /// `countersign.dev/v1`
    api_version: ApiVersion,
    /// `TokenIssuer`
    kind: Kind,
    /// Name and namespace.
    metadata: Metadata,
    /// What is believed.
    spec: Spec,
}

/// What is believed.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "TokenIssuerSpec", extend("not" = {"required": ["jwks", "jwksUri"]}))]
struct Spec {
    /// Whose calls may carry its tokens. Left out: those to all workloads of the namespace.
    target: Option<Target>,
    /// The claim `iss`, exactly. Without `jwks` and `jwksUri`, the keys are found by OpenID Connect discovery here.
    issuer: Text,
    /// A token has to be for one of these; `"*"` in the place of the list is any audience.
    audiences: Audiences,
    /// Accepted signature algorithms. Default: ES256, ES384, RS256, PS256, EdDSA.
    algorithms: Option<List<AlgorithmName>>,
    /// The keys, inline: a JSON Web Key Set, as YAML or as a string.
    jwks: Option<KeySet>,
    /// Where the keys are.
    jwks_uri: Option<Url>,
    /// Where a request carries the token. Default: `{header: authorization, prefix: "Bearer "}`.
    from: Option<List<Location>>,
    /// How far clocks may be apart: whole seconds, at most `5m`. Default: `30s`.
    leeway: Option<DurationText>,
    /// Whether the application gets the token, too. Default: `true`.
    forward: Option<bool>,
    /// Headers in which the application is told claims: name → dotted path of the claim.
    claim_headers: Option<ClaimHeaders>,
    /// A header in which the application is told all claims.
    payload_header: Option<ClaimHeader>,
}

/// For whom a token has to be.
#[derive(Debug)]
struct Audiences;

impl JsonSchema for Audiences {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Audiences".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"const": "*"}, List::<Text>::json_schema(generator)]})
    }
}

/// Headers by name.
#[derive(Debug)]
struct ClaimHeaders;

impl JsonSchema for ClaimHeaders {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ClaimHeaders".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": ClaimHeader::json_schema(generator),
            "additionalProperties": Text::json_schema(generator),
        })
    }
}

/// A JSON Web Key Set (RFC 7517 §5).
#[derive(Debug)]
struct KeySet;

impl JsonSchema for KeySet {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeySet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "minLength": 1},
            {
                "type": "object",
                "properties": {"keys": {"description": "JSON Web Keys.", "type": "array"}},
                "required": ["keys"],
            },
        ]})
    }
}

/// A place in a request where a token may be: a header, a parameter of the query, or a cookie.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    extend("oneOf" = [{"required": ["header"]}, {"required": ["query"]}, {"required": ["cookie"]}]),
    extend("dependencies" = {"prefix": ["header"]})
)]
struct Location {
    /// The name of a header.
    header: Option<HeaderName>,
    /// What stands before the token in the header, such as `"Bearer "`.
    prefix: Option<String>,
    /// The name of a parameter of the query.
    query: Option<Text>,
    /// The name of a cookie.
    cookie: Option<CookieName>,
}
