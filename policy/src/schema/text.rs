//! What a string in a field has to look like. A pattern lets in all that the type reads, and of the rest leaves out what
//! can be left out by a pattern.

use std::borrow::Cow;

use countersign_identity::jwt::Algorithm;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::pattern::{
    Cidr, ClaimHeader, ClaimValue, CookieName, HeaderName, HostPattern, Method, Name, PathPattern,
    SpiffePattern, TrustDomainPattern, WorkloadPattern,
};

/// A string that is not empty.
#[derive(Debug)]
pub(super) struct Text;

/// The name of a rule.
#[derive(Debug)]
pub(super) struct RuleName;

/// A whole number and a unit.
#[derive(Debug)]
pub(super) struct DurationText;

/// A scope of a transaction token (RFC 6749 §3.3).
#[derive(Debug)]
pub(super) struct Scope;

/// Where to fetch something.
#[derive(Debug)]
pub(super) struct Url;

/// A URL that proves whom it leads to.
#[derive(Debug)]
pub(super) struct HttpsUrl;

/// Who asked for a transaction token.
#[derive(Debug)]
pub(super) struct Requester;

/// A called port, as a key.
#[derive(Debug)]
pub(super) struct PortKey;

/// One SPIFFE ID.
#[derive(Debug)]
pub(super) struct Id;

/// One trust domain.
#[derive(Debug)]
pub(super) struct DomainName;

/// A signature algorithm.
#[derive(Debug)]
pub(super) struct AlgorithmName;

macro_rules! text {
    ($($type:ty: $pattern:expr, [$($example:expr),*];)*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "examples": [$($example),*]})
            }
        }
    )*};
}

text! {
    Name: r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,253}$", ["orders"];
    Method: "^[A-Z-]+$", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    HeaderName: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", ["x-tenant"];
    ClaimHeader: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", ["x-jwt-sub"];
    CookieName: "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", ["session"];
    HostPattern: r"^((\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])$", ["orders.shop", "*.example.com"];
    PathPattern: r"^/[^?#]*$", ["/orders/{id}", "/orders/**"];
    WorkloadPattern: r"^(\*|[A-Za-z0-9._-]{1,253})/(\*|[A-Za-z0-9._-]{1,253})$", ["shop/web", "shop/*"];
    SpiffePattern: r"^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)*(/\*\*)?$", ["spiffe://shop.example/ns/shop/**"];
    Id: r"^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)*$", ["spiffe://partner.example/bundle"];
    DomainName: r"^[a-z0-9._-]{1,255}$", ["partner.example"];
    TrustDomainPattern: r"^(\*|[a-z0-9._-]{1,255})$", ["partner.example", "*"];
    Cidr: "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$", ["10.0.0.0/8", "2001:db8::/32"];
    Scope: r"^[!#-\[\]-~]+$", ["orders.create"];
    Requester: r"^(spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)*(/\*\*)?|(\*|[A-Za-z0-9._-]{1,253})/(\*|[A-Za-z0-9._-]{1,253}))$", ["shop/gateway"];
    DurationText: "^[0-9]+(ms|s|m|h)$", ["30s", "5m"];
    Url: "^[Hh][Tt][Tt][Pp][Ss]?://.+$", ["https://login.example.com/jwks"];
    HttpsUrl: "^[Hh][Tt][Tt][Pp][Ss]://.+$", ["https://partner.example/bundle"];
    PortKey: r"^\+?[0-9]+$", ["8080"];
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1})
    }
}

impl JsonSchema for RuleName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RuleName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$",
            "maxLength": 200,
        })
    }
}

impl JsonSchema for AlgorithmName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AlgorithmName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut names: Vec<&str> = Algorithm::ALL.map(Algorithm::name).to_vec();
        // The name that RFC 9864 has for EdDSA with this curve.
        names.push("Ed25519");
        json_schema!({"enum": names})
    }
}

impl JsonSchema for ClaimValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ClaimValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer", "boolean"]})
    }
}
