//! `TokenIssuer`: whose tokens are believed.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_identity::jwt::Algorithm;
use serde::{Deserialize, Serialize};

use super::{Metadata, Origin, Target, seconds};
use crate::pattern::{ClaimHeader, CookieName, HeaderName, find_claim};

/// An issuer of JSON Web Tokens, and where a request carries them. It concerns the workloads of its
/// namespace; in the root namespace, those of the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenIssuer {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Where the document starts.
    pub origin: Origin,
    /// Whose calls may carry its tokens.
    pub target: Target,
    /// The claim `iss`, exactly (RFC 7519 §4.1.1).
    pub issuer: String,
    /// A token has to be for one of these (RFC 7519 §4.1.3); none is any audience, which is written `"*"`.
    pub audiences: Vec<String>,
    /// The signature algorithms that are accepted. At least one.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Where a request carries a token; at least one place.
    pub from: Vec<TokenLocation>,
    /// How far clocks may be apart.
    #[serde(rename = "leewaySeconds", with = "seconds")]
    pub leeway: Duration,
    /// Whether the application gets the token, too.
    pub forward: bool,
    /// Headers in which the application is told claims: by their names, dotted paths of claims.
    pub claim_headers: BTreeMap<ClaimHeader, String>,
    /// The header in which the application is told all claims, in base64url as they are in the token (RFC 7519 §3).
    pub payload_header: Option<ClaimHeader>,
}

impl TokenIssuer {
    /// The headers that only a token of this issuer may fill: whatever a caller sends in them is removed.
    pub fn told_headers(&self) -> impl Iterator<Item = &ClaimHeader> {
        self.claim_headers.keys().chain(&self.payload_header)
    }

    /// The claim at a dotted path, `realm_access.roles`. A claim whose own name is the whole path is preferred.
    #[must_use]
    pub fn claim<'c>(
        claims: &'c serde_json::Map<String, serde_json::Value>,
        path: &str,
    ) -> Option<&'c serde_json::Value> {
        find_claim(claims, path)
    }
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeySource {
    /// OpenID Connect discovery at the issuer (OpenID Connect Discovery 1.0 §4).
    Discovery,
    /// A JSON Web Key Set at this URL.
    JwksUri(String),
    /// This JSON Web Key Set (RFC 7517 §5), as JSON text.
    Inline(String),
}

/// A place in a request where a token may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TokenLocation {
    /// A header.
    Header {
        /// Its name.
        name: HeaderName,
        /// What stands before the token in the header's value; may be empty.
        prefix: String,
    },
    /// The parameter of the query that has this name, which is not percent-encoded here.
    Query(String),
    /// A cookie.
    Cookie(CookieName),
}
